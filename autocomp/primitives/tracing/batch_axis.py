"""Finds the batch axis of each tensor of a graph that was traced with a batch of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

from .axes import blocks

BY_PLACES = ("GatherNd", "TensorScatterUpdate")  # a place in the batch stands beside those in other axes


def batch_axes(graph: NetworkGraph) -> list[int | None]:
    """The batch axis for each node; None where it does not depend on an input of the network, or cannot be
    determined."""
    axes: list[int | None] = []
    for node in graph.nodes:
        axes.append(0 if node.kind == "input" else _axis(graph, node, axes))
    return axes


def growing_axes(graph: NetworkGraph) -> list[int | None]:
    """For each node the axis whose size grows with the batch, which :func:`seen_with_two` found.

    It is the batch axis, alone or merged with another axis, such as that of the heads. A tensor that no input feeds has
    none: it has one size in the graph.
    """
    grown = [node.attributes.grows for node in graph.nodes]
    if all(axes is None for axes in grown):
        return batch_axes(graph)
    pairs = zip(grown, graph.fed, strict=True)
    return [axes[0] if fed and axes is not None and len(axes) == 1 else None for axes, fed in pairs]


def loses_batch(graph: NetworkGraph) -> bool:
    """Whether an operator reads the batch axis and it cannot be determined in its output, since its size is one."""
    axes = batch_axes(graph)
    reading = [(i, node) for i, node in enumerate(graph.nodes) if any(axes[j] is not None for j in node.inputs)]
    return any(node.op in BY_PLACES or (axes[i] is None and _reshapes(node)) or _is_ambiguous(graph, i, axes)
               for i, node in reading)  # fmt: skip


def _reshapes(node: Node) -> bool:
    return node.kind == "reshape" and node.op != "Part"


def _is_ambiguous(graph: NetworkGraph, index: int, axes: Sequence[int | None]) -> bool:
    """Whether a reshape puts an axis of size one beside the batch axis, as from (n, 5) to (1, n, 5) or (n, 1, 5), or
    tensors are concatenated along the batch."""
    node, axis = graph.nodes[index], axes[index]
    if node.op == "Concat" and axis is not None:
        return _constant_axis(node) % len(node.shape) == axis
    if not _reshapes(node) or node.op in ("ExpandDims", "Squeeze") or axis is None:
        return False
    target = next((value for value in node.attributes.constants if isinstance(value, tuple)), ())
    free = len(target) == len(node.shape) and target[axis] == -1
    before = graph.nodes[node.inputs[0]].shape[axis : axis + 2]
    return not free and node.shape[axis : axis + 2] == (1, 1) != before


def seen_with_two(graph: NetworkGraph, nodes: Sequence[Node]) -> NetworkGraph:
    """The graph with the growing axes. nodes: of the same network traced with a batch of two; where the inputs feed
    other operators the graph is unchanged. (Constants that are equal for one image may differ for two.)"""
    ones, twos = _fed(graph.nodes), _fed(nodes)
    if [graph.nodes[i].op for i in ones] != [nodes[i].op for i in twos]:
        return graph
    seen = list(graph.nodes)
    for i, j in zip(ones, twos, strict=True):
        seen[i] = replace(seen[i], attributes=replace(seen[i].attributes, grows=_grown(seen[i], nodes[j])))
    return replace(graph, nodes=tuple(seen))


def _fed(nodes: Sequence[Node]) -> list[int]:
    """Indices of nodes that depend on an input of the network."""
    found: set[int] = set()
    for i, node in enumerate(nodes):
        if node.kind == "input" or not found.isdisjoint(node.inputs):
            found.add(i)
    return sorted(found)


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
    if node.op == "GatherNd":
        return _of_places(graph, node, axes)
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


def _of_places(graph: NetworkGraph, node: Node, axes: list[int | None]) -> int | None:
    """Of elements (..., rest) picked by places (..., k) out of data (k axes, rest)."""
    data, places = node.arguments[:2]
    read = [axes[argument.value] for argument in (places, data) if argument.kind == "node"]
    counted = next((axis for axis in read if axis is not None), None)
    of_data = axes[data.value] if data.kind == "node" else None
    if of_data is None or places.kind != "node":
        return counted
    lead, depth = len(graph.nodes[places.value].shape) - 1, graph.nodes[places.value].shape[-1]
    return of_data if of_data < depth else of_data - depth + lead


def _constant_axis(node: Node) -> int:
    given = node.attributes.operator.get("axis", 0)
    return int(next((value for value in node.attributes.constants if type(value) is int), given))


def _gone(node: Node, rank: int) -> set[int] | None:
    """Axes that a reduction or a slice removes."""
    if node.op == "Part":
        return {node.part.axis}
    if node.kind == "mean":
        axes = reduced_axes(node)
        return {a % rank for a in axes} if axes else None
    if node.op == "Diagonal":
        return {int(axis) % rank for axis in node.attributes.constants[-2:]}
    picked = node.attributes.picked
    return set(picked) if picked is not None else None


def reduced_axes(node: Node) -> tuple[int, ...]:
    """As the operator names them; () for all. (x, axes, ...): None stands for all, too, and a type may follow."""
    values = node.attributes.constants
    if node.op in ("SumExt", "MeanExt", "ProdExt"):
        values = values[:1]
    given = next((value for value in values if type(value) is int or isinstance(value, tuple)), None)
    given = node.attributes.operator.get("axis", ()) if given is None else given
    return (given,) if isinstance(given, int) else tuple(given)


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
