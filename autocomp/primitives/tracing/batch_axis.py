"""Finds the batch axis of each tensor of a graph that was traced with a batch of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

from .axes import blocks


def batch_axes(graph: NetworkGraph) -> list[int | None]:
    """The batch axis for each node; None where it does not depend on an input of the network, or cannot be
    determined."""
    axes: list[int | None] = []
    for node in graph.nodes:
        axes.append(0 if node.kind == "input" else _axis(graph, node, axes))
    return axes


def growing_axes(graph: NetworkGraph) -> list[int | None]:
    """For each node the axis whose size grows with the batch, which :func:`seen_with_two` found.

    It is the batch axis, alone or merged with another axis, such as that of the heads.
    """
    grown = [node.attributes.grows for node in graph.nodes]
    if all(axes is None for axes in grown):
        return batch_axes(graph)
    return [axes[0] if axes is not None and len(axes) == 1 else None for axes in grown]


def loses_batch(graph: NetworkGraph) -> bool:
    """Whether a reshape reads the batch axis and it cannot be determined in its output, since its size is one."""
    axes = batch_axes(graph)
    reshapes = [(i, node) for i, node in enumerate(graph.nodes) if node.kind == "reshape" and node.op != "Part"]
    return any(axes[i] is None and any(axes[j] is not None for j in node.inputs) for i, node in reshapes)


def seen_with_two(graph: NetworkGraph, nodes: Sequence[Node]) -> NetworkGraph:
    """The graph with the growing axes. nodes: of the same network traced with a batch of two; where they have other
    operators the graph is unchanged."""
    if [node.op for node in nodes] != [node.op for node in graph.nodes]:
        return graph
    pairs = zip(graph.nodes, nodes, strict=True)
    seen = (replace(one, attributes=replace(one.attributes, grows=_grown(one, two))) for one, two in pairs)
    return replace(graph, nodes=tuple(seen))


def _grown(one: Node, two: Node) -> tuple[int, ...]:
    sizes = list(zip(one.shape, two.shape, strict=True)) if len(one.shape) == len(two.shape) else []
    return tuple(axis for axis, (before, after) in enumerate(sizes) if after != before)


def _axis(graph: NetworkGraph, node: Node, axes: list[int | None]) -> int | None:
    sources = [(axes[i], graph.nodes[i].shape) for i in node.inputs]
    known = [(axis, shape) for axis, shape in sources if axis is not None]
    if not known:
        return None
    axis, shape = known[0]
    rank = len(node.shape)
    if node.kind in ("reshape", "flatten") and node.op != "Part":
        return _after_reshape(node, axis, shape)
    if node.kind == "transpose":
        order = next((value for value in node.attributes.constants if isinstance(value, tuple)), ())
        permuted = [a % rank for a in order]
        return permuted.index(axis) if axis in permuted else None
    if node.op in ("Stack", "StackExt"):
        return axis + (_constant_axis(node) % rank <= axis)
    if node.op == "Gather" and node.arguments[0].kind != "node":  # by positions that are computed
        held = (*node.attributes.parameter_shapes, *(np.shape(v) for v in node.attributes.constants))[0]
        return axis + _constant_axis(node) % len(held)
    if node.op == "OneHot":
        return axis + (_constant_axis(node) % rank <= axis)
    if node.op == "Gather":
        at = _constant_axis(node) % len(shape)
        return None if at == axis else axis + (rank - len(shape) if at < axis else 0)
    if rank < len(shape):
        gone = _gone(node, len(shape))
        return None if gone is None or axis in gone else axis - sum(g < axis for g in gone)
    return axis + rank - len(shape)


def _constant_axis(node: Node) -> int:
    given = node.attributes.operator.get("axis", 0)
    return int(next((value for value in node.attributes.constants if type(value) is int), given))


def _gone(node: Node, rank: int) -> set[int] | None:
    """Axes that a reduction or a slice removes."""
    if node.op == "Part":
        return {node.part.axis}
    if node.kind == "mean":
        numbers = (value for value in node.attributes.constants if type(value) is int or isinstance(value, tuple))
        given = next(numbers, None)
        axes = (given,) if isinstance(given, int) else given
        return {a % rank for a in axes} if axes else None
    picked = node.attributes.picked
    return set(picked) if picked is not None else None


def _after_reshape(node: Node, axis: int, shape: tuple[int, ...]) -> int | None:
    if node.op == "ExpandDims":
        return axis + (_constant_axis(node) % len(node.shape) <= axis)
    if node.op == "Squeeze":
        removed = [a for a in range(len(shape)) if shape[a] == 1 and a != axis]
        return axis - sum(a < axis for a in removed) if len(shape) - len(node.shape) == len(removed) else axis
    for block in blocks(shape, node.shape) or ():
        if block.start <= axis < block.stop:
            alone = block.stop - block.start == block.to_stop - block.to_start == 1
            outermost = all(size == 1 for size in shape[block.start : axis])
            either = shape[axis] == 1 and axis == block.start > 0  # it may also belong to the axis before it
            return block.to_start if alone or (outermost and not either) else None
    return None
