"""GPTQ on grids with a scale for each group of inputs (Frantar et al., "GPTQ", ICLR 2023, sections 3.2 and 3.3).

The objective is that of :mod:`.adaptive_rounding`, which solves it where a row has one scale: tr(D H D^T) of the
difference D. Each weight is rounded so that it compensates the errors of those before it, by the Cholesky factor of the
Hessian. Those with the largest mean square of their input go first (the paper's ``act_order``); the grid of each group
is fitted before, so that any order keeps the groups. One pass of coordinate descent over the levels follows.
"""

from __future__ import annotations

import numpy as np

from .adaptive_rounding import BLOCK, error_coupling
from .weight_grids import WeightGrid


def sequential_rounding(
    rows: np.ndarray, grid: WeightGrid, hessian: np.ndarray, activation_order: bool = True
) -> np.ndarray:
    """The rows, (out, k), on the levels of the grid, for the least error of the layer's output; (out, k) float32.

    hessian: (k, k), E[x x^T] of the inputs. activation_order: False rounds from the first column to the last.
    No row's error is above that of rounding to nearest, which is also the result where numbers are not finite.
    """
    nearest, width = grid.nearest(rows), rows.shape[1]
    if hessian.shape != (width, width):
        raise ValueError(f"hessian must be ({width}, {width}) for rows of {width}, but got {hessian.shape}")
    moment = np.asarray(hessian, np.float64)
    mean = float(np.trace(moment)) / width
    if not np.isfinite(moment).all() or mean <= 0:
        return nearest
    moment = moment / mean
    order = np.argsort(-np.diagonal(moment), kind="stable") if activation_order else np.arange(width)
    coupling = error_coupling(moment[None], order[None])
    start = nearest if coupling is None else _in_sequence(rows, grid, order, coupling[0])
    found = _descended(rows, start, grid, moment)
    better = _errors(found - rows, moment) < _errors(nearest - rows, moment)
    return np.where(better[:, None], found, nearest).astype(np.float32)


def _columns(rows: np.ndarray, grid: WeightGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, scales and zero points as (k, out) float64: the numbers of a column are contiguous."""
    scale, zero = grid.spread(rows.shape[1])
    columns = [np.ascontiguousarray(part.T, np.float64) for part in (rows, scale, zero)]
    return columns[0], columns[1], columns[2]


def _level(wanted: np.ndarray, scale: np.ndarray, zero: np.ndarray, grid: WeightGrid) -> np.ndarray:
    return np.asarray((np.clip(np.rint(wanted / scale) + zero, *grid.bounds) - zero) * scale)


def _in_sequence(rows: np.ndarray, grid: WeightGrid, order: np.ndarray, coupling: np.ndarray) -> np.ndarray:
    target, scale, zero = (part[order] for part in _columns(rows, grid))
    found, error = np.empty_like(target), np.empty_like(target)
    for start in range(0, len(target), BLOCK):
        stop = min(start + BLOCK, len(target))
        before = coupling[start:stop, :start] @ error[:start]
        for j in range(start, stop):
            wanted = target[j] - before[j - start] - coupling[j, start:j] @ error[start:j]
            found[j] = _level(wanted, scale[j], zero[j], grid)
            error[j] = found[j] - target[j]
    back = np.empty_like(found)
    back[order] = found
    return np.ascontiguousarray(back.T, np.float32)


def _descended(rows: np.ndarray, start: np.ndarray, grid: WeightGrid, moment: np.ndarray) -> np.ndarray:
    """Sets each column in turn to its best levels, with the other columns fixed."""
    target, scale, zero = _columns(rows, grid)
    found = np.ascontiguousarray(start.T, np.float64)
    error, curvature = found - target, np.maximum(np.diagonal(moment), 1e-6)
    for begin in range(0, len(target), BLOCK):
        block = slice(begin, min(begin + BLOCK, len(target)))
        slope, among = moment[block] @ error, moment[block, block]
        for i in range(len(slope)):
            j = begin + i
            step = _level(found[j] - slope[i] / curvature[j], scale[j], zero[j], grid) - found[j]
            found[j] += step
            error[j] += step
            slope[i:] += among[i:, i, None] * step
    return found.T


def _errors(difference: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """(out,): d H d^T of each row."""
    return np.asarray(((difference @ moment) * difference).sum(1))
