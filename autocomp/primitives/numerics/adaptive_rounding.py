"""Rounds each weight up or down for the least error of the layer's output (AdaRound).

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (ICML 2020), eq. 13 and 20: the error that
a rounding W' makes in the layer's output is, one row at a time,

    E|(w' - w) x|^2 = (w' - w) H (w' - w)^T,    H = E[x x^T],

a quadratic problem over integers. It is solved here by

1. sequential rounding, as in GPTQ (Frantar et al., ICLR 2023): with H = R R^T, R upper triangular, each weight is
   rounded so that it compensates the errors of the ones before it, those with the largest E[x^2] first. This is done
   for several scales at once, and each row uses its best one;
2. twice: the scale that fits the integers best, s = w H q^T / (q H q^T), and a pass of coordinate descent over them.

All rows and groups are solved together. It was compared with, among others, the paper's relaxation: a rectified sigmoid
for each weight, its regulariser's exponent annealed from 20 to 2, 1,000 steps of Adam (the paper takes 10,000), with
the regulariser's weight that was best of 0.0001 to 10 on the quick start's network at 4 bits. The table has the
remaining error divided by that of rounding to nearest, as the geometric mean over all layers that are not depthwise,
and the seconds for all of them together at 4 bits on one core:

                                                quick start's network     ResNet-20 for CIFAR-10
                                                4 bits  2 bits  seconds   4 bits  2 bits  seconds
    relaxation                                   0.51    0.89    12.7      0.53    0.83    12.9
    coordinate descent from nearest, 10 passes   0.39    0.37     0.4      0.42    0.39     0.6
    sequential, one scale                        0.32    0.50     0.1      0.35    0.45     0.1
    sequential, one scale, 2 passes of descent   0.31    0.36     0.2      0.34    0.38     0.2
    this                                         0.29    0.26     0.3      0.32    0.30     0.4

A layer of 512 x 4,608 weights takes 9 seconds of one core, 2 seconds with ``quick``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .nearest_levels import nearest_halves
from .quantizers import QuantizedWeight, quantize_weight

RATIOS, PASSES = (0.8, 0.9, 1.0, 1.1, 1.25), 2  # of the scale of rounding to nearest; passes of coordinate descent
WIDE = 1152  # numbers in a row; a wider layer gets one ratio and one pass: its time is arithmetic, not overhead
BLOCK = 64  # columns between two matrix products
RIDGES = (1e-6, 1e-4, 1e-2, 1.0)  # added, in means of H's diagonal: the first with which H can be factorised is used


def adaptive_rounding(
    weight: np.ndarray,
    bits: int,
    hessian: np.ndarray,
    quick: bool = False,
    halves: bool = False,
    keeps_zeros: bool = False,
) -> QuantizedWeight:
    """Round a weight (out, in / groups, ...) to 2^bits - 1 levels per output channel, for the least output error.

    hessian: E[x x^T] of the patches x that a row is multiplied with, (k, k), or (groups, k, k) for a grouped
        convolution, whose rows are in the order of their groups. With a covariance the error is the output's variance.
    quick: only coordinate descent from rounding to nearest, in a third of the time for a wide layer.
    halves: 2^bits levels instead, symmetric around zero and without zero, from 1 bit: the odd integers of half the
        scale.
    keeps_zeros: whether weights that are zero stay zero; not with ``halves``.

    No row's error is above that of :func:`quantize_weight` or :func:`nearest_halves`, which is also the result where
    numbers are not finite.
    """
    nearest = nearest_halves(weight, bits) if halves else quantize_weight(weight, bits)
    moment = _checked(weight, hessian)
    if not weight.size or not np.isfinite(moment).all() or not np.isfinite(weight).all():
        return nearest
    groups, width = moment.shape[:2]
    top, unit = 2 ** (bits - 1) - 1, 2 if halves else 1  # unit: integers in one step of the solver's levels
    free = _columns(weight != 0, groups, width) if keeps_zeros and not halves else None
    solver = _Solver(moment, -top - 1 if halves else -top, top, 0.5 if halves else 0, free)
    target, usual = _columns(weight, groups, width), _columns(nearest.integers, groups, width) / unit
    usual_scale = unit * nearest.scale.reshape(groups, 1, -1).astype(np.float64)
    start = (usual, usual_scale) if quick else solver.start(target, usual_scale)
    levels, scale = solver.improve(target, *(start or (usual, usual_scale)))
    scale = scale.astype(np.float32)
    better = solver.better(levels * scale - target, usual * usual_scale - target) & (scale[:, 0] > 0)
    mine = better.reshape(-1, *[1] * (weight.ndim - 1))
    integers = (unit * levels).transpose(0, 2, 1).reshape(weight.shape).astype(np.int8)
    scales = np.where(better.reshape(-1), scale.reshape(-1) / unit, nearest.scale)
    return replace(nearest, integers=np.where(mine, integers, nearest.integers), scale=scales)


def _checked(weight: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """(groups, k, k) float64, each with mean diagonal 1; the identity for a group without any input."""
    moment = np.asarray(hessian, np.float64)
    moment = moment.reshape(-1, *moment.shape[-2:])
    groups, width = len(moment), moment.shape[-1]
    if moment.shape[1] != width or len(weight) % groups or weight.size != len(weight) * width:
        raise ValueError(
            "hessian must be (k, k) or (groups, k, k) for a weight of k numbers a row, in groups of equally many "
            f"rows, but got {hessian.shape} for a weight of shape {weight.shape}"
        )
    size = np.trace(moment, axis1=1, axis2=2)[:, None, None] / width
    return np.where(size > 0, moment / np.where(size > 0, size, 1), np.eye(width))


def _columns(rows: np.ndarray, groups: int, width: int) -> np.ndarray:
    """(groups, k, rows of a group) float64: the numbers of a column are contiguous."""
    return np.ascontiguousarray(rows.reshape(groups, -1, width).transpose(0, 2, 1), np.float64)


def error_coupling(moment: np.ndarray, order: np.ndarray) -> np.ndarray | None:
    """[g, j, i] = R_ij / R_jj in the order of rounding, (groups, k): how much the j-th weight compensates of the i-th
    weight's error. moment: (groups, k, k). None where it cannot be factorised."""
    back, width = order[:, ::-1], moment.shape[-1]
    reordered = np.take_along_axis(np.take_along_axis(moment, back[:, :, None], 1), back[:, None, :], 2)
    for ridge in RIDGES:
        try:
            lower = np.linalg.cholesky(reordered + ridge * np.eye(width))
        except np.linalg.LinAlgError:
            continue
        upper = lower[:, ::-1, ::-1]
        return np.ascontiguousarray((upper / np.einsum("gkk->gk", upper)[:, None, :]).transpose(0, 2, 1))
    return None


