"""How a reshape maps the axes of a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Source axes ``start`` to ``stop`` become target axes ``to_start`` to ``to_stop``, and no other axes are
    involved."""

    start: int
    stop: int
    to_start: int
    to_stop: int


def blocks(source: Shape, target: Shape) -> list[Block] | None:
    """The smallest groups of neighbouring axes that a reshape maps to each other; None where the sizes do not fit."""
    if math.prod(source) != math.prod(target) or 0 in source:
        return None
    found: list[Block] = []
    i = j = 0
    while i < len(source) and j < len(target):
        start, to_start, a, b = i, j, source[i], target[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * source[i], i + 1
            else:
                b, j = b * target[j], j + 1
        found.append(Block(start, i, to_start, j))
    if found and (i < len(source) or j < len(target)):  # trailing axes of size 1
        last = found.pop()
        found.append(Block(last.start, len(source), last.to_start, len(target)))
    return found


def reshaped(source: Shape, axis: int, ids: np.ndarray, target: Shape) -> tuple[int, np.ndarray] | None:
    """The place of ``axis`` after a reshape: the first target axis of its axis group, and the ids over the group's
    target axes.

    None where the sizes do not fit.
    """
    for block in blocks(source, target) or ():
        if block.start <= axis < block.stop:
            size = source[block.start : block.stop]
            column = [1] * len(size)
            column[axis - block.start] = len(ids)
            spread = np.broadcast_to(ids.reshape(column), size)
            return block.to_start, spread.reshape(target[block.to_start : block.to_stop])
    return None
