"""The levels that a weight is rounded to: a scale, and where asked for a zero point, for each part of each row.

    w' = (q - zero) * scale,    q = clip(round(w / scale) + zero, low, high)

Symmetric grids have the levels -top .. top with top = 2^(b-1) - 1 and no zero point, others 0 .. 2^b - 1
(Krishnamoorthi 2018, sections 2.1 and 2.2). A clipping ratio below 1 is chosen for the least squared error of a part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .quantizers import CLIP_RATIOS, LEAST_SCALE, QuantizedWeight

EXACT_BITS = 8  # from which on nothing is gained by clipping


@dataclass(frozen=True)
class WeightGrid:
    """scale, zero: (out, parts) float32; each row of a weight has ``parts`` equal parts. symmetric: zero is 0."""

    scale: np.ndarray
    zero: np.ndarray
    bits: int
    symmetric: bool

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest level."""
        top = 2 ** (self.bits - 1) - 1
        return (-top, top) if self.symmetric else (0, 2**self.bits - 1)

    def rows(self, start: int, stop: int) -> WeightGrid:
        return replace(self, scale=self.scale[start:stop], zero=self.zero[start:stop])

    def spread(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Scale and zero point of every number, (out, width) each."""
        size = width // self.scale.shape[1]
        return np.repeat(self.scale, size, 1), np.repeat(self.zero, size, 1)

    def nearest(self, rows: np.ndarray) -> np.ndarray:
        """(out, k): each number as the nearest level."""
        scale, zero = self.spread(rows.shape[1])
        return ((np.clip(np.rint(rows / scale) + zero, *self.bounds) - zero) * scale).astype(np.float32)

    def stored(self, weight: np.ndarray) -> QuantizedWeight:
        """weight: (out, ...); its numbers are rounded to the nearest levels."""
        rows = weight.reshape(len(weight), -1)
        scale, zero = self.spread(rows.shape[1])
        offset = 0 if self.symmetric else 2 ** (self.bits - 1)  # int8 has negative integers, too
        integers = np.clip(np.rint(rows / scale) + zero, *self.bounds) - offset
        form = (len(rows),) if self.scale.shape[1] == 1 else self.scale.shape
        point = None if self.symmetric else (self.zero - offset).astype(np.int8).reshape(form)
        whole = integers.astype(np.int8).reshape(weight.shape)
        return QuantizedWeight(whole, self.scale.reshape(form), self.bits, point)


def grid_of(stored: QuantizedWeight) -> WeightGrid:
    """The grid of a rounded weight."""
    scale = stored.scale.reshape(len(stored.scale), -1)
    if stored.zero_point is None:
        return WeightGrid(scale, np.zeros_like(scale), stored.bits, True)
    zero = stored.zero_point.reshape(scale.shape).astype(np.float32) + 2 ** (stored.bits - 1)
    return WeightGrid(scale, zero, stored.bits, False)


def fit_grid(
    rows: np.ndarray,
    bits: int,
    parts: int = 1,
    symmetric: bool = True,
    importance: np.ndarray | None = None,
    clips: bool = True,
) -> WeightGrid:
    """The grid with the least squared error of each part.

    rows: (out, k). parts: of each row. importance: (k,), by which the squared error of each column is multiplied, such
        as the mean square of its input; None: 1. clips: whether clipping is searched; else ranges are the extremes.
    """
    parted = rows.reshape(len(rows), parts, -1).astype(np.float32)
    weigh = np.ones(1, np.float32) if importance is None else importance.reshape(1, parts, -1).astype(np.float32)
    low, high = np.minimum(parted.min(2), 0), np.maximum(parted.max(2), 0)
    best = np.full(low.shape, np.inf, np.float32)
    found = _grid(low, high, bits, symmetric)
    scale, zero = found.scale, found.zero
    for ratio in CLIP_RATIOS.astype(np.float32) if clips and bits < EXACT_BITS else ():
        tried = _grid(low * ratio, high * ratio, bits, symmetric)
        error = (weigh * (tried.nearest(rows).reshape(parted.shape) - parted) ** 2).sum(2)
        better = error < best
        best = np.minimum(best, error)
        scale, zero = np.where(better, tried.scale, scale), np.where(better, tried.zero, zero)
    return WeightGrid(scale, zero, bits, symmetric)


def _grid(low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool) -> WeightGrid:
    """The grid of these ranges, (out, parts) each."""
    least = np.float32(LEAST_SCALE)
    if symmetric:
        scale = np.maximum(np.maximum(high, -low) / (2 ** (bits - 1) - 1), least).astype(np.float32)
        return WeightGrid(scale, np.zeros_like(scale), bits, True)
    scale = np.maximum((high - low) / (2**bits - 1), least).astype(np.float32)
    return WeightGrid(scale, np.rint(-low / scale).astype(np.float32), bits, False)


def parts_of(inputs: int, at_most: int | None) -> int:
    """The number of equal parts of a row of so many inputs, each with at most ``at_most`` inputs."""
    if at_most is None or inputs <= at_most:
        return 1
    return next(inputs // size for size in range(at_most, 0, -1) if inputs % size == 0)
