"""The ONNX form of functions of one or two numbers that ONNX has no operator for, and of operators on bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from ..onnx_shapes import parts_of
from ..onnx_types import BOOL, FLOAT, INT64, cast_to, common_type, element_type, type_of, typed
from .known import known

if TYPE_CHECKING:
    from ..onnx_writer import Writer

Form = Callable[["Writer", Node], str]
LARGEST = float(np.finfo(np.float32).max)


def _number(w: Writer, value: float) -> str:
    return w.constant(value, np.float32)


def _floats(w: Writer, node: Node, count: int = 2) -> list[str]:
    return [typed(w, node, i, FLOAT) for i in range(count)]


def _same_type(w: Writer, node: Node) -> list[str]:
    dtype = common_type(w, node)
    return [typed(w, node, i, dtype) for i in (0, 1)]


def atan2(w: Writer, node: Node) -> str:
    """(y, x): the angle of the point (x, y); of the origin 0."""
    (y, x), name = _floats(w, node), node.name
    zero, origin = _number(w, 0.0), w.emit("Equal", [x, _number(w, 0.0)], f"{name}.upright")
    safe = w.emit("Where", [origin, _number(w, 1.0), x], f"{name}.safe")
    angle = w.emit("Atan", [w.emit("Div", [y, safe], f"{name}.slope")], f"{name}.angle")
    below = w.emit("Less", [y, zero], f"{name}.below")
    turn = w.emit("Where", [below, _number(w, -math.pi), _number(w, math.pi)], f"{name}.turn")
    left = w.emit("Where", [w.emit("Less", [x, zero], f"{name}.left"), turn, zero], f"{name}.back")
    around = w.emit("Add", [angle, left], f"{name}.around")
    half = w.emit("Mul", [w.emit("Sign", [y], f"{name}.sign"), _number(w, math.pi / 2)], f"{name}.half")
    return w.emit("Where", [origin, half, around], name)


def hypot(w: Writer, node: Node) -> str:
    """sqrt(x^2 + y^2)"""
    squares = [w.emit("Mul", [part, part], f"{node.name}.{i}") for i, part in enumerate(_floats(w, node))]
    return w.emit("Sqrt", [w.emit("Add", squares, f"{node.name}.sum")], node.name)


def erfc(w: Writer, node: Node) -> str:
    """1 - erf(x)"""
    return w.emit("Sub", [_number(w, 1.0), w.emit("Erf", _floats(w, node, 1), f"{node.name}.erf")], node.name)


def logit(w: Writer, node: Node) -> str:
    """(x, epsilon): log(x / (1 - x)), x clipped to epsilon from 0 and 1; not clipped for a negative epsilon or None."""
    source, name = _floats(w, node, 1)[0], node.name
    given = [value for value in node.attributes.constants if isinstance(value, float)]
    epsilon = given[0] if given else node.attributes.operator.get("eps", -1.0)
    if epsilon >= 0:
        source = w.emit("Clip", [source, _number(w, epsilon), _number(w, 1 - epsilon)], f"{name}.clipped")
    rest = w.emit("Sub", [_number(w, 1.0), source], f"{name}.rest")
    return w.emit("Log", [w.emit("Div", [source, rest], f"{name}.odds")], name)


def sinc(w: Writer, node: Node) -> str:
    """sin(pi x) / (pi x); 1 at 0."""
    scaled = w.emit("Mul", [*_floats(w, node, 1), _number(w, math.pi)], f"{node.name}.scaled")
    zero = w.emit("Equal", [scaled, _number(w, 0.0)], f"{node.name}.zero")
    safe = w.emit("Where", [zero, _number(w, 1.0), scaled], f"{node.name}.safe")
    ratio = w.emit("Div", [w.emit("Sin", [scaled], f"{node.name}.sin"), safe], f"{node.name}.ratio")
    return w.emit("Where", [zero, _number(w, 1.0), ratio], node.name)


def divided(w: Writer, node: Node) -> str:
    """``DivMod`` (x, y, mode): the quotient as it is, towards 0 (1), or down (2)."""
    modes = [value for value in node.attributes.constants if type(value) is int]
    x, y = _floats(w, node) if type_of(node) == FLOAT else _same_type(w, node)
    if type_of(node) != FLOAT:
        raise ExportError(f"{node.name} divides integers and rounds, which has no ONNX form in autocomp: use x // y")
    ratio = w.emit("Div", [x, y], f"{node.name}.ratio")
    if modes[-1:] == [2]:
        return w.emit("Floor", [ratio], node.name)
    whole = w.emit("Floor", [w.emit("Abs", [ratio], f"{node.name}.size")], f"{node.name}.whole")
    return w.emit("Mul", [w.emit("Sign", [ratio], f"{node.name}.sign"), whole], node.name)


def modulo(w: Writer, node: Node) -> str:
    """With the sign of the dividend, as C's fmod."""
    dtype = type_of(node)
    return w.emit("Mod", [typed(w, node, i, dtype) for i in (0, 1)], node.name, fmod=1)


