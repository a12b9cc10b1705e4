"""The ONNX form of operators that pick by positions, turn around and lay out anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from .onnx_shapes import END, argument_shape, axis_of, operand
from .onnx_tables import holds_table, rows_of_table
from .onnx_types import INT64, type_of, typed

if TYPE_CHECKING:
    from .onnx_writer import Writer


def gather(w: Writer, node: Node) -> str:
    """(x, positions, axis): by positions that the network holds or computes; the channels of this axis all stay."""
    if node.attributes.operator.get("batch_dims") or node.attributes.constants[-1:] not in ((0,), ()):
        return gather_in_rows(w, node)
    source = node.arguments[0]
    axis = axis_of(node) % len(argument_shape(w, node, 0))
    if source[0] == "node" and w.batch_axis[source[1]] == axis:
        raise ExportError(f"{node.name} picks images of the batch, which must stay free in ONNX")
    positions = typed(w, node, 1, INT64)
    if holds_table(w, node):
        return rows_of_table(w, node, positions)
    return w.emit("Gather", [typed(w, node, 0, type_of(node)), positions], node.name, axis=axis)


def gather_in_rows(w: Writer, node: Node) -> str:
    """(x, positions, axis, batch_dims): each row of the first axes has positions of its own."""
    rows = int(node.attributes.operator.get("batch_dims", node.attributes.constants[-1]))
    batch = [w.batch_axis[value] if kind == "node" else None for kind, value, *_ in node.arguments[:2]]
    if axis_of(node) % len(argument_shape(w, node, 0)) != rows or batch[0] != batch[1]:
        raise ExportError(
            f"{node.name} gathers for each row apart behind other axes, which has no ONNX form in autocomp"
        )
    column = w.emit("Unsqueeze", [typed(w, node, 1, INT64), w.constant([-1])], f"{node.name}.column")
    return w.emit("GatherND", [typed(w, node, 0, type_of(node)), column], node.name, batch_dims=rows)


def gather_elements(w: Writer, node: Node) -> str:
    """(x, axis, positions); positions that are the same for every image are spread over the batch."""
    axis = next(value for kind, value, *_ in node.arguments if kind == "constant" and type(value) is int)
    positions = typed(w, node, 2, INT64)
    kind, value, *_ = node.arguments[2]
    batch = w.batch_axis[w.position]
    if batch is not None and (kind != "node" or w.batch_axis[value] is None):
        size = w.emit("Shape", [operand(w, node)], f"{node.name}.batch", start=batch, end=batch + 1)
        parts = [w.constant([1] * count) for count in (batch, len(node.shape) - batch - 1)]
        shape = w.emit("Concat", [parts[0], size, parts[1]], f"{node.name}.shape", axis=0)
        positions = w.emit("Expand", [positions, shape], f"{node.name}.spread")
    return w.emit("GatherElements", [typed(w, node, 0, type_of(node)), positions], node.name, axis=axis)


def reverse(w: Writer, node: Node) -> str:
    """(x, axes)"""
    axes = next(value for value in node.attributes.constants if type(value) in (tuple, int))
    axes = [axis % len(node.shape) for axis in ((axes,) if isinstance(axes, int) else axes)]
    if w.batch_axis[w.position] in axes:
        raise ExportError(f"{node.name} turns the batch around, which must stay free in ONNX")
    count = len(axes)
    bounds = [w.constant(values) for values in ([-1] * count, [-END] * count, axes, [-1] * count)]
    return w.emit("Slice", [operand(w, node), *bounds], node.name)


def rolled(w: Writer, node: Node) -> str:
    """(x, shifts, axes)"""
    shifts, axes = (value for value in node.attributes.constants if isinstance(value, tuple))
    return along_axes(w, node, {a % len(node.shape): ("roll", shift) for a, shift in zip(axes, shifts, strict=True)})


def along_axes(w: Writer, node: Node, moves: dict[int, tuple[str, Any]]) -> str:
    """Each axis by positions: rolled by so many, or padded (before, after) by NumPy's mode."""
    found = operand(w, node)
    if w.batch_axis[w.position] in moves:
        raise ExportError(f"{node.name} moves the images of a batch, which must stay free in ONNX")
    for i, (axis, (how, amount)) in enumerate(moves.items()):
        places = np.arange(argument_shape(w, node, 0)[axis])
        places = np.roll(places, amount) if how == "roll" else np.pad(places, amount, mode=how)  # type: ignore[call-overload]
        name = node.name if i == len(moves) - 1 else f"{node.name}.{axis}"
        found = w.emit("Gather", [found, w.constant(places)], name, axis=axis)
    return found if moves else w.emit("Identity", [found], node.name)


