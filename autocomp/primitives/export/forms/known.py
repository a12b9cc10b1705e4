"""Tensors of a graph whose numbers are known before it runs, such as places that the code gives as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Argument, Node

if TYPE_CHECKING:
    from ..onnx_writer import Writer

MOVED = ("Reshape", "ExpandDims", "Squeeze", "Cast", "Identity")  # whose numbers keep their order


def known(w: Writer, argument: Argument) -> np.ndarray | None:
    """The argument's numbers; None where they depend on an input of the network, or on an operator not read here."""
    kind, value, *_ = argument
    if kind == "node":
        return _of_node(w, w.graph.nodes[value])
    if kind == "parameter":
        return np.asarray(w.parameters[value])
    return np.asarray(value) if kind == "constant" and isinstance(value, (int, float, np.ndarray)) else None


def _of_node(w: Writer, node: Node) -> np.ndarray | None:
    if not node.arguments or node.op == "Input":
        return None
    if node.op in ("Concat", "Stack", "StackExt", "Add"):
        return _joined(w, node)
    source = known(w, node.arguments[0])
    if source is None or node.op not in (*MOVED, "BroadcastTo", "StridedSlice", "Transpose"):
        return None
    if source.size and (source == source.flat[0]).all():  # as the zeros that a recurrent layer starts from
        return np.full(node.shape, source.flat[0], source.dtype)
    if node.op in MOVED:
        return source.reshape(node.shape)
    return np.broadcast_to(source, node.shape) if node.op == "BroadcastTo" else None


def _joined(w: Writer, node: Node) -> np.ndarray | None:
    first = node.arguments[0]
    parts = [known(w, part) for part in (first.value if first.kind == "tuple" else node.arguments[:2])]
    if any(part is None for part in parts):
        return None
    if node.op == "Add":
        return np.asarray(parts[0] + parts[1])  # type: ignore[operator]
    axis = last_axis(node)
    return np.stack(parts, axis) if node.op.startswith("Stack") else np.concatenate(parts, axis)  # type: ignore[arg-type]


def last_axis(node: Node) -> int:
    """Of a concatenation, not negative."""
    given = node.attributes.operator.get("axis", 0)
    axis = next((value for value in node.attributes.constants if type(value) is int), given)
    return int(axis) % len(node.shape)
