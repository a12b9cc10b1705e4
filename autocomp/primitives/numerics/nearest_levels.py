"""Finds the scale with which a few given levels fit a weight best."""

from __future__ import annotations

import numpy as np

from .quantizers import LEAST_SCALE, QuantizedWeight


def odd_levels(bits: int) -> np.ndarray:
    """-2^bits + 1, ..., -1, 1, ..., 2^bits - 1: in halves of a scale, 2^bits levels, symmetric around zero."""
    return np.arange(-(2**bits) + 1, 2**bits, 2)


def nearest_halves(weight: np.ndarray, bits: int) -> QuantizedWeight:
    """Each weight (out, ...) rounded to the nearest of the odd levels, with the scale of the least squared error."""
    levels = odd_levels(bits)
    scale = best_scale(weight, levels)
    odd = 2 * np.clip(np.floor(weight / scale / 2), -len(levels) // 2, len(levels) // 2 - 1) + 1
    return QuantizedWeight(odd.astype(np.int8), scale.reshape(-1), bits, odd=True)


def best_scale(weight: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(out, 1, ...) float32: the scale of the least squared error; nearest levels and their best scale are computed in
    turn."""
    rows = weight.reshape(len(weight), -1)
    top = float(levels[-1])
    best, error = np.ones((len(rows), 1)), np.full(len(rows), np.inf)
    for ratio in (0.3, 0.5, 0.7, 1.0):
        scale = np.maximum(np.abs(rows).max(1, keepdims=True) * ratio / top, LEAST_SCALE)
        for _ in range(8):
            nearest = levels[np.abs(rows[:, :, None] / scale[:, :, None] - levels).argmin(2)]
            fitted = (rows * nearest).sum(1, keepdims=True) / np.maximum(
                (nearest**2).sum(1, keepdims=True), LEAST_SCALE
            )
            scale = np.where(fitted > LEAST_SCALE, fitted, scale)
        found = ((rows - nearest * scale) ** 2).sum(1)
        best = np.where((found < error)[:, None], scale, best)
        error = np.minimum(found, error)
    return best.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
