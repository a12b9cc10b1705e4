"""Inputs of layers that are divided by scales, or rounded with a range for each row, and products of such integers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer
from autocomp.search_spaces import Node

if TYPE_CHECKING:
    from .onnx_writer import Writer

WHOLE = ActivationQuantizer(1.0, 128, 8)  # of rows that are divided by their scales


def divided(w: Writer, source: str, state: LayerState, name: str) -> str:
    """The input of a layer, shifted and divided by the scales of its channels, where it has some; layers that read one
    tensor share the product."""
    if state.scale is None:
        return source
    moved = b"" if state.shift is None else state.shift.tobytes()
    key = f"{source}.divided.{(state.scale.tobytes() + moved).hex()}"
    if key not in w.shared:
        if state.shift is not None:
            shift = w.initializer(f"{name}#shift", state.shift.astype(np.float32))
            source = w.emit("Sub", [source, shift], f"{name}#shifted")
        factor = w.initializer(f"{name}#divided.factor", (1 / state.scale).astype(np.float32))
        w.shared[key] = w.emit("Mul", [source, factor], f"{name}#divided")
    return w.shared[key]


def rounded_by_row(w: Writer, source: str, bits: int, name: str) -> str:
    """Each row, with the scale of its own largest magnitude, in floats."""
    key = f"{source}.rounded"
    if key not in w.shared:
        parts, scale = _in_steps(w, source, bits, name)
        levels = w.emit("Round", [parts], f"{name}#levels")
        w.shared[key] = w.emit("Mul", [levels, scale], f"{name}#rounded")
    return w.shared[key]


def _in_steps(w: Writer, source: str, bits: int, name: str) -> tuple[str, str]:
    """The rows divided by their scales, and these, (..., 1)."""
    key = f"{source}.steps"
    if key not in w.shared:
        top = 2 ** (bits - 1) - 1
        sizes = w.emit("Abs", [source], f"{name}#sizes")
        largest = w.emit("ReduceMax", [sizes, w.constant([-1])], f"{name}#largest", keepdims=1)
        steps = w.emit("Mul", [largest, w.constant(1 / top, np.float32)], f"{name}#steps")
        w.shared[f"{key}.scale"] = w.emit("Max", [steps, w.constant(LEAST_SCALE, np.float32)], f"{name}#scale")
        w.shared[key] = w.emit("Div", [source, w.shared[f"{key}.scale"]], f"{name}#parts")
    return w.shared[key], w.shared[f"{key}.scale"]


def in_steps(state: LayerState) -> LayerState:
    """The layer as it reads rows that are divided by their scales: they are rounded to whole numbers. It has no bias,
    which is added to what it gives times the scales."""
    return replace(state, activation=WHOLE, row_bits=None, scale=None, bias=None)


def dense_of_rows(w: Writer, node: Node, state: LayerState) -> str:
    """A dense layer whose weights and rows onnxruntime multiplies as integers."""
    assert state.row_bits is not None
    name, source = node.name, divided(w, w.layer_source(node), state, node.name)
    parts, scale = _in_steps(w, source, state.row_bits, name)
    if f"{parts}.whole" not in w.shared:
        w.shared[f"{parts}.whole"] = w.rounded(parts, WHOLE, f"{name}#whole")
    weight = w.layer_weight(node, in_steps(state), columns=True)
    product = w.emit("MatMul", [w.shared[f"{parts}.whole"], weight], f"{name}.steps")
    if state.bias is None:
        return w.emit("Mul", [product, scale], name)
    bias = w.initializer(f"{node.layer}.bias", state.bias)
    return w.emit("Add", [w.emit("Mul", [product, scale], f"{name}.product"), bias], name)