class _Solver:
    """moment: (groups, k, k). Weights are (groups, k, rows), levels in units of a scale (groups, 1, rows).

    The levels are low + shift .. high + shift, with integers low and high. free: (groups, k, rows), 0 where the level
    must be 0 and 1 elsewhere; None: 1 everywhere.
    """

    def __init__(self, moment: np.ndarray, low: int, high: int, shift: float, free: np.ndarray | None = None) -> None:
        self.free = free
        self.moment, self.width = moment, moment.shape[-1]
        self.low, self.high, self.shift = low, high, shift
        self.diagonal = np.einsum("gkk->gk", moment)

    def nearest(self, levels: np.ndarray) -> np.ndarray:
        found = np.rint(levels - self.shift if self.shift else levels)
        np.minimum(np.maximum(found, self.low, out=found), self.high, out=found)  # np.clip is slower on a few numbers
        return found + self.shift if self.shift else found

    def start(self, target: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The levels of sequential rounding, with the best ratio of the scale for each row. None where H cannot be
        factorised."""
        order = np.argsort(-self.diagonal, axis=1, kind="stable")
        coupling = error_coupling(self.moment, order)
        if coupling is None:
            return None
        ratios = RATIOS if self.width <= WIDE else (1.0,)
        rows = target.shape[2]
        tried, targets = np.concatenate([scale * r for r in ratios], 2), np.tile(target, (1, 1, len(ratios)))
        free = None if self.free is None else np.tile(self.free, (1, 1, len(ratios)))
        levels = self._in_sequence(targets / tried, order, coupling, free)
        if len(ratios) == 1:
            return levels, scale
        _, gain = self._fitted(targets, levels, tried)
        best = gain.reshape(len(gain), len(ratios), rows).argmax(1) * rows + np.arange(rows)
        return np.take_along_axis(levels, best[:, None], 2), np.take_along_axis(tried, best[:, None], 2)

    def improve(self, target: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(PASSES if self.width <= WIDE else 1):
            scale, _ = self._fitted(target, levels, scale)
            levels = self._descend(target / scale, levels)
        return levels, scale

    def better(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """(groups, rows): whether d H d^T is less for one difference than for the other."""
        return ((self.moment @ (one + other)) * (one - other)).sum(1) < 0

    def _in_sequence(
        self, target: np.ndarray, order: np.ndarray, coupling: np.ndarray, free: np.ndarray | None
    ) -> np.ndarray:
        target = np.take_along_axis(target, order[:, :, None], 1)
        free = None if free is None else np.take_along_axis(free, order[:, :, None], 1)
        levels, error = np.empty_like(target), np.empty_like(target)
        for start in range(0, self.width, BLOCK):
            stop = min(start + BLOCK, self.width)
            before = coupling[:, start:stop, :start] @ error[:, :start]
            for j in range(start, stop):
                inside = coupling[:, j, None, start:j] @ error[:, start:j]
                wanted = target[:, j] - before[:, j - start] - inside[:, 0]
                levels[:, j] = self.nearest(wanted) if free is None else self.nearest(wanted) * free[:, j]
                error[:, j] = levels[:, j] - target[:, j]
        result = np.empty_like(levels)
        np.put_along_axis(result, order[:, :, None], levels, 1)
        return result

    def _fitted(self, target: np.ndarray, levels: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scale with the least error for these levels, and the difference of that error to w H w^T, (groups,
        rows)."""
        seen = self.moment @ levels
        product, square = (target * seen).sum(1), (levels * seen).sum(1)
        useful = (product > 0) & (square > 0)
        fitted = np.where(useful, product / np.where(useful, square, 1), scale[:, 0])
        return fitted[:, None], 2 * fitted * product - fitted**2 * square

    def _descend(self, target: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Sets each column in turn to its best integers, with the other columns fixed."""
        levels = levels.copy()
        error = levels - target
        curvature = np.maximum(self.diagonal, RIDGES[0])
        for start in range(0, self.width, BLOCK):
            block = slice(start, min(start + BLOCK, self.width))
            slope, among = self.moment[:, block] @ error, self.moment[:, block, block]
            for i in range(slope.shape[1]):
                j = start + i
                step = self.nearest(levels[:, j] - slope[:, i] / curvature[:, j, None]) - levels[:, j]
                step = step if self.free is None else step * self.free[:, j]
                if step.any():
                    levels[:, j] += step
                    error[:, j] += step
                    slope[:, i:] += among[:, i:, i, None] * step[:, None]
        return levels
