"""Products of attention that read keys and values from a cache in integers, as :class:`IntegerCache` rounds them.

Each token and head has a scale. What a token reads of itself is not rounded: the cache takes it only afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Node, RoundedRead

from .onnx_types import shared

if TYPE_CHECKING:
    from .onnx_writer import Writer

LEAST = 1e-8  # a scale: what is all zeros stays so


def cached_product(w: Writer, node: Node, operands: list[str], read: RoundedRead) -> str:
    """operands: (..., tokens, depth) and keys (..., depth, tokens), or (..., tokens, tokens) and values
    (..., tokens, depth)."""
    name, (left, right) = node.name, operands
    rounded = _rounded(w, right, read, f"{name}.cache")
    tokens = node.shape[-2]
    own = shared(w, f"{name}.own", np.eye(tokens, dtype=bool))
    if read.keys:
        exact = w.emit("MatMul", operands, f"{name}.exact")
        return w.emit("Where", [own, exact, w.emit("MatMul", [left, rounded], f"{name}.rounded")], name)
    shares = w.emit("Where", [own, left, w.constant(0, np.float32)], f"{name}.shares")
    share = w.emit("ReduceSum", [shares, w.constant([-1])], f"{name}.share", keepdims=1)
    lost = w.emit("Mul", [share, w.emit("Sub", [right, rounded], f"{name}.lost")], f"{name}.back")
    return w.emit("Add", [w.emit("MatMul", [left, rounded], f"{name}.rounded"), lost], name)


def _rounded(w: Writer, source: str, read: RoundedRead, name: str) -> str:
    """To the nearest of the levels of each token and head, around zero."""
    axes, top = w.constant([-2 if read.keys else -1]), 2 ** (read.bits - 1) - 1
    largest = w.emit("ReduceMax", [w.emit("Abs", [source], f"{name}.size"), axes], f"{name}.largest", keepdims=1)
    step = w.emit("Mul", [largest, w.constant(1 / top, np.float32)], f"{name}.step")
    scale = w.emit("Max", [step, w.constant(LEAST, np.float32)], f"{name}.scale")
    levels = w.emit("Round", [w.emit("Div", [source, scale], f"{name}.steps")], f"{name}.levels")
    return w.emit("Mul", [levels, scale], f"{name}.floats")
