"""The ONNX form of operators that reduce axes, find or order what lies along one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.primitives.tracing.batch_axis import reduced_axes
from autocomp.search_spaces import Node

from .onnx_shapes import argument_shape
from .onnx_types import BOOL, FLOAT, INT32, Type, cast_to, type_of, typed

if TYPE_CHECKING:
    from .onnx_writer import Writer

Form = Callable[["Writer", Node], "str | tuple[str, ...]"]


def axes_of(w: Writer, node: Node) -> tuple[int, ...]:
    """Axes that it reduces, not negative; the batch may be among them, whatever its size."""
    rank = len(argument_shape(w, node, 0))
    return tuple(axis % rank for axis in reduced_axes(node) or range(rank))


def _keeps(w: Writer, node: Node) -> int:
    """Of one axis, reduced, the graph writes the shape (1,) either way."""
    before = argument_shape(w, node, 0)
    flags = [value for value in node.attributes.constants if isinstance(value, bool)]
    kept = node.attributes.operator.get("keep_dims", next(iter(flags), False))
    return int(len(before) == len(node.shape) and (len(before) > 1 or bool(kept)))


def reduce(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        axes, dtype = w.constant(axes_of(w, node)), type_of(node)
        if op == "ReduceMean" and axes_of(w, node) == (2, 3) and len(argument_shape(w, node, 0)) == 4:
            return _mean_of_images(w, node)
        return w.emit(op, [typed(w, node, 0, dtype), axes], node.name, keepdims=_keeps(w, node))

    return form


def _mean_of_images(w: Writer, node: Node) -> str:
    """The pool, which runtimes have in integers, too."""
    name = node.name if _keeps(w, node) else f"{node.name}.pool"
    pool = w.emit("GlobalAveragePool", [typed(w, node, 0, FLOAT)], name)
    return pool if _keeps(w, node) else w.emit("Squeeze", [pool, w.constant([2, 3])], node.name)


def truth(op: str) -> Form:
    """Whether any, or all, are true, counted in integers."""

    def form(w: Writer, node: Node) -> str:
        axes, keeps = w.constant(axes_of(w, node)), _keeps(w, node)
        numbers = cast_to(w, typed(w, node, 0, BOOL), INT32, f"{node.name}.numbers")
        return cast_to(w, w.emit(op, [numbers, axes], f"{node.name}.count", keepdims=keeps), BOOL, node.name)

    return form


def deviation(w: Writer, node: Node) -> tuple[str, str]:
    """(x, axes, unbiased, keepdims): the standard deviation and the mean."""
    x, name, found = typed(w, node, 0, FLOAT), node.name, axes_of(w, node)
    flags = [value for value in node.attributes.constants if isinstance(value, bool)] + [True]
    axes, keeps = w.constant(found), _keeps(w, node)
    centred = w.emit("Sub", [x, w.emit("ReduceMean", [x, axes], f"{name}.centre", keepdims=1)], f"{name}.centred")
    squares = w.emit("ReduceSumSquare", [centred, axes], f"{name}.squares", keepdims=keeps)
    sizes = w.emit("Gather", [w.emit("Shape", [x], f"{name}.shape"), w.constant(found)], f"{name}.sizes")
    count = cast_to(w, w.emit("ReduceProd", [sizes], f"{name}.count", keepdims=0), FLOAT, f"{name}.counted")
    freedom = w.emit("Sub", [count, w.constant(int(flags[0]), np.float32)], f"{name}.freedom")
    variance = w.emit("Div", [squares, freedom], f"{name}.variance")
    return w.emit("Sqrt", [variance], name), w.emit("ReduceMean", [x, axes], f"{name}.mean", keepdims=keeps)


def position(op: str) -> Form:
    """(x, axis, ...): where the largest or smallest lies, the first of equals."""
    return lambda w, node: _position(w, node, op, typed(w, node, 0, _source_type(node)), node.name)


def _source_type(node: Node) -> Type:
    return FLOAT


def _position(w: Writer, node: Node, op: str, x: str, name: str) -> str:
    axes = axes_of(w, node)
    if len(axes) != 1:
        raise ExportError(f"{node.name} finds one place in several axes, which has no ONNX form in autocomp")
    found = w.emit(op, [x], f"{name}.place", axis=axes[0], keepdims=_keeps(w, node))
    return cast_to(w, found, type_of(node), name)


def position_and_value(op: str, value: str) -> Form:
    def form(w: Writer, node: Node) -> tuple[str, str]:
        x = typed(w, node, 0, type_of(node, 1))
        place = _position(w, node, op, x, node.name)
        axes = w.constant(axes_of(w, node))
        return place, w.emit(value, [x, axes], f"{node.name}.value", keepdims=_keeps(w, node))

    return form


def value_and_position(op: str, value: str) -> Form:
    """``MaxDim``, ``MinDim``: the other way round."""

    def form(w: Writer, node: Node) -> tuple[str, str]:
        axes = w.constant(axes_of(w, node))
        x = typed(w, node, 0, type_of(node))
        found = w.emit(value, [x, axes], node.name, keepdims=_keeps(w, node))
        at = w.emit(op, [x], f"{node.name}.place", axis=axes_of(w, node)[0], keepdims=_keeps(w, node))
        return found, cast_to(w, at, type_of(node, 1), f"{node.name}.position")

    return form


def top(w: Writer, node: Node) -> tuple[str, str]:
    """``TopK`` (x, k) of the last axis; ``TopkExt`` (x, k, axis, largest, sorted)."""
    values = node.attributes.constants
    count = next(int(value) for value in values if type(value) is int or isinstance(value, np.ndarray))
    whole = [value for value in values if type(value) is int]
    flags = [value for value in values if isinstance(value, bool)]
    axis = whole[1] if node.op == "TopkExt" and len(whole) > 1 else -1
    return _ordered(w, node, count, axis, flags[0] if flags else True)


def ordered(w: Writer, node: Node) -> tuple[str, str]:
    """``Sort`` by attributes; ``SortExt`` (x, axis, descending, stable)."""
    a, values = node.attributes.operator, node.attributes.constants
    axis = a.get("axis", next((value for value in values if type(value) is int), -1))
    descending = a.get("descending", next((value for value in values if isinstance(value, bool)), False))
    return _ordered(w, node, node.shape[axis], axis, descending)


def _ordered(w: Writer, node: Node, count: int, axis: int, largest: bool) -> tuple[str, str]:
    source = node.inputs and w.batch_axis[node.inputs[0]] == axis % len(node.shape)
    if source:
        raise ExportError(f"{node.name} orders the images of a batch, which must stay free in ONNX")
    inputs = [typed(w, node, 0, type_of(node)), w.constant(count)]
    found = w.emit("TopK", inputs, node.name, outputs=2, axis=axis, largest=int(largest))
    return found, cast_to(w, f"{found}:1", type_of(node, 1), f"{node.name}.places")


def cumulative_sum(w: Writer, node: Node) -> str:
    """(x, axis, exclusive, reverse)"""
    axis = next(value for value in node.attributes.constants if type(value) is int)
    flags = [int(value) for value in node.attributes.constants if isinstance(value, bool)] + [0, 0]
    inputs = [typed(w, node, 0, type_of(node)), w.constant(axis)]
    return w.emit("CumSum", inputs, node.name, exclusive=flags[0], reverse=flags[1])


REDUCTIONS: dict[str, Any] = {
    "ReduceMean": reduce("ReduceMean"),
    "MeanExt": reduce("ReduceMean"),
    "ReduceMax": reduce("ReduceMax"),
    "ReduceMin": reduce("ReduceMin"),
    "Max": reduce("ReduceMax"),
    "Min": reduce("ReduceMin"),
    "ReduceSum": reduce("ReduceSum"),
    "SumExt": reduce("ReduceSum"),
    "ReduceProd": reduce("ReduceProd"),
    "ProdExt": reduce("ReduceProd"),
    "ReduceAny": truth("ReduceMax"),
    "ReduceAll": truth("ReduceMin"),
    "ReduceStd": deviation,
    "Argmax": position("ArgMax"),
    "Argmin": position("ArgMin"),
    "ArgMaxWithValue": position_and_value("ArgMax", "ReduceMax"),
    "ArgMinWithValue": position_and_value("ArgMin", "ReduceMin"),
    "MaxDim": value_and_position("ArgMax", "ReduceMax"),
    "MinDim": value_and_position("ArgMin", "ReduceMin"),
    "TopK": top,
    "TopkExt": top,
    "Sort": ordered,
    "SortExt": ordered,
    "CumSum": cumulative_sum,
    "CumsumExt": cumulative_sum,
}
