"""Operators that move no number in memory, and pools over whole images."""

from __future__ import annotations

import math

from autocomp.search_spaces import Node

FREE_OPS = ("Identity", "Cast", "Dropout", "StopGradient", "Contiguous", "Depend", "Load")
POOLS = ("AvgPool", "AvgPoolExt", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveAvgPool2DExt")


def moves_nothing(node: Node, source: Node) -> bool:
    """Whether the numbers of the node's only input lie in memory as those of its output do."""
    if node.op in FREE_OPS:
        return node.shape == source.shape
    if node.kind == "transpose":
        return _keeps_order(node, source)
    return node.kind in ("slice", "pad") and node.shape == source.shape and node.attributes.picked in (None, ())


def _keeps_order(node: Node, source: Node) -> bool:
    """Whether a transpose moves axes of one position alone; the axis of the batch has many."""
    moved = order_of(node)
    if not moved or len(moved) != len(source.shape):
        return False
    large = [axis for axis in moved if source.shape[axis] > 1 or axis in (node.attributes.grows or (0,))]
    return large == sorted(large)


def without_turn(node: Node) -> tuple[int, ...]:
    """The order of a transpose's axes if products alone read it: they turn matrices, the last two axes, for nothing."""
    order = order_of(node)
    turned = (*order[:-2], order[-1], order[-2])
    return turned if sum(a == b for a, b in enumerate(turned)) > sum(a == b for a, b in enumerate(order)) else order


def order_of(node: Node) -> tuple[int, ...]:
    """The input's axis at each axis of a transpose; empty where it is not known."""
    order = next((c for c in node.attributes.constants if isinstance(c, tuple)), ())
    return tuple(int(axis) % len(node.shape) for axis in order)


def pools_all(node: Node, source: Node) -> bool:
    """Whether an average pool takes the mean of a whole image."""
    if node.kind != "pool" or node.op not in POOLS or len(node.shape) != 4 or len(source.shape) != 4:
        return False
    return node.shape[2:] == (1, 1) and math.prod(source.shape[2:]) > 1
