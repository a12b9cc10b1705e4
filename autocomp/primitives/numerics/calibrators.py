"""Calibrates the range of a tensor from samples of it: extremes, percentiles, least squared error, least KL
divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .quantizers import ActivationQuantizer, fit_activation, quantizer_of_range

Calibration = Literal["mse", "minmax", "percentile", "kl"]
CALIBRATIONS: tuple[Calibration, ...] = ("mse", "minmax", "percentile", "kl")
PERCENTILE = 99.99  # of the values, between the bounds
SAMPLES = 200_000
BINS = 2048  # of the histogram of magnitudes
CANDIDATES = 64  # clippings that KL tries


@dataclass(frozen=True)
class Seen:
    """Statistics of a tensor: its lowest and highest value, with zero between them, and some of its values at random,
    (n,)."""

    low: float
    high: float
    values: np.ndarray


def seen_in(parts: Sequence[np.ndarray], seed: int = 0) -> Seen:
    """parts: arrays of the tensor's values, of any shapes."""
    low = min(0.0, *(float(part.min()) for part in parts))
    high = max(0.0, *(float(part.max()) for part in parts))
    return Seen(low, high, _sampled(parts, np.random.default_rng(seed)))


def fit_range(
    parts: Sequence[np.ndarray], bits: int, method: Calibration = "mse", seed: int = 0
) -> ActivationQuantizer:
    """The quantizer of a tensor from arrays of its values, of any shapes; see :func:`range_of`."""
    return range_of(seen_in(parts, seed), bits, method)


def range_of(seen: Seen, bits: int, method: Calibration = "mse") -> ActivationQuantizer:
    """The quantizer of a tensor.

    method: "minmax": all values (Jacob et al. 2018); "percentile": 99.99 % of them (McKinstry et al. 2018); "mse": the
        least squared error (Banner et al. 2019); "kl": the least divergence of the histogram (Migacz, TensorRT 2017).
    """
    if method not in CALIBRATIONS:
        raise ValueError(f"calibration must be one of {', '.join(CALIBRATIONS)}, but got {method!r}")
    low, high, values = seen.low, seen.high, seen.values
    if method == "mse":
        return fit_activation(values, low, high, bits)
    if method == "percentile":
        bounds = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
        low, high = min(float(bounds[0]), 0.0), max(float(bounds[1]), 0.0)
    elif method == "kl":
        most = _least_divergence(np.abs(values), 2**bits // 2 if low < 0 else 2**bits)
        low, high = max(low, -most), min(high, most)
    return quantizer_of_range(low, high, bits)


def _sampled(parts: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    share = -(-SAMPLES // len(parts))
    return np.concatenate([rng.choice(part.reshape(-1), min(part.size, share), replace=False) for part in parts])


def _least_divergence(magnitudes: np.ndarray, levels: int) -> float:
    """The magnitude at which the tensor is clipped."""
    top = float(magnitudes.max(initial=0))
    if top <= 0:
        return 0.0
    counts = np.histogram(magnitudes, BINS, (0, top))[0].astype(np.float64)
    counts[0] = 0  # exact zeros stay exact at any clipping
    clippings = np.unique(np.linspace(min(levels, BINS), BINS, CANDIDATES).astype(int))
    found = [_divergence(counts, int(end), levels) for end in clippings]
    return top * float(clippings[int(np.argmin(found))]) / BINS


def _divergence(counts: np.ndarray, end: int, levels: int) -> float:
    """KL(clipped || clipped and spread over the levels), nats."""
    p = counts[:end].copy()
    p[-1] += counts[end:].sum()
    inside = counts[:end]
    group = np.minimum(np.arange(end) * levels // end, levels - 1)
    filled = inside > 0
    total = np.bincount(group, inside, levels)
    places = np.bincount(group, filled, levels)
    q = np.where(filled, total[group] / np.maximum(places[group], 1), 0)
    p, q = p / max(p.sum(), 1e-12), q / max(q.sum(), 1e-12)
    both = p > 0
    return float((p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))).sum())
