"""The ONNX form of running products, maxima and medians along one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from ..onnx_shapes import END
from ..onnx_types import INT64, Type, cast_to, type_of, typed
from .known import known

if TYPE_CHECKING:
    from ..onnx_writer import Writer


def _axis(w: Writer, node: Node) -> int:
    """The one that the operator runs along."""
    given = node.attributes.operator.get("axis")
    found = known(w, node.arguments[1]) if given is None else given
    axis = int(np.asarray(found)) % len(node.shape)
    if w.batch_axis[w.position] == axis:
        raise ExportError(f"{node.name} runs along the batch, which must stay free in ONNX")
    return axis


def running(w: Writer, source: str, name: str, op: str, axis: int, shape: tuple[int, ...], first: Any) -> str:
    """In steps of 1, 2, 4, ...: each number takes in what stands so far before it (Hillis and Steele, CACM 1986).

    first: what stands before all numbers.
    """
    step, size = 1, shape[axis]
    while step < size:
        before = _shifted(w, source, f"{name}.{step}", (axis, len(shape)), step, first)
        step *= 2
        source = _combined(w, op, [source, before], name if step >= size else f"{name}.{step}.so_far")
    return source if size > 1 else w.emit("Identity", [source], name)


def _combined(w: Writer, op: str, names: list[str], name: str) -> str:
    if op != "LogAddExp":
        return w.emit(op, names, name)
    top = w.emit("Max", names, f"{name}.top")
    parts = [w.emit("Exp", [w.emit("Sub", [part, top], f"{name}.{i}.less")], f"{name}.{i}.exp")
             for i, part in enumerate(names)]  # fmt: skip
    return w.emit("Add", [top, w.emit("Log", [w.emit("Add", parts, f"{name}.sum")], f"{name}.log")], name)


def _shifted(w: Writer, source: str, name: str, axis_of_rank: tuple[int, int], step: int, first: Any) -> str:
    """Moved on by so many places; ``first`` stands in those at the start."""
    axis, rank = axis_of_rank
    kept = w.emit("Slice", [source, *(w.constant(v) for v in ([0], [-step], [axis]))], f"{name}.kept")
    fill = w.initializer(f"{name}.first", first)
    pads = [step if i == axis else 0 for i in range(2 * rank)]
    return w.emit("Pad", [kept, w.constant(pads), fill], f"{name}.before")


def _turned(w: Writer, source: str, name: str, axis: int) -> str:
    return w.emit("Slice", [source, *(w.constant(v) for v in ([-1], [-END], [axis], [-1]))], name)


def cumulative(op: str, first: float) -> Any:
    """(x, axis, exclusive, reverse): what an operator makes of all numbers so far."""

    def form(w: Writer, node: Node) -> str:
        axis, dtype, a = _axis(w, node), type_of(node), node.attributes.operator
        flags = [value for value in node.attributes.constants if isinstance(value, bool)]
        exclusive, reverse = flags[:2] if len(flags) > 1 else (a.get("exclusive", False), a.get("reverse", False))
        source, start = typed(w, node, 0, dtype), np.asarray(first, dtype)
        source = _turned(w, source, f"{node.name}.turned", axis) if reverse else source
        source = (
            _shifted(w, source, f"{node.name}.exclusive", (axis, len(node.shape)), 1, start) if exclusive else source
        )
        name = f"{node.name}.running" if reverse else node.name
        found = running(w, source, name, op, axis, node.shape, start)
        return _turned(w, found, node.name, axis) if reverse else found

    return form


def extreme(op: str) -> Any:
    """(x, axis): the greatest or the smallest number so far, and where it stands, the last of equals."""

    def form(w: Writer, node: Node) -> tuple[str, str]:
        axis, dtype, size = _axis(w, node), type_of(node), node.shape[_axis(w, node)]
        source = typed(w, node, 0, dtype)
        found = running(w, source, node.name, op, axis, node.shape, _end(dtype, op == "Min"))
        here = w.emit("Equal", [source, found], f"{node.name}.here")
        steps = w.constant(np.arange(size).reshape([-1] + [1] * (len(node.shape) - 1 - axis)))
        places = w.emit("Where", [here, steps, w.initializer(f"{node.name}.0", np.int64(0))], f"{node.name}.places")
        last = running(w, places, f"{node.name}.last", "Max", axis, node.shape, np.int64(0))
        return found, cast_to(w, last, type_of(node, 1), f"{node.name}.place")

    return form


def _end(dtype: Type, largest: bool) -> Any:
    """The largest or the smallest number of a type."""
    if dtype.kind == "f":
        return np.asarray(np.inf if largest else -np.inf, dtype)
    return np.asarray(np.iinfo(dtype).max if largest else np.iinfo(dtype).min, dtype)


def median(w: Writer, node: Node) -> tuple[str, str]:
    """The lower of the two in the middle, and where it stands."""
    a = node.attributes.operator
    if a["global_median"] or a["ignore_nan"]:
        raise ExportError(f"{node.name} takes the median of all numbers, or of those not NaN, which has no ONNX form")
    before = w.graph.nodes[node.inputs[0]].shape
    axis, dtype = a["axis"] % len(before), type_of(node)
    if w.batch_axis[node.inputs[0]] == axis:
        raise ExportError(f"{node.name} takes the median of the batch, which must stay free in ONNX")
    count = (before[axis] + 1) // 2
    inputs = [typed(w, node, 0, dtype), w.constant([count])]
    lowest = w.emit("TopK", inputs, f"{node.name}.lowest", outputs=2, axis=axis, largest=0)
    parts = []
    for i, source in enumerate((lowest, f"{lowest}:1")):
        name = node.name if not i else f"{node.name}.place"
        bounds = [w.constant(value) for value in ([count - 1], [count], [axis])]
        last = w.emit("Slice", [source, *bounds], name if a["keep_dims"] else f"{name}.kept")
        parts.append(last if a["keep_dims"] else w.emit("Squeeze", [last, w.constant([axis])], name))
    return parts[0], parts[1] if type_of(node, 1) == INT64 else cast_to(
        w, parts[1], type_of(node, 1), f"{node.name}.position"
    )


RUNNING: dict[str, Any] = {
    "CumProd": cumulative("Mul", 1.0),
    "CumulativeLogsumexp": cumulative("LogAddExp", -np.inf),
    "Cummax": extreme("Max"),
    "Cummin": extreme("Min"),
    "Median": median,
}
