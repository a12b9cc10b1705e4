"""How each kind of operator changes the identities of channels: see :mod:`autocomp.primitives.tracing.channels`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from autocomp.search_spaces import Node

from .axes import reshaped
from .channel_identities import STAYS, Carried, Identities

Rule = Callable[[Identities, Node], Carried]


def layer(state: Identities, node: Node) -> Carried:
    """Convolutions read axis 1, dense layers the last one; both make new channels there."""
    if node.layer is None or node.weight_shape is None or len(node.inputs) != 1:
        return state.unknown(node)
    source = state.inputs(node)[0]
    axis = 1 if node.kind == "conv" else len(state.input_shape(node)) - 1
    if source.axis != axis or not source.free:
        state.freeze(source.ids, f"{node.layer} reads another axis than the one that holds its channels")
        source = Carried(axis, np.full(node.weight_shape[1] * node.groups, STAYS))
    consumed = state.consumed.setdefault(node.layer, source.ids)
    if len(consumed) != len(source.ids):
        return state.unknown(node)
    if consumed is not source.ids:
        state.unify(consumed, source.ids, f"{node.layer} is used twice, once after channels that stay")
    axis = 1 if node.kind == "conv" else len(node.shape) - 1
    if node.kind == "conv" and node.groups > 1:
        return Carried(1, _grouped_conv(state, node, source.ids))
    return Carried(axis, state.produce(node.layer, node.weight_shape[0]))


def _grouped_conv(state: Identities, node: Node, source: np.ndarray) -> np.ndarray:
    """A depthwise convolution passes each channel on. A grouped one is cut at the same places in every group."""
    assert node.layer is not None and node.weight_shape is not None
    out = node.weight_shape[0]
    if node.depthwise:
        ids = np.repeat(source, out // node.groups)
        state.produced.setdefault(node.layer, ids)
        return ids
    if (source == STAYS).any():
        state.freeze(source, f"it feeds the grouped convolution {node.layer} beside channels that stay")
    else:
        _tie(state, source.reshape(node.groups, -1))
    produced = state.produce(node.layer, out)
    _tie(state, produced.reshape(node.groups, -1))
    return produced


def _tie(state: Identities, rows: np.ndarray) -> np.ndarray:
    """Unifies all rows: they are cut at the same places."""
    for other in rows[1:]:
        state.unify(rows[0], other, "it is cut at the same places as channels that stay")
    return rows[0]


def batchnorm(state: Identities, node: Node) -> Carried:
    source = state.inputs(node)[0]
    return source if node.layer is not None and source.axis == 1 else state.unknown(node)


def activation(state: Identities, node: Node) -> Carried:
    if len(node.inputs) != 1 or state.input_shape(node) != node.shape:
        return state.unknown(node)
    source = state.inputs(node)[0]
    if node.parameters and (node.layer is None or source.axis != 1):
        return state.left(node, f"{node.op} has parameters of its own, outside a layer that can be cut")
    return source


def normalisation(state: Identities, node: Node) -> Carried:
    """LayerNorm, softmax and similar operators mix the values of an axis: a channel cut there changes all others."""
    source = state.inputs(node)[0]
    if len(node.inputs) != 1 or source.axis in _normalised_axes(node):
        return state.left(node, f"{node.op} normalises over it")
    return source


def _normalised_axes(node: Node) -> set[int]:
    rank = len(node.shape)
    if node.op in ("Softmax", "LogSoftmax", "SoftmaxExt", "LogSoftmaxExt"):
        axis = next((value for value in node.attributes.constants if isinstance(value, (int, tuple))), -1)
        return {a % rank for a in ((axis,) if isinstance(axis, int) else axis)}
    if node.op == "LayerNorm":
        return set(range(int(node.attributes.constants[0]) % rank, rank))
    return set(range(rank))


def elementwise(state: Identities, node: Node) -> Carried:
    """Operands of smaller rank are aligned at the last axis. All operands with channels must have them on one axis."""
    rank = len(node.shape)
    found: list[Carried] = []
    for i in node.inputs:
        source, shape = state.carried[i], state.graph.nodes[i].shape
        moved = Carried(source.axis + rank - len(shape), source.ids)
        if source.free and (moved.axis < 0 or len(source.ids) != node.shape[moved.axis]):
            state.freeze(source.ids, f"{node.op} spreads it over others")
        elif source.free:
            found.append(moved)
    if not found:
        return state.stays(node)
    axis = found[0].axis
    if any(other.axis != axis for other in found) or _held(node, axis):
        return state.left(node, f"{node.op} joins it with values that stay")
    result = found[0].ids
    for i in node.inputs:
        shape, source = state.graph.nodes[i].shape, state.carried[i]
        there = axis - (rank - len(shape))
        if there < 0 or shape[there] == 1 != node.shape[axis]:
            continue
        other = source.ids if source.axis == there else np.full(shape[there], STAYS)
        if other is not result:
            result = state.unify(result, other, f"{node.op} joins it with channels that stay")
    return Carried(axis, result)


def _held(node: Node, axis: int) -> bool:
    """Whether a constant or parameter has a value for each position of the axis."""
    shapes = [value.shape for value in node.attributes.constants if isinstance(value, np.ndarray)]
    shapes += node.attributes.parameter_shapes
    places = [axis - (len(node.shape) - len(shape)) for shape in shapes]
    return any(place >= 0 and shape[place] > 1 for place, shape in zip(places, shapes, strict=True))


def concat(state: Identities, node: Node) -> Carried:
    axis, rank = _axis(node), len(node.shape)
    if axis is None or any(kind != "node" for kind, *_ in _parts(node)):
        return state.unknown(node)
    axis %= rank
    if node.op == "Stack":
        sources = [Carried(c.axis + (c.axis >= axis), c.ids) for c in state.inputs(node)]
    else:
        sources = state.inputs(node)
    free = [c for c in sources if c.free]
    if not free:
        return state.stays(node)
    if node.op != "Stack" and all(c.axis == axis for c in free):
        widths = [state.graph.nodes[i].shape[axis] for i in node.inputs]
        rows = [c.ids if c.free else np.full(w, STAYS) for c, w in zip(sources, widths, strict=True)]
        return Carried(axis, np.concatenate(rows))
    if any(c.axis != free[0].axis for c in free) or free[0].axis == axis:
        return state.left(node, f"{node.op} joins it along another axis")
    result = free[0].ids
    for other in sources:
        ids = other.ids if other.free else np.full(len(result), STAYS)
        result = state.unify(result, ids, f"{node.op} joins it with channels that stay")
    return Carried(free[0].axis, result)


def _axis(node: Node) -> int | None:
    given = node.attributes.operator.get("axis")
    return next((value for value in node.attributes.constants if type(value) is int), given)


def _parts(node: Node) -> tuple[Any, ...]:
    first = node.arguments[0]
    return tuple(first.value) if first.kind == "tuple" else (first,)


def pool(state: Identities, node: Node) -> Carried:
    """Spatial pooling over the axes after the channels."""
    source, shape = state.inputs(node)[0], state.input_shape(node)
    keeps = len(node.inputs) == 1 and source.axis == 1 and len(shape) == len(node.shape) and shape[1] == node.shape[1]
    return source if keeps and len(shape) >= 3 else state.unknown(node)


def reduction(state: Identities, node: Node) -> Carried:
    source, shape = state.inputs(node)[0], state.input_shape(node)
    numbers = (value for value in node.attributes.constants if type(value) is int or isinstance(value, tuple))
    given = next(numbers, ())
    axes = {a % len(shape) for a in ((given,) if isinstance(given, int) else given)} or set(range(len(shape)))
    if source.axis in axes or len(node.inputs) != 1:
        return state.left(node, f"{node.op} mixes it with other channels")
    gone = sum(axis < source.axis for axis in axes) if len(node.shape) < len(shape) else 0
    return Carried(source.axis - gone, source.ids)


def reshape(state: Identities, node: Node) -> Carried:
    source = state.inputs(node)[0]
    if len(node.inputs) != 1:
        return state.unknown(node)
    moved = reshaped(state.input_shape(node), source.axis, source.ids, node.shape)
    if moved is None:
        return state.unknown(node)
    start, grid = moved
    axes = _channel_axes(grid)
    if len(axes) > 1:
        state.choices_of[node.name], state.parted[node.name] = len(axes), grid
    axis = axes[min(state.choices.get(node.name, 0), len(axes) - 1)]
    rows = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
    return Carried(start + axis, _tie(state, np.unique(rows, axis=0)))


def _channel_axes(grid: np.ndarray) -> list[int]:
    """The axes that vary with the channel, the longest first, of equal ones the last; several for the groups of a
    shuffle or for heads."""
    varies = [bool((grid != np.take(grid, [0], axis)).any()) for axis in range(grid.ndim)]
    found = sorted((size, axis) for axis, (size, vary) in enumerate(zip(grid.shape, varies, strict=True)) if vary)
    return [axis for _, axis in reversed(found)] or [grid.ndim - 1]


def transpose(state: Identities, node: Node) -> Carried:
    source, rank = state.inputs(node)[0], len(node.shape)
    order = next((value for value in node.attributes.constants if isinstance(value, tuple)), None)
    if order is None or sorted(axis % rank for axis in order) != list(range(rank)):
        return state.unknown(node)
    return Carried([axis % rank for axis in order].index(source.axis), source.ids)


def slicing(state: Identities, node: Node) -> Carried:
    """A slice along another axis keeps the channels. Equal parts along the channel axis are cut at the same places."""
    source, shape = state.inputs(node)[0], state.input_shape(node)
    if len(node.inputs) != 1:
        return state.unknown(node)
    if node.op in PARTS:
        return source if node.shape == shape else state.unknown(node)
    if node.op not in ("StridedSlice", "Slice", "SliceExt", "Narrow"):
        return state.unknown(node)
    if len(shape) != len(node.shape):
        return _picked(state, node, source)
    if shape[source.axis] == node.shape[source.axis]:
        return source
    return state.left(node, f"{node.op} takes it from fixed places")


PARTS = ("Split", "SplitTensor", "SplitWithSize", "Chunk", "Unstack", "UnstackExt")


def part(state: Identities, node: Node) -> Carried:
    source = state.inputs(node)[0]
    shape, (start, axis) = state.input_shape(node), node.part
    if len(node.shape) < len(shape):
        if axis == source.axis:
            return state.left(node, "it is unstacked")
        return Carried(source.axis - (axis < source.axis), source.ids)
    if axis != source.axis:
        return source
    size = node.shape[axis]
    if shape[axis] % size or start % size:
        return state.left(node, "it is split into unequal parts")
    return Carried(axis, _tie(state, source.ids.reshape(-1, size)))


def _picked(state: Identities, node: Node, source: Carried) -> Carried:
    """``x[:, 0]``: axes of which one element is taken disappear."""
    gone = node.attributes.picked
    if gone is None or source.axis in gone:
        return state.left(node, f"{node.op} takes it from fixed places")
    axis = source.axis - sum(g < source.axis for g in gone)
    return Carried(axis, source.ids) if node.shape[axis] == len(source.ids) else state.unknown(node)


def same_axis(state: Identities, node: Node) -> Carried:
    """Padding, resizing and broadcasting along other axes than the channels'."""
    source, shape = state.inputs(node)[0], state.input_shape(node)
    shift = len(node.shape) - len(shape)
    axis = source.axis + shift
    if len(node.inputs) != 1 or shift < 0 or node.shape[axis] != shape[source.axis]:
        return state.unknown(node)
    return Carried(axis, source.ids)


