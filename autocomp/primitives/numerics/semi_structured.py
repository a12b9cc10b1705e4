"""2:4 sparsity: two zeros in every four weights that are neighbours along a layer's input channels, for each tap.

NVIDIA's sparse tensor cores from Ampere on multiply such weights (Mishra et al. 2021, arXiv:2104.08378). With the
Hessian of the layer's input the zeros are chosen one group of four after the other, and the weights that are left
compensate them (Frantar and Alistarh, "SparseGPT", ICML 2023, section 3). Then all of them move to the least-squares
solution for these zeros.
"""

from __future__ import annotations

import math

import numpy as np

FOUR, KEPT = 4, 2
STEPS = 20  # of conjugate gradients
RIDGES = (1e-6, 1e-3, 1.0)  # in means of the Hessian's diagonal: the first with which it can be factorised is used


def two_of_four(weight: np.ndarray, input_norms: np.ndarray | None = None) -> np.ndarray:
    """The weight (out, in, ...) with the smallest two of every four along ``in`` zero; of equal ones the later.

    Of a last group of fewer than four inputs, two stay. input_norms: (in,) root mean squares of the input's channels,
    by which magnitudes are weighed (Sun et al., "Wanda", ICLR 2024).
    """
    size = np.abs(weight)
    if input_norms is not None:
        size = size * input_norms.reshape(1, -1, *[1] * (weight.ndim - 2))
    kept = np.moveaxis(_largest(np.moveaxis(size, 1, -1)), -1, 1)
    return np.where(kept, weight, np.float32(0))


def compensated(weight: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """The weight (out, in / groups, ...) with two zeros in every four, for the least error of the layer's output.

    hessian: (groups, k, k), moments of the patches that a row is multiplied with.
    """
    groups, width = hessian.shape[:2]
    taps = math.prod(weight.shape[2:])
    order = np.arange(width).reshape(-1, taps).T.reshape(-1)  # the input channels of a tap follow one another
    rows = weight.reshape(groups, -1, width)[:, :, order].astype(np.float64)
    found = np.stack([_solved(*one, width // taps) for one in zip(rows, hessian[:, order][:, :, order], strict=True)])
    back = np.empty_like(found)
    back[:, :, order] = found
    return back.reshape(weight.shape).astype(np.float32)


def _solved(rows: np.ndarray, moment: np.ndarray, channels: int) -> np.ndarray:
    """rows: (out, k); moment: (k, k); channels: the numbers of a tap."""
    kept = _chosen(rows, moment, channels)
    found = np.where(kept, rows, 0.0)
    residual = np.where(kept, (rows - found) @ moment, 0.0)
    direction, square = residual, (residual**2).sum(1, keepdims=True)
    for _ in range(STEPS):
        seen = np.where(kept, direction @ moment, 0.0)
        curvature = (direction * seen).sum(1, keepdims=True)
        step = np.divide(square, curvature, out=np.zeros_like(square), where=curvature > 0)
        found, residual = found + step * direction, residual - step * seen
        before, square = square, (residual**2).sum(1, keepdims=True)
        direction = residual + np.divide(square, before, out=np.zeros_like(square), where=before > 0) * direction
    return found


def _chosen(rows: np.ndarray, moment: np.ndarray, channels: int) -> np.ndarray:
    """(out, k) bool: which weights stay; each group's choice knows how the weights after it compensate those before."""
    upper = _factor(moment)
    diagonal = np.diagonal(upper)
    error, kept = np.zeros_like(rows), np.ones(rows.shape, bool)
    for start, stop in _fours(rows.shape[1], channels):
        wanted = rows[:, start:stop] - error[:, :start] @ (upper[:start, start:stop] / diagonal[start:stop])
        kept[:, start:stop] = _largest(np.abs(wanted) * diagonal[start:stop])
        for j in range(start, stop):
            target = rows[:, j] - error[:, :j] @ upper[:j, j] / diagonal[j]
            error[:, j] = np.where(kept[:, j], target, 0.0) - rows[:, j]
    return kept


def _factor(moment: np.ndarray) -> np.ndarray:
    """(k, k) upper triangular U with U U^T = moment, as far as it can be factorised; else the root of its diagonal."""
    mean = max(float(np.trace(moment)) / len(moment), 1e-12)
    for ridge in RIDGES:
        try:
            return np.linalg.cholesky((moment + ridge * mean * np.eye(len(moment)))[::-1, ::-1])[::-1, ::-1]
        except np.linalg.LinAlgError:
            continue
    return np.diag(np.sqrt(np.maximum(np.diagonal(moment), 1e-12)))


def _fours(width: int, channels: int) -> list[tuple[int, int]]:
    """The groups of at most four within the channels of each tap."""
    taps = range(0, width, channels)
    return [(i, min(i + FOUR, tap + channels)) for tap in taps for i in range(tap, tap + channels, FOUR)]


def _largest(size: np.ndarray) -> np.ndarray:
    """(..., in) bool: the two largest of every four on the last axis, of equal ones the first."""
    missing = -size.shape[-1] % FOUR
    padded = np.concatenate((size, np.full((*size.shape[:-1], missing), -1.0)), -1)
    fours = padded.reshape(-1, FOUR)
    order = np.argsort(-fours, axis=1, kind="stable")
    kept = np.zeros(fours.shape, bool)
    np.put_along_axis(kept, order[:, :KEPT], True, axis=1)
    return kept.reshape(padded.shape)[..., : size.shape[-1]]
