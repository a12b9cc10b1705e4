"""The ONNX form of operators that read or write at places: ``x[:, [0, 2]]``, ``x[:, 1:3] = y``, ``x[rows, lengths]``.

MindSpore writes the places of all indexed axes, the batch among them, as one tensor (..., axes): traced at batch 1 the
batch's part of it is zeros. Here the batch's part is left out, so that the batch stays free.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Argument, Node

from ..onnx_shapes import argument_shape, operand
from ..onnx_types import INT64, type_of, typed
from .known import known, last_axis

if TYPE_CHECKING:
    from ..onnx_writer import Writer


def gather_points(w: Writer, node: Node) -> str:
    """(x, places (..., axes))"""
    found, names = known(w, node.arguments[1]), [typed(w, node, 0, type_of(node)), typed(w, node, 1, INT64)]
    batch = _batch(w, node.arguments[0])
    if batch is None or batch >= _depth(w, node):
        return w.emit("GatherND", names, node.name)
    _check_batch(w, node, batch)
    if found is not None:
        return _picked(w, node, names[0], np.moveaxis(found[0, ..., 1:], -1, 0))
    ends = [w.constant(value) for value in ([1], [_depth(w, node)], [-1])]
    places = w.emit("Slice", [names[1], *ends], f"{node.name}.places")
    return w.emit("GatherND", [names[0], places], node.name, batch_dims=1)


def _batch(w: Writer, argument: Argument) -> int | None:
    """The batch axis of the data; 0 of a constant that the network makes for each image."""
    if argument.kind == "node" and w.graph.fed[argument.value]:
        return w.batch_axis[argument.value]
    shape = w.graph.nodes[argument.value].shape if argument.kind == "node" else np.shape(argument.value)
    return 0 if w.batch_axis[w.position] == 0 and shape[:1] == (1,) else None


def _depth(w: Writer, node: Node) -> int:
    """How many axes the places name."""
    return argument_shape(w, node, 1)[-1]


def _check_batch(w: Writer, node: Node, batch: int) -> None:
    """ExportError unless every image of the batch is read, or written, at places of its own."""
    own = _first_part(w, node.arguments[1])
    if batch or w.batch_axis[w.position] != 0 or own is None or own.any():
        raise ExportError(f"{node.name} picks single elements of a batch, which must stay free in ONNX")


def _first_part(w: Writer, places: Argument) -> np.ndarray | None:
    """The places in the first axis, where they are known."""
    whole = known(w, places)
    if whole is not None:
        return whole[..., 0]
    node = w.graph.nodes[places.value]
    if node.op not in ("Concat", "Stack", "StackExt") or last_axis(node) != len(node.shape) - 1:
        return None
    parts: Any = node.arguments[0].value
    first = known(w, parts[0])
    return first if first is None or node.op.startswith("Stack") else first[..., 0]


def _picked(w: Writer, node: Node, source: str, places: np.ndarray) -> str:
    """places: (axes, ...) without the batch."""
    shape = argument_shape(w, node, 0)
    lines = _lines(places)
    if lines is not None:
        moved = {i + 1: line for i, line in enumerate(lines) if not _is_whole(line, shape[i + 1])}
        for axis, line in moved.items():
            name = node.name if axis == max(moved) else f"{node.name}.{axis}"
            source = w.emit("Gather", [source, w.constant(line)], name, axis=axis)
        return source if moved else w.emit("Identity", [source], node.name)
    inner, rest = shape[1 : len(places) + 1], shape[len(places) + 1 :]
    flat = w.emit("Reshape", [source, w.constant([-1, math.prod(inner), *rest])], f"{node.name}.flat")
    numbers = np.ravel_multi_index(tuple(_positive(places, inner)), inner)
    found = w.emit("Gather", [flat, w.constant(numbers.ravel())], f"{node.name}.picked", axis=1)
    return w.emit("Reshape", [found, w.constant([-1, *node.shape[1:]])], node.name)


def _positive(places: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    return places % np.array(sizes).reshape(-1, *[1] * (places.ndim - 1))


def _lines(places: np.ndarray) -> list[np.ndarray] | None:
    """The places in each axis apart, where every combination of them is picked."""
    if places.ndim != len(places) + 1:
        return None
    lines = [np.moveaxis(part, i, 0).reshape(part.shape[i], -1)[:, 0] for i, part in enumerate(places)]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"))
    return lines if np.array_equal(grid, places) else None


def _is_whole(line: np.ndarray, size: int) -> bool:
    return np.array_equal(line, np.arange(size))


def scatter_points(w: Writer, node: Node) -> str:
    """(x, places (..., axes), what is written there (..., rest))"""
    dtype, places = type_of(node), known(w, node.arguments[1])
    names = [typed(w, node, 0, dtype), typed(w, node, 1, INT64), typed(w, node, 2, dtype)]
    if w.batch_axis[w.position] is None:
        return w.emit("ScatterND", names, node.name)
    _check_batch(w, node, 0)
    if places is None:
        raise ExportError(f"{node.name} writes at places that are computed, which has no ONNX form in autocomp")
    return _written(w, node, (names[0], names[2]), np.moveaxis(places[0, ..., 1:], -1, 0))


def _written(w: Writer, node: Node, names: tuple[str, str], places: np.ndarray) -> str:
    """Every element is chosen from what is written, or stays."""
    shape, depth = node.shape, len(places)
    inner, rest = shape[1 : depth + 1], shape[depth + 1 :]
    numbers = np.ravel_multi_index(tuple(_positive(places, inner)), inner).ravel()
    order = np.full(math.prod(inner), -1)
    order[numbers] = np.arange(numbers.size)
    flat = w.emit("Reshape", [names[1], w.constant([-1, numbers.size, *rest])], f"{node.name}.flat")
    moved = w.emit("Gather", [flat, w.constant(np.maximum(order, 0))], f"{node.name}.moved", axis=1)
    there = w.emit("Reshape", [moved, w.constant([-1, *shape[1:]])], f"{node.name}.there")
    mask = w.initializer(f"{node.name}.mask", (order >= 0).reshape(1, *inner, *[1] * len(rest)))
    return w.emit("Where", [mask, there, names[0]], node.name)


def scatter_elements(w: Writer, node: Node) -> str:
    """``TensorScatterElements`` (x, places, values, axis, added or not), ``Scatter`` (x, axis, places, values, ...)."""
    ordered = node.op == "TensorScatterElements"
    places, values = (1, 2) if ordered else (2, 3)
    numbers = [value for value in node.attributes.constants if type(value) is int]
    axis, how = [*numbers, 0, 0][:2]
    dtype = type_of(node)
    inputs = [typed(w, node, 0, dtype), typed(w, node, places, INT64), typed(w, node, values, dtype)]
    batch = w.batch_axis[w.position]
    shared = any(_batch(w, node.arguments[i]) is None for i in (0, places, values))
    if batch is not None and (shared or axis % len(node.shape) == batch):
        raise ExportError(f"{node.name} writes at the same places for every image, which has no ONNX form in autocomp")
    return w.emit("ScatterElements", inputs, node.name, axis=axis, reduction="add" if how else "none")


def index_fill(w: Writer, node: Node) -> str:
    """(x, axis, places, value)"""
    rank, dtype = len(node.shape), type_of(node)
    axis = int(np.asarray(known(w, node.arguments[1]))) % rank
    if w.batch_axis[w.position] == axis:
        raise ExportError(f"{node.name} fills images of the batch, which must stay free in ONNX")
    lines = w.constant(np.arange(node.shape[axis])[:, None])
    same = w.emit("Equal", [lines, typed(w, node, 2, INT64)], f"{node.name}.same")
    counts = w.emit("Cast", [same], f"{node.name}.counts", to=7)
    some = w.emit("ReduceMax", [counts, w.constant([1])], f"{node.name}.some", keepdims=0)
    column = w.emit("Reshape", [some, w.constant([-1] + [1] * (rank - 1 - axis))], f"{node.name}.column")
    mask = w.emit("Cast", [column], f"{node.name}.mask", to=9)
    return w.emit("Where", [mask, typed(w, node, 3, dtype), typed(w, node, 0, dtype)], node.name)


def reverse_sequence(w: Writer, node: Node) -> str:
    """Along ``seq_dim`` the first numbers of each image, as many as its length, turned around."""
    a, rank = node.attributes.operator, len(node.shape)
    time, batch = a["seq_dim"] % rank, a["batch_dim"] % rank
    column = [1 if axis != batch else -1 for axis in range(rank)]
    lengths = w.emit("Reshape", [typed(w, node, 1, INT64), w.constant(column)], f"{node.name}.lengths")
    steps = np.arange(node.shape[time]).reshape([-1 if axis == time else 1 for axis in range(rank)])
    turned = w.emit("Sub", [w.emit("Sub", [lengths, w.constant(1)], f"{node.name}.last"), w.constant(steps)],
                    f"{node.name}.turned")  # fmt: skip
    inside = w.emit("Less", [w.constant(steps), lengths], f"{node.name}.inside")
    places = w.emit("Where", [inside, turned, w.constant(steps)], f"{node.name}.places")
    spread = w.emit(
        "Expand", [places, w.emit("Shape", [operand(w, node)], f"{node.name}.shape")], f"{node.name}.spread"
    )
    return w.emit("GatherElements", [operand(w, node), spread], node.name, axis=time)


PLACES: dict[str, Any] = {
    "GatherNd": gather_points,
    "TensorScatterUpdate": scatter_points,
    "TensorScatterElements": scatter_elements,
    "Scatter": scatter_elements,
    "IndexFill": index_fill,
    "ReverseSequence": reverse_sequence,
}
