"""The ONNX form of operators on matrices: diagonals, bands, products and distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from ..onnx_shapes import argument_shape, operand, parts_of, sizes
from ..onnx_types import FLOAT, type_of, typed
from .known import known

if TYPE_CHECKING:
    from ..onnx_writer import Writer


def diagonal(w: Writer, node: Node) -> str:
    """(x, offset, axis, axis): the diagonal becomes the last axis."""
    offset, *axes = (value for value in node.attributes.constants if type(value) is int)
    shape = argument_shape(w, node, 0)
    first, second = (axis % len(shape) for axis in axes)
    rows, columns = shape[first], shape[second]
    if w.batch_axis[node.inputs[0]] in (first, second):
        raise ExportError(f"{node.name} takes a diagonal through the batch, which must stay free in ONNX")
    others = [axis for axis in range(len(shape)) if axis not in (first, second)]
    turned = w.emit("Transpose", [operand(w, node)], f"{node.name}.turned", perm=[*others, first, second])
    flat = [*sizes(w, node)[:-1], rows * columns]
    line = w.emit("Reshape", [turned, w.constant(flat)], f"{node.name}.line")
    places = np.flatnonzero(np.eye(rows, columns, offset).ravel())
    return w.emit("Gather", [line, w.constant(places)], node.name, axis=-1)


def on_diagonal(w: Writer, node: Node) -> str:
    """``MatrixSetDiagV3`` (x (..., n, n), diagonal (..., n), 0)"""
    rows, columns = node.shape[-2:]
    if rows != columns or np.any(known(w, node.arguments[2]) != 0):
        raise ExportError(f"{node.name} sets another diagonal than that of a square matrix, which has no ONNX form")
    dtype = type_of(node)
    column = w.emit("Unsqueeze", [typed(w, node, 1, dtype), w.constant([-1])], f"{node.name}.column")
    here = w.initializer(f"{node.name}.here", np.eye(rows, dtype=bool))
    return w.emit("Where", [here, column, typed(w, node, 0, dtype)], node.name)


def trace(w: Writer, node: Node) -> str:
    """Of a matrix: the sum of its diagonal."""
    rows, columns = argument_shape(w, node, 0)
    ones = w.initializer(f"{node.name}.ones", np.eye(rows, columns).astype(type_of(node)))
    found = w.emit("Mul", [typed(w, node, 0, type_of(node)), ones], f"{node.name}.diagonal")
    return w.emit("ReduceSum", [found], node.name, keepdims=0)


def band(w: Writer, node: Node) -> str:
    """(x, below, above): zeros farther from the diagonal; a negative number keeps all on its side."""
    below, above = (int(np.asarray(known(w, node.arguments[i]))) for i in (1, 2))
    found = typed(w, node, 0, type_of(node))
    for upper, keeps, name in ((1, -below, f"{node.name}.below"), (0, above, node.name)):
        if (below if upper else above) < 0:
            found = w.emit("Identity", [found], name)
        else:
            found = w.emit("Trilu", [found, w.initializer(f"{name}.diagonal", np.int64(keeps))], name, upper=upper)
    return found


def cross(w: Writer, node: Node) -> str:
    """(x, y, axis) of 3 numbers."""
    axis = int(node.attributes.constants[-1])
    parts = [
        [w.emit("Gather", [typed(w, node, i, type_of(node)), w.constant(order)], f"{node.name}.{i}{way}", axis=axis)
         for way, order in (("on", [1, 2, 0]), ("back", [2, 0, 1]))]
        for i in (0, 1)
    ]  # fmt: skip
    (x_on, x_back), (y_on, y_back) = parts
    products = [w.emit("Mul", [x_on, y_back], f"{node.name}.plus"), w.emit("Mul", [x_back, y_on], f"{node.name}.minus")]
    return w.emit("Sub", products, node.name)


def distances(w: Writer, node: Node) -> str:
    """``Cdist`` (x (..., p, m), y (..., r, m), norm): (..., p, r)"""
    given = [value for value in node.attributes.constants if isinstance(value, float)]
    norm = given[-1] if given else float(node.attributes.operator.get("p", 2.0))
    pairs = [w.emit("Unsqueeze", [typed(w, node, i, FLOAT), w.constant([axis])], f"{node.name}.{i}")
             for i, axis in ((0, -2), (1, -3))]  # fmt: skip
    return lengths(w, w.emit("Sub", pairs, f"{node.name}.apart"), node.name, norm, [-1], 0)


def lengths(w: Writer, source: str, name: str, norm: float, axes: list[int], keeps: int) -> str:
    """The norm of what lies along these axes."""
    at, size = w.constant(axes), w.emit("Abs", [source], f"{name}.size")
    if norm in (1.0, 2.0):
        return w.emit(f"ReduceL{int(norm)}", [source, at], name, keepdims=keeps)
    if np.isinf(norm):
        return w.emit("ReduceMax" if norm > 0 else "ReduceMin", [size, at], name, keepdims=keeps)
    powers = w.emit("Pow", [size, w.constant(norm, np.float32)], f"{name}.powers")
    total = w.emit("ReduceSum", [powers, at], f"{name}.total", keepdims=keeps)
    return w.emit("Pow", [total, w.constant(1 / norm, np.float32)], name)


def lp_norm(w: Writer, node: Node) -> str:
    a = node.attributes.operator
    axes = [a["axis"]] if isinstance(a["axis"], int) else list(a["axis"])
    return lengths(w, operand(w, node), node.name, float(a["p"]), axes, int(a["keep_dims"]))


def einsum(w: Writer, node: Node) -> str:
    names = [w.argument(part) for part in parts_of(node)]
    return w.emit("Einsum", names, node.name, equation=str(node.attributes.operator["equation"]))


def grid(w: Writer, node: Node) -> tuple[str, ...]:
    """``Meshgrid`` of lines that are known, and whether the first two axes are swapped."""
    lines = [known(w, part) for part in parts_of(node)]
    if any(line is None for line in lines):
        raise ExportError(f"{node.name} makes a grid of lines that are computed, which has no ONNX form in autocomp")
    swapped = node.attributes.constants[-1] in (1, "xy")
    arrays = np.meshgrid(*lines, indexing="xy" if swapped else "ij")  # type: ignore[arg-type]
    return tuple(w.initializer(f"{node.name}.{i}", array) for i, array in enumerate(arrays))


def even_steps(w: Writer, node: Node) -> str:
    """``LinSpace`` (first, last, count)"""
    first, last = (known(w, node.arguments[i]) for i in (0, 1))
    if first is None or last is None:
        raise ExportError(
            f"{node.name} makes steps between numbers that are computed, which has no ONNX form in autocomp"
        )
    steps = np.linspace(first, last, node.shape[-1], axis=-1, dtype=np.float32)
    return w.initializer(node.name, steps)


MATRICES: dict[str, Any] = {
    "Diagonal": diagonal,
    "MatrixSetDiagV3": on_diagonal,
    "Trace": trace,
    "MatrixBandPart": band,
    "Cross": cross,
    "Cdist": distances,
    "LpNorm": lp_norm,
    "Einsum": einsum,
    "Meshgrid": grid,
    "LinSpace": even_steps,
}