def blocks(op: str) -> Any:
    def form(w: Writer, node: Node) -> str:
        size = int(node.attributes.operator["block_size"])
        return w.emit(op, [operand(w, node)], node.name, blocksize=size)

    return form


def triangle(upper: int) -> Any:
    """The diagonal is an attribute or an argument."""

    def form(w: Writer, node: Node) -> str:
        numbers = [value for value in node.attributes.constants if type(value) is int]
        diagonal = numbers[0] if numbers else int(node.attributes.operator.get("diagonal", 0))
        inputs = [typed(w, node, 0, type_of(node)), w.initializer(f"{node.name}.diagonal", np.int64(diagonal))]
        return w.emit("Trilu", inputs, node.name, upper=upper)

    return form


def one_hot(w: Writer, node: Node) -> str:
    """(positions, depth, on, off, axis)"""
    _, depth, on, off, axis = (value for _, value, *_ in node.arguments)
    values = np.array([np.asarray(off).item(), np.asarray(on).item()], type_of(node))
    inputs = [typed(w, node, 0, INT64), w.constant(depth), w.initializer(f"{node.name}.values", values)]
    return w.emit("OneHot", inputs, node.name, axis=int(axis))


def lookup(w: Writer, node: Node) -> str:
    """``EmbeddingLookup`` (table, positions, the table's first position)"""
    if any(node.attributes.constants[-1:]):
        raise ExportError(f"{node.name} looks up a part of a table, which has no ONNX form in autocomp")
    if holds_table(w, node):
        return rows_of_table(w, node, typed(w, node, 1, INT64))
    return w.emit("Gather", [typed(w, node, 0, type_of(node)), typed(w, node, 1, INT64)], node.name, axis=0)


def picked(w: Writer, node: Node) -> str:
    """``SelectExtView`` (x, axis, place)"""
    axis, place = (value for value in node.attributes.constants if type(value) is int)
    if w.batch_axis[node.inputs[0]] == axis % len(argument_shape(w, node, 0)):
        raise ExportError(f"{node.name} picks one image of the batch, which must stay free in ONNX")
    at = w.initializer(f"{node.name}.place", np.int64(place))
    return w.emit("Gather", [operand(w, node), at], node.name, axis=axis)


def narrowed(w: Writer, node: Node) -> str:
    """(x, axis, first, count)"""
    axis, first, count = (value for value in node.attributes.constants if type(value) is int)
    if w.batch_axis[w.position] == axis % len(node.shape):
        raise ExportError(f"{node.name} cuts the batch, which must stay free in ONNX")
    bounds = [w.constant(value) for value in ([first], [first + count], [axis])]
    return w.emit("Slice", [operand(w, node), *bounds], node.name)


def slices(w: Writer, node: Node) -> str:
    """``Slice`` (x, begin, size)."""
    begin = next(value for value in node.attributes.constants if isinstance(value, tuple))
    shape = argument_shape(w, node, 0)
    axes = [axis for axis in range(len(shape)) if node.shape[axis] != shape[axis]]
    if w.batch_axis[w.position] in axes:
        raise ExportError(f"{node.name} cuts the batch, which must stay free in ONNX")
    bounds = ([begin[axis] for axis in axes], [begin[axis] + node.shape[axis] for axis in axes], axes)
    if not axes:
        return w.emit("Identity", [operand(w, node)], node.name)
    return w.emit("Slice", [operand(w, node), *(w.constant(values) for values in bounds)], node.name)


def item(w: Writer, node: Node) -> str:
    """One of several outputs of an operator."""
    return w.emit("Identity", [operand(w, node)], node.name)


INDEXING: dict[str, Any] = {
    "Gather": gather,
    "GatherD": gather_elements,
    "ReverseV2": reverse,
    "Roll": rolled,
    "DepthToSpace": blocks("DepthToSpace"),
    "SpaceToDepth": blocks("SpaceToDepth"),
    "Tril": triangle(0),
    "Triu": triangle(1),
    "OneHot": one_hot,
    "Slice": slices,
    "EmbeddingLookup": lookup,
    "SelectExtView": picked,
    "Narrow": narrowed,
    "Item": item,
}
