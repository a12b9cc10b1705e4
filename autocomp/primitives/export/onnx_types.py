"""Element types: every float of a graph is float32 in ONNX, integers and truth values stay, and where MindSpore
promotes an operand of another type, a Cast does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from autocomp.search_spaces import SMALL, Node

if TYPE_CHECKING:
    from .onnx_writer import Writer

FLOAT, INT32, INT64, BOOL = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64), np.dtype(bool)
Type = np.dtype[Any]


def type_of(node: Node, part: int = 0) -> Type:
    """The type of an operator's output number ``part``."""
    names = node.attributes.dtypes
    return _in_onnx(np.dtype(names[part])) if part < len(names) else FLOAT


def _in_onnx(dtype: Type) -> Type:
    return FLOAT if dtype.kind == "f" else dtype


def argument_type(w: Writer, argument: tuple[Any, ...]) -> Type | None:
    """The type of a tensor; None for a Python number, which takes the type of the other operand."""
    kind, value, *rest = argument
    if kind == "node":
        return type_of(w.graph.nodes[value], rest[0] if rest else 0)
    if kind == "parameter":
        return _in_onnx(w.parameters[value].dtype)
    return _in_onnx(value.dtype) if isinstance(value, np.ndarray) else None


def common_type(w: Writer, node: Node, count: int = 2) -> Type:
    """The type in which an operator compares its first operands."""
    arguments = node.arguments[:count]
    types = [found for argument in arguments if (found := argument_type(w, argument)) is not None]
    if any(kind == "constant" and isinstance(value, float) for kind, value, *_ in arguments):
        types.append(FLOAT)
    return _in_onnx(np.result_type(*types)) if types else FLOAT


def shared(w: Writer, name: str, array: np.ndarray) -> str:
    """The tensor that has these numbers already, or a new one of this name: each block has the same mask and the same
    rotary tables. Small ones, which share little, keep names of their own."""
    if array.nbytes <= SMALL:
        return w.initializer(name, array)
    key = array.dtype.str, array.shape, array.tobytes()
    if key not in w.held:
        w.held[key] = w.initializer(name, array)
    return w.held[key]


def typed(w: Writer, node: Node, position: int, dtype: Type) -> str:
    """The argument at this position, of this type."""
    argument = node.arguments[position]
    if argument[0] == "constant" and isinstance(argument[1], (int, float, np.ndarray)):
        return shared(w, f"{node.name}.argument{position}", np.asarray(argument[1]).astype(dtype))
    found = argument_type(w, argument)
    name = w.argument(argument)
    return name if found in (None, dtype) else cast_to(w, name, dtype, f"{node.name}.cast{position}")


def cast_to(w: Writer, source: str, dtype: Type, name: str) -> str:
    return w.emit("Cast", [source], name, to=helper.np_dtype_to_tensor_dtype(dtype))


def element_type(dtype: Type) -> int:
    """ONNX's number of it."""
    return int(helper.np_dtype_to_tensor_dtype(dtype))