def matmul(state: Identities, node: Node) -> Carried:
    """A sum over channels needs all of them. Rows of the first operand and columns of the second are passed on, and so
    are the matrices (heads) of both."""
    if len(node.inputs) != 2 or any(len(state.graph.nodes[i].shape) != len(node.shape) for i in node.inputs):
        return state.left(node, f"{node.op} sums over it, or has no second operand to follow")
    transposed = node.turns
    rank, found = len(node.shape), []
    for place, (source, i) in enumerate(zip(state.inputs(node), node.inputs, strict=True)):
        kept = rank - 2 + place  # the axis of this operand that the product keeps
        lies = kept if not transposed[place] else 2 * rank - 3 - kept
        if source.axis < rank - 2 or source.axis == lies:
            axis = kept if source.axis == lies else source.axis
            if node.shape[axis] == state.graph.nodes[i].shape[source.axis] and source.free:
                found.append(Carried(axis, source.ids))
                continue
        state.freeze(source.ids, f"{node.op} sums over it")
    if len(found) == 1 and found[0].axis >= rank - 2:
        return found[0]
    if len(found) == 2 and found[0].axis == found[1].axis:
        ids = state.unify(found[0].ids, found[1].ids, f"{node.op} joins it with channels that stay")
        return Carried(found[0].axis, ids)
    return state.left(node, f"{node.op} joins it with channels that stay") if found else state.stays(node)


RULES: dict[str, Rule] = {
    "conv": layer,
    "dense": layer,
    "batchnorm": batchnorm,
    "layernorm": normalisation,
    "softmax": normalisation,
    "activation": activation,
    "add": elementwise,
    "mul": elementwise,
    "concat": concat,
    "pool": pool,
    "mean": reduction,
    "flatten": reshape,
    "reshape": reshape,
    "transpose": transpose,
    "slice": slicing,
    "pad": same_axis,
    "resize": same_axis,
    "matmul": matmul,
    "Part": part,  # found by its operator, since its kind is reshape: it costs nothing
}
