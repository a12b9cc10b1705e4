"""Scales that move between a layer's input and its weight: (x / s) (W s)^T = x W^T, one number for each input channel.
A shift moves, too: ((x - z) / s) (W s)^T + z W^T = x W^T.

* SmoothQuant (Xiao et al., ICML 2023, eq. 4): s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), so that an 8-bit range of
  the input is not spent on a few channels with outliers.
* AWQ (Lin et al., MLSys 2024, eq. 4 and 5): s_j = mean|x_j|^ratio, normalised; weights that are multiplied with large
  inputs are rounded on a finer grid.
* Outlier Suppression+ (Wei et al., EMNLP 2023, arXiv:2304.09145): z_j = (max x_j + min x_j) / 2 centres each channel,
  and s_j = max(1, max|x_j - z_j| / t) divides those beyond a threshold t alone.

The exponent, or the threshold, is searched for the least error of the outputs of all layers that read the tensor,
relative to each row's own outputs: some tokens of a language model have activations a thousand times those of others
(Sun et al., "Massive activations in large language models", 2024), and would else decide alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autocomp.search_spaces import FLOAT_BITS

from .calibrators import Calibration, fit_range
from .quantizers import LEAST_SCALE
from .weight_grids import fit_grid, parts_of

ALPHAS = tuple(np.linspace(0.0, 0.9, 10).round(2))  # 0: the weights alone decide; 0.5: the paper's usual value
THRESHOLDS = tuple(np.geomspace(1.0, 0.01, 11).round(4))  # of the largest magnitude of a centred channel; 1: no scales
RATIOS = tuple(np.linspace(0.0, 0.95, 20).round(2))
LEAST = 1e-5  # of a magnitude that divides
COMPARED = 128  # outputs of a layer, at most, whose errors scales are compared by
Rounding = Callable[[np.ndarray], np.ndarray]  # of a weight, (out, in)


def migration_scales(inputs: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """inputs, weights: (in,), the largest magnitudes of each input channel, and of the weights that read it; the scales
    (in,) have the geometric mean 1. 1 for a channel that is always zero."""
    used = (inputs > 0) & (weights > 0)
    peaks, reads = np.maximum(inputs, LEAST), np.maximum(weights, LEAST)
    return _centred(peaks**alpha / reads ** (1 - alpha), used)


def activation_scales(magnitudes: np.ndarray, ratio: float) -> np.ndarray:
    """magnitudes: (in,), the mean magnitude of each input channel; the scales (in,) have the geometric mean 1."""
    return _centred(np.maximum(magnitudes, LEAST) ** ratio, magnitudes > 0)


def _centred(scales: np.ndarray, used: np.ndarray) -> np.ndarray:
    logs = np.log(scales.astype(np.float64))
    centre = logs[used].mean() if used.any() else 0.0
    return np.where(used, np.exp(logs - centre), 1.0).astype(np.float32)


def best_migration(
    weights: Sequence[np.ndarray],
    rows: np.ndarray,
    peaks: np.ndarray,
    bits: tuple[int, int],
    calibration: Calibration = "mse",
    alpha: float | None = None,
    dynamic: bool = False,
) -> tuple[np.ndarray, float]:
    """The scales, (in,), of the layers that read a tensor, and their alpha.

    weights: (out, in) each. rows: (n, in), samples of the tensor. peaks: (in,), its largest magnitudes. bits: of
        weights and of inputs, 32 for none. alpha: of the scales; None: the one with the least error, where 1 stands for
        no scales at all if that is best. dynamic: whether each row of inputs has a range of its own.
    """
    reads = np.max([np.abs(weight).max(0) for weight in weights], axis=0)
    if alpha is not None or bits[1] == FLOAT_BITS:
        return migration_scales(peaks, reads, 0.5 if alpha is None else alpha), 0.5 if alpha is None else alpha
    tried = {value: migration_scales(peaks, reads, value) for value in ALPHAS}
    tried[1.0] = np.ones(len(peaks), np.float32)
    errors = MigrationErrors(weights, rows, bits, calibration, dynamic)
    best = min(tried, key=lambda value: errors(tried[value]))
    return tried[best], best


def suppression_scales(peaks: np.ndarray, share: float) -> np.ndarray:
    """peaks: (in,), the largest magnitudes of each centred channel; share: of the largest of them, the threshold."""
    limit = max(share * float(peaks.max()), LEAST)
    return np.maximum(peaks / limit, 1).astype(np.float32)


def best_suppression(
    weights: Sequence[np.ndarray],
    rows: np.ndarray,
    extremes: tuple[np.ndarray, np.ndarray],
    bits: tuple[int, int],
    calibration: Calibration = "mse",
    share: float | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The shift and the scales, (in,) each, of the layers that read a tensor, and the threshold as a share of the
    largest magnitude of a centred channel.

    extremes: (in,) each, the least and the largest value of each channel. share: the threshold; None: the one with the
        least error, with the shift or without it. The other arguments are those of :func:`best_migration`.
    """
    low, high = extremes
    shift, none = ((low + high) / 2).astype(np.float32), np.zeros_like(low)
    if share is not None or bits[1] == FLOAT_BITS:
        share = 0.5 if share is None else share
        return shift, suppression_scales((high - low) / 2, share), share
    errors, reach = MigrationErrors(weights, rows, bits, calibration), np.maximum(np.abs(low), np.abs(high))
    tried = [(some, peaks, share) for some, peaks in ((none, reach), (shift, (high - low) / 2)) for share in THRESHOLDS]
    found, peaks, best = min(tried, key=lambda one: errors(suppression_scales(one[1], one[2]), one[0]))
    return found, suppression_scales(peaks, best), best