def heaviside(w: Writer, node: Node) -> str:
    """(x, y): 0 for negative x, 1 for positive x, y at 0."""
    x, y = _floats(w, node)
    above = w.emit("Cast", [w.emit("Greater", [x, _number(w, 0.0)], f"{node.name}.above")], f"{node.name}.step", to=1)
    return w.emit("Where", [w.emit("Equal", [x, _number(w, 0.0)], f"{node.name}.zero"), y, above], node.name)


def finite_numbers(w: Writer, node: Node) -> str:
    """``NanToNum`` (x, for NaN, for infinity, for minus infinity), by default 0 and the ends of float32."""
    found, name = _floats(w, node, 1)[0], node.name
    given = [*node.attributes.constants[-3:]]
    values = [default if value is None else float(value) for value, default in zip(given, (0.0, LARGEST, -LARGEST),
              strict=True)]  # fmt: skip
    for i, (op, flags) in enumerate(
        (("IsNaN", {}), ("IsInf", {"detect_negative": 0}), ("IsInf", {"detect_positive": 0}))
    ):
        here = w.emit(op, [found], f"{name}.test{i}", **flags)
        found = w.emit("Where", [here, _number(w, values[i]), found], name if i == 2 else f"{name}.{i}")
    return found


def is_finite(w: Writer, node: Node) -> str:
    source = typed(w, node, 0, FLOAT)
    either = [w.emit(op, [source], f"{node.name}.{op}") for op in ("IsNaN", "IsInf")]
    return w.emit("Not", [w.emit("Or", either, f"{node.name}.either")], node.name)


def is_close(w: Writer, node: Node) -> str:
    """(x, y, rtol, atol, equal_nan): |x - y| <= atol + rtol |y|"""
    (x, y), name = _floats(w, node), node.name
    relative, absolute = [value for value in node.attributes.constants if isinstance(value, float)][-2:]
    distance = w.emit("Abs", [w.emit("Sub", [x, y], f"{name}.difference")], f"{name}.distance")
    share = w.emit("Mul", [w.emit("Abs", [y], f"{name}.size"), _number(w, relative)], f"{name}.share")
    near = w.emit(
        "LessOrEqual", [distance, w.emit("Add", [share, _number(w, absolute)], f"{name}.bound")], f"{name}.near"
    )
    same = w.emit("Or", [near, w.emit("Equal", [x, y], f"{name}.equal")], f"{name}.same")
    if True not in node.attributes.constants[-1:]:
        return w.emit("Identity", [same], name)
    both = w.emit("And", [w.emit("IsNaN", [part], f"{name}.nan{i}") for i, part in enumerate((x, y))], f"{name}.both")
    return w.emit("Or", [same, both], name)


def without_nan(op: str) -> Form:
    """The larger or smaller number; of a number and NaN the number."""

    def form(w: Writer, node: Node) -> str:
        x, y = _floats(w, node)
        found = w.emit(op, [x, y], f"{node.name}.found")
        kept = w.emit("Where", [w.emit("IsNaN", [x], f"{node.name}.x"), y, found], f"{node.name}.kept")
        return w.emit("Where", [w.emit("IsNaN", [y], f"{node.name}.y"), x, kept], node.name)

    return form


def bitwise(name: str) -> Form:
    """Of truth values the operator of logic."""

    def form(w: Writer, node: Node) -> str:
        dtype = type_of(node)
        op = name if dtype == BOOL else f"Bitwise{name}"
        return w.emit(op, [typed(w, node, i, dtype) for i in (0, 1)], node.name)

    return form


