"""The ONNX form of operators that read their tensors element by element: comparisons, choices, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.search_spaces import Argument, Node

from .onnx_types import BOOL, FLOAT, INT32, Type, argument_type, cast_to, common_type, type_of, typed

if TYPE_CHECKING:
    from .onnx_writer import Writer

Form = Callable[["Writer", Node], str]
TESTED = ("Equal", "And", "Or", "Xor")  # which ONNX defines for truth values


def unary(op: str, **attributes: Any) -> Form:
    return lambda w, node: w.emit(op, [typed(w, node, 0, type_of(node))], node.name, **attributes)


def binary(op: str) -> Form:
    """Both operands have the type of the result."""

    def form(w: Writer, node: Node) -> str:
        dtype = type_of(node)
        working = INT32 if dtype == BOOL else dtype
        name = node.name if working == dtype else f"{node.name}.number"
        found = w.emit(op, [typed(w, node, i, working) for i in (0, 1)], name)
        return found if working == dtype else cast_to(w, found, dtype, node.name)

    return form


def comparison(op: str, opposite: bool = False) -> Form:
    def form(w: Writer, node: Node) -> str:
        dtype = common_type(w, node)
        dtype = INT32 if dtype == BOOL and op not in TESTED else dtype
        name = f"{node.name}.same" if opposite else node.name
        found = w.emit(op, [typed(w, node, i, dtype) for i in (0, 1)], name)
        return w.emit("Not", [found], node.name) if opposite else found

    return form


def logical(op: str) -> Form:
    return lambda w, node: w.emit(op, [typed(w, node, i, BOOL) for i in (0, 1)], node.name)


def select(w: Writer, node: Node) -> str:
    """(condition, where it holds, where it does not)"""
    return w.emit("Where", [typed(w, node, 0, BOOL), *(typed(w, node, i, type_of(node)) for i in (1, 2))], node.name)


def masked_fill(w: Writer, node: Node) -> str:
    """(x, mask, value)"""
    dtype = type_of(node)
    return w.emit("Where", [typed(w, node, 1, BOOL), typed(w, node, 2, dtype), typed(w, node, 0, dtype)], node.name)


def clamp(w: Writer, node: Node) -> str:
    """(x, lowest or None, highest or None), numbers or tensors."""
    found, dtype = typed(w, node, 0, type_of(node)), type_of(node)
    given = [i for i in (1, 2) if node.attributes.arguments[i : i + 1] not in ((), (Argument("constant", None),))]
    for i in given:
        name = node.name if i == given[-1] else f"{node.name}.low"
        found = w.emit("Max" if i == 1 else "Min", [found, typed(w, node, i, dtype)], name)
    return found if given else w.emit("Identity", [found], node.name)


def shrink(soft: bool) -> Form:
    def form(w: Writer, node: Node) -> str:
        bound = _number(node, 0.5)
        return w.emit("Shrink", [typed(w, node, 0, FLOAT)], node.name, lambd=bound, bias=bound if soft else 0.0)

    return form


def _number(node: Node, default: float) -> float:
    return float(next((value for value in node.attributes.constants if isinstance(value, (int, float))), default))


def celu(w: Writer, node: Node) -> str:
    return w.emit("Celu", [typed(w, node, 0, FLOAT)], node.name, alpha=_number(node, 1.0))


def fast_gelu(w: Writer, node: Node) -> str:
    """x * sigmoid(1.702 x)"""
    x = typed(w, node, 0, FLOAT)
    scaled = w.emit("Mul", [x, w.constant(1.702, np.float32)], f"{node.name}.scaled")
    return w.emit("Mul", [x, w.emit("Sigmoid", [scaled], f"{node.name}.gate")], node.name)


def hard_tanh(w: Writer, node: Node) -> str:
    bounds = [float(value) for value in node.attributes.constants if isinstance(value, (int, float))] or [-1.0, 1.0]
    limits = [w.constant(bound, np.float32) for bound in bounds[:2]]
    return w.emit("Clip", [typed(w, node, 0, FLOAT), *limits], node.name)


def rounded(w: Writer, node: Node) -> str:
    """(x, decimals), a half to the even neighbour."""
    factor, x = 10.0 ** _number(node, 0), typed(w, node, 0, FLOAT)
    if factor == 1:
        return w.emit("Round", [x], node.name)
    scale = w.constant(factor, np.float32)
    whole = w.emit("Round", [w.emit("Mul", [x, scale], f"{node.name}.scaled")], f"{node.name}.whole")
    return w.emit("Div", [whole, scale], node.name)


def truncated(w: Writer, node: Node) -> str:
    x = typed(w, node, 0, FLOAT)
    whole = w.emit("Floor", [w.emit("Abs", [x], f"{node.name}.size")], f"{node.name}.whole")
    return w.emit("Mul", [w.emit("Sign", [x], f"{node.name}.sign"), whole], node.name)


def shifted(op: str, before: float = 0.0, after: float = 0.0) -> Form:
    """op(x + before) + after"""

    def form(w: Writer, node: Node) -> str:
        x = typed(w, node, 0, FLOAT)
        moved = w.emit("Add", [x, w.constant(before, np.float32)], f"{node.name}.moved") if before else x
        found = w.emit(op, [moved], f"{node.name}.value" if after else node.name)
        return w.emit("Add", [found, w.constant(after, np.float32)], node.name) if after else found

    return form


def remainder(w: Writer, node: Node) -> str:
    """With the sign of the divisor, as Python's."""
    dtype = type_of(node)
    x, y = (typed(w, node, i, dtype) for i in (0, 1))
    if dtype != FLOAT:
        return w.emit("Mod", [x, y], node.name)
    whole = w.emit("Floor", [w.emit("Div", [x, y], f"{node.name}.div")], f"{node.name}.whole")
    return w.emit("Sub", [x, w.emit("Mul", [whole, y], f"{node.name}.part")], node.name)