def compared_outputs(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of each weight, (out, in), evenly spread rows, at most 128: the same for all scales that are compared."""
    return [weight[np.linspace(0, len(weight) - 1, min(len(weight), COMPARED)).astype(int)] for weight in weights]


class MigrationErrors:
    """The error of outputs of the layers that read a tensor, whose weights and input are rounded with scales; the
    arguments are those of :func:`best_migration`."""

    def __init__(
        self,
        weights: Sequence[np.ndarray],
        rows: np.ndarray,
        bits: tuple[int, int],
        calibration: Calibration = "mse",
        dynamic: bool = False,
        group: int | None = None,
    ) -> None:
        """group: so many inputs of an output share a scale; None: all."""
        self.parts = parts_of(rows.shape[1], group)
        self.weights, self.rows, self.bits = compared_outputs(weights), rows, bits
        self.calibration, self.dynamic = calibration, dynamic
        self.wanted = [rows @ weight.T for weight in self.weights]

    def __call__(self, scales: np.ndarray, shift: np.ndarray | None = None) -> float:
        """scales, shift: (in,)."""
        x = (self.rows if shift is None else self.rows - shift) / scales
        if self.bits[1] < FLOAT_BITS:
            bits = self.bits[1]
            x = rounded_rows(x, bits) if self.dynamic else fit_range([x], bits, self.calibration)(x)
        found = [x @ _nearest(weight * scales, self.bits[0], self.parts).T for weight in self.weights]
        if shift is not None:
            found = [mine + weight @ shift for mine, weight in zip(found, self.weights, strict=True)]
        return sum(_relative(mine - true, true) for mine, true in zip(found, self.wanted, strict=True))


def rounded_rows(rows: np.ndarray, bits: int) -> np.ndarray:
    """Each row, (n, in), with the scale of its own largest magnitude, symmetric."""
    top = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(rows).max(1, keepdims=True) / top, LEAST_SCALE)
    return np.asarray(np.rint(rows / scale) * scale)


def _relative(change: np.ndarray, wanted: np.ndarray) -> float:
    """The mean over rows, (n, out), of the squared change over the squared outputs."""
    squares = (wanted**2).sum(1)
    return float(((change**2).sum(1) / np.maximum(squares, 1e-6 * squares.mean() + LEAST**2)).mean())


def _nearest(weight: np.ndarray, bits: int, parts: int = 1) -> np.ndarray:
    return weight if bits == FLOAT_BITS else fit_grid(weight, bits, parts).nearest(weight)


def best_activation_scales(
    weights: Sequence[np.ndarray], rows: np.ndarray, magnitudes: np.ndarray, rounding: Rounding
) -> tuple[np.ndarray, float]:
    """The scales, (in,), of the layers that read a tensor, and their ratio, for weights that are rounded alone.

    weights: (out, in) each. rows: (n, in), samples of the tensor. magnitudes: (in,), its mean magnitudes.
    """
    weights = compared_outputs(weights)
    wanted = [rows @ weight.T for weight in weights]

    def error(ratio: float) -> float:
        scales = activation_scales(magnitudes, ratio)
        changes = [rows @ (rounding(weight * scales) / scales - weight).T for weight in weights]
        return sum(_relative(change, true) for change, true in zip(changes, wanted, strict=True))

    best = min(RATIOS, key=error)
    return activation_scales(magnitudes, best), best