def shifted_bits(left: bool) -> Form:
    """Times a power of two, or divided by it and rounded down; counts are at most 30."""

    def form(w: Writer, node: Node) -> str:
        dtype, name = type_of(node), node.name
        two = w.initializer(f"{name}.2", np.asarray(2, np.float64))
        power = w.emit("Pow", [two, typed(w, node, 1, np.dtype(np.float64))], f"{name}.power")
        factor = cast_to(w, power, dtype, f"{name}.factor")
        if left:
            return w.emit("Mul", [typed(w, node, 0, dtype), factor], name)
        rest = w.emit("Mod", [typed(w, node, 0, dtype), factor], f"{name}.rest")
        return w.emit("Div", [w.emit("Sub", [typed(w, node, 0, dtype), rest], f"{name}.whole"), factor], name)

    return form


def sum_of_all(w: Writer, node: Node) -> str:
    """``AddN``, ``AccumulateNV2``: a tuple of tensors."""
    return w.emit("Sum", [w.argument(part) for part in parts_of(node)], node.name)


def glu(w: Writer, node: Node) -> str:
    """(x, axis): the first half times the sigmoid of the second."""
    numbers = [value for value in node.attributes.constants if type(value) is int]
    axis, size = (numbers or [-1])[0], node.shape[(numbers or [-1])[0]]
    halves = [
        w.emit("Slice", [*_floats(w, node, 1), *(w.constant(v) for v in ([i * size], [(i + 1) * size], [axis]))],
               f"{node.name}.half{i}")
        for i in (0, 1)
    ]  # fmt: skip
    return w.emit("Mul", [halves[0], w.emit("Sigmoid", halves[1:], f"{node.name}.gate")], node.name)


def softplus(w: Writer, node: Node) -> str:
    """(x, beta, threshold): log(1 + exp(beta x)) / beta; x where beta x is above the threshold."""
    numbers = [float(value) for value in node.attributes.constants if type(value) in (int, float)]
    (beta, threshold), source = (numbers + [1.0, 20.0][len(numbers) :])[:2], _floats(w, node, 1)[0]
    scaled = w.emit("Mul", [source, _number(w, beta)], f"{node.name}.scaled")
    soft = w.emit("Div", [w.emit("Softplus", [scaled], f"{node.name}.soft"), _number(w, beta)], f"{node.name}.back")
    large = w.emit("Greater", [scaled, _number(w, threshold)], f"{node.name}.large")
    return w.emit("Where", [large, source, soft], node.name)


def searched(w: Writer, node: Node) -> str:
    """``SearchSorted`` (bounds in order, x, ..., right): how many bounds lie below; with right also those equal."""
    bounds = known(w, node.arguments[0])
    if bounds is None or bounds.ndim != 1:
        raise ExportError(f"{node.name} searches bounds that are computed, or of several rows, which has no ONNX form")
    column = w.emit("Unsqueeze", [typed(w, node, 1, FLOAT), w.constant([-1])], f"{node.name}.column")
    op = "GreaterOrEqual" if True in node.attributes.constants[-1:] else "Greater"
    above = w.emit(op, [column, w.initializer(f"{node.name}.bounds", bounds.astype(np.float32))], f"{node.name}.above")
    counts = w.emit("Cast", [above], f"{node.name}.counts", to=element_type(INT64))
    total = w.emit("ReduceSum", [counts, w.constant([-1])], f"{node.name}.total", keepdims=0)
    return cast_to(w, total, type_of(node), node.name)


FUNCTIONS: dict[str, Any] = {
    "Atan2": atan2,
    "Hypot": hypot,
    "Erfc": erfc,
    "Logit": logit,
    "Sinc": sinc,
    "DivMod": divided,
    "Mod": modulo,
    "Heaviside": heaviside,
    "NanToNum": finite_numbers,
    "IsFinite": is_finite,
    "IsClose": is_close,
    "Fmax": without_nan("Max"),
    "Fmin": without_nan("Min"),
    "BitwiseAnd": bitwise("And"),
    "BitwiseOr": bitwise("Or"),
    "BitwiseXor": bitwise("Xor"),
    "LeftShift": shifted_bits(left=True),
    "RightShift": shifted_bits(left=False),
    "AddN": sum_of_all,
    "AccumulateNV2": sum_of_all,
    "GLU": glu,
    "SoftplusExt": softplus,
    "SearchSorted": searched,
}
