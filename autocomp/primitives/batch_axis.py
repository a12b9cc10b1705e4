"""Where the batch lies in each tensor of a graph that was traced with a batch of one."""

from __future__ import annotations

from ..search_spaces import NetworkGraph, Node
from .axes import blocks


def batch_axes(graph: NetworkGraph) -> list[int | None]:
    """For each node; None for what does not depend on an input of the network, or where it cannot be told."""
    axes: list[int | None] = []
    for node in graph.nodes:
        axes.append(0 if node.kind == "input" else _axis(graph, node, axes))
    return axes


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
        order = next((value for value in node.attributes["constants"] if isinstance(value, tuple)), ())
        turned = [a % rank for a in order]
        return turned.index(axis) if axis in turned else None
    if node.op in ("Stack", "StackExt"):
        return axis + (_constant_axis(node) % rank <= axis)
    if node.op == "Gather":
        at = _constant_axis(node) % len(shape)
        return None if at == axis else axis + (rank - len(shape) if at < axis else 0)
    if rank < len(shape):
        gone = _gone(node, len(shape))
        return None if gone is None or axis in gone else axis - sum(g < axis for g in gone)
    return axis + rank - len(shape)


def _constant_axis(node: Node) -> int:
    given = node.attributes["operator"].get("axis", 0)
    return int(next((value for value in node.attributes["constants"] if type(value) is int), given))


def _gone(node: Node, rank: int) -> set[int] | None:
    """Axes that a reduction or a slice removes."""
    if node.op == "Part":
        return {node.attributes["part"][1]}
    if node.kind == "mean":
        numbers = (value for value in node.attributes["constants"] if type(value) is int or isinstance(value, tuple))
        given = next(numbers, None)
        axes = (given,) if isinstance(given, int) else given
        return {a % rank for a in axes} if axes else None
    picked = node.attributes.get("picked")
    return set(picked) if picked is not None else None


def _after_reshape(node: Node, axis: int, shape: tuple[int, ...]) -> int | None:
    if node.op == "ExpandDims":
        return axis + (_constant_axis(node) % len(node.shape) <= axis)
    if node.op == "Squeeze":
        gone = [a for a in range(len(shape)) if shape[a] == 1 and a != axis]
        return axis - sum(g < axis for g in gone) if len(shape) - len(node.shape) == len(gone) else axis
    for block in blocks(shape, node.shape) or ():
        if block.start <= axis < block.stop:
            alone = block.stop - block.start == block.to_stop - block.to_start == 1
            outermost = all(size == 1 for size in shape[block.start : axis])
            either = shape[axis] == 1 and axis == block.start > 0  # it may as well go with the axis before it
            return block.to_start if alone or (outermost and not either) else None
    return None
