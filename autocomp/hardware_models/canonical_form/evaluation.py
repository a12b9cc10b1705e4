"""What a few operators compute, on a sample of the tensor that they read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from autocomp.search_spaces import Argument, Node

from .functions import ACTIVATIONS, erf

UNARY: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    **ACTIVATIONS,
    "ReLUExt": ACTIVATIONS["ReLU"],
    "GeluExt": ACTIVATIONS["GeLU"],
    "FastGeLU": ACTIVATIONS["GeLU"],
    "Exp": np.exp,
    "Log": np.log,
    "Log1p": np.log1p,
    "Expm1": np.expm1,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Neg": np.negative,
    "Square": np.square,
    "Abs": np.abs,
    "Erf": erf,
    "Reciprocal": lambda x: 1 / x,
    "Inverse": lambda x: 1 / x,
    "Cast": lambda x: x,
    "Identity": lambda x: x,
}
BINARY: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    **dict.fromkeys(("Add", "AddExt", "InplaceAddExt", "InplaceAddsExt", "AddScalar", "BiasAdd"), np.add),
    **dict.fromkeys(("Sub", "SubExt", "InplaceSubExt", "SubScalar"), np.subtract),
    **dict.fromkeys(("Mul", "Muls", "InplaceMul", "InplaceMuls"), np.multiply),
    **dict.fromkeys(("Div", "RealDiv", "Divs", "InplaceDiv", "InplaceDivs"), np.divide),
    **dict.fromkeys(("Pow", "PowTensorScalar", "PowScalarTensor"), np.power),
    "Maximum": np.maximum,
    "Minimum": np.minimum,
}
BOUNDED = ("Clamp", "ClampScalar", "ClampTensor", "HardTanh", "Hardtanh")
REDUCED: Mapping[str, Callable[..., np.ndarray]] = {
    **dict.fromkeys(("ReduceMean", "MeanExt"), np.mean),
    **dict.fromkeys(("ReduceSum", "SumExt"), np.sum),
    "ReduceMax": np.max,
}
KNOWN = frozenset({*UNARY, *BINARY, *BOUNDED, *REDUCED})
NEUTRAL_ZERO = ("Add", "Sub", "BiasAdd")  # beginnings of the operators that a parameter of zeros leaves as they are


class Unknown(Exception):
    """The operators cannot be computed on a sample."""


def axes_of(node: Node) -> tuple[int, ...]:
    """The axes of a reduction that keeps their place. Unknown where it does not, or where the axes are not known."""
    given = [a.value for a in node.arguments if a.kind == "constant"]
    axes = given[0] if given else node.attributes.operator.get("axis")
    keeps = any(value is True for value in given) or bool(node.attributes.operator.get("keep_dims", False))
    if axes is None or not keeps:
        raise Unknown
    return tuple(int(axis) % len(node.shape) for axis in np.ravel(np.asarray(axes)))


def evaluate(nodes: Mapping[int, Node], order: Collection[int], source: int, sample: np.ndarray) -> np.ndarray:
    """The last node's value, where ``source`` has the value ``sample``; parameters scale by one and shift by zero."""
    values = {source: sample}
    with np.errstate(all="ignore"):
        for i in order:
            values[i] = _value(nodes[i], values)
    return values[i]


def _value(node: Node, values: Mapping[int, np.ndarray]) -> np.ndarray:
    given = [_operand(node, argument, values) for argument in node.arguments]
    if node.op in UNARY:
        return UNARY[node.op](given[0])
    if node.op in REDUCED:
        return np.asarray(REDUCED[node.op](given[0], axis=axes_of(node), keepdims=True))
    if node.op in BOUNDED:
        low, high = (one if one is not None else bound for one, bound in zip(given[1:3], (-1.0, 1.0), strict=True))
        return np.clip(given[0], low, high)
    if len(given) < 2 or given[0] is None or given[1] is None:
        raise Unknown
    return BINARY[node.op](given[0], given[1])


def _operand(node: Node, argument: Argument, values: Mapping[int, np.ndarray]) -> Any:
    if argument.kind == "node":
        return values[argument.value]
    if argument.kind == "parameter":
        return 0.0 if node.op.removeprefix("Inplace").startswith(NEUTRAL_ZERO) else 1.0
    value = argument.value
    if (
        argument.kind == "constant"
        and value is not None
        and not isinstance(value, (str, tuple))
        and np.size(value) == 1
    ):
        return float(np.ravel(np.asarray(value, float))[0])
    return None