def floor_div(w: Writer, node: Node) -> str:
    dtype = type_of(node)
    x, y = (typed(w, node, i, dtype) for i in (0, 1))
    if dtype == FLOAT:
        return w.emit("Floor", [w.emit("Div", [x, y], f"{node.name}.div")], node.name)
    whole = w.emit("Sub", [x, w.emit("Mod", [x, y], f"{node.name}.rest")], f"{node.name}.multiple")
    return w.emit("Div", [whole, y], node.name)


def lerp(w: Writer, node: Node) -> str:
    """x + weight * (y - x)"""
    x, y, weight = (typed(w, node, i, FLOAT) for i in range(3))
    step = w.emit("Mul", [weight, w.emit("Sub", [y, x], f"{node.name}.difference")], f"{node.name}.step")
    return w.emit("Add", [x, step], node.name)


def add_product(op: str) -> Form:
    """x + value * op(a, b)"""

    def form(w: Writer, node: Node) -> str:
        x, a, b, value = (typed(w, node, i, FLOAT) for i in range(4))
        scaled = w.emit("Mul", [value, w.emit(op, [a, b], f"{node.name}.{op}")], f"{node.name}.scaled")
        return w.emit("Add", [x, scaled], node.name)

    return form


def cast(w: Writer, node: Node) -> str:
    """Numbers become truth values by being other than zero; every float is float32."""
    dtype = type_of(node)
    found = argument_type(w, node.arguments[0])
    op = "Identity" if found == dtype else "Cast"
    return cast_to(w, w.argument(node.arguments[0]), dtype, node.name) if op == "Cast" else w.emit(
        op, [w.argument(node.arguments[0])], node.name
    )  # fmt: skip


def filled(value: float | None = None) -> Form:
    """(shape, value): broadcast over the batch, whose size it does not know."""

    def form(w: Writer, node: Node) -> str:
        given = [c for c in node.attributes.constants if np.ndim(c) == 0 and not isinstance(c, (bool, type(None)))]
        fill = value if value is not None else np.asarray(given[0]).item()
        return w.initializer(node.name, np.full(node.shape, fill, _numpy(type_of(node))))

    return form


def _numpy(dtype: Type) -> Any:
    return dtype.type


def identity_matrix(w: Writer, node: Node) -> str:
    return w.initializer(node.name, np.eye(node.shape[0], node.shape[1], dtype=_numpy(type_of(node))))


COMPARISONS: dict[str, Form] = {
    "Greater": comparison("Greater"),
    "Less": comparison("Less"),
    "GreaterEqual": comparison("GreaterOrEqual"),
    "LessEqual": comparison("LessOrEqual"),
    "Equal": comparison("Equal"),
    "NotEqual": comparison("Equal", opposite=True),
    "LogicalAnd": logical("And"),
    "LogicalOr": logical("Or"),
    "LogicalXor": logical("Xor"),
    "LogicalNot": lambda w, node: w.emit("Not", [typed(w, node, 0, BOOL)], node.name),
    "IsNan": lambda w, node: w.emit("IsNaN", [typed(w, node, 0, FLOAT)], node.name),
    "IsInf": lambda w, node: w.emit("IsInf", [typed(w, node, 0, FLOAT)], node.name),
}
COMPARISONS |= {f"{op}Scalar": COMPARISONS[op] for op in ("Greater", "Less", "GreaterEqual", "LessEqual")}
COMPARISONS |= {"EqScalar": COMPARISONS["Equal"], "NeScalar": COMPARISONS["NotEqual"]}

ELEMENTWISE: dict[str, Form] = {
    **COMPARISONS,
    "Select": select,
    "MaskedFill": masked_fill,
    "ClampScalar": clamp,
    "ClampTensor": clamp,
    "HShrink": shrink(soft=False),
    "SoftShrink": shrink(soft=True),
    "SeLU": unary("Selu"),
    "CeLU": celu,
    "FastGeLU": fast_gelu,
    "Hardtanh": hard_tanh,
    "Sign": unary("Sign"),
    "Round": rounded,
    "Ceil": unary("Ceil"),
    "Trunc": truncated,
    "Log1p": shifted("Log", before=1.0),
    "Expm1": shifted("Exp", after=-1.0),
    **{op: unary(op) for op in ("Tan", "Asin", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")},
    "ACos": unary("Acos"),
    "PowTensorScalar": binary("Pow"),
    "PowScalarTensor": binary("Pow"),
    "FloorMod": remainder,
    "RemainderTensorScalar": remainder,
    "RemainderTensorTensor": remainder,
    "FloorDiv": floor_div,
    "Lerp": lerp,
    "LerpScalar": lerp,
    "Addcmul": add_product("Mul"),
    "Addcdiv": add_product("Div"),
    "Cast": cast,
    "FillV2": filled(),
    "Zeros": filled(0.0),
    "Ones": filled(1.0),
    "ZerosLike": filled(0.0),
    "OnesLike": filled(1.0),
    "Eye": identity_matrix,
}
