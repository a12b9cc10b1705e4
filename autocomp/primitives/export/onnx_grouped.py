"""Convolutions with groups in the forms for which onnxruntime has fast kernels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, QuantizedWeight, saturates
from autocomp.search_spaces import Node, groups_together, groups_together_in_floats

if TYPE_CHECKING:
    from .onnx_writer import Writer

SIGN = 128


def repeated(w: Writer, node: Node, state: LayerState, source: str, groups: int) -> str:
    """The input of a convolution of each channel into several, with each channel as often as it is convolved: there are
    kernels for one output a channel alone."""
    places, name = np.repeat(np.arange(groups, dtype=np.int32), len(state.weight) // groups), f"{node.name}.repeated"
    found = w.emit("Gather", [source, w.initializer(f"{name}.channels", places)], name, axis=1)
    if not w.multiplies_integers(node, state):
        return found
    assert state.activation is not None
    return w.rounded(found, replace(state.activation, bits=8), f"{name}#rounded")  # within the bounds already


def conv_in_blocks(w: Writer, node: Node, state: LayerState, window: dict[str, Any]) -> str:
    """A convolution with groups, in integers: one convolution for as many groups as make it wide, with zeros between
    them, or several side by side. They read parts of the integers that are stored, and their integers are joined."""
    name, width, groups = node.name, state.weight.shape[1], node.groups
    source, together = w.layer_input(node, state), int(groups_together(groups, width))
    count = groups // together
    weights = _weights(w, node, state, together)
    if count == 1:
        return w.emit("Conv", [source, weights[0], *w.layer_bias(node, state)], name, **window)
    assert state.activation is not None
    rows = np.arange(len(state.weight)).reshape(count, -1)
    read, written = _Grid(w, state.activation, f"{name}.parts"), _Grid.of_output(w, f"{name}.blocks")
    split = [read.levels(source, f"{name}.levels"), w.constant([together * width] * count)]
    parts = _outputs(w.emit("Split", split, f"{name}.parts", outputs=count, axis=1), count)
    found = []
    for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        inputs = [read.floats(part, f"{name}.part{i}"), weight, *w.layer_bias(*_block(node, state, rows[i], i))]
        block = w.emit("Conv", inputs, f"{name}.block{i}", **window)
        found.append(block if written is None else written.levels(block, f"{block}.levels"))
    if written is None:
        return w.emit("Concat", found, name, axis=1)
    return written.floats(w.emit("Concat", found, f"{name}.joined", axis=1), name)


def _weights(w: Writer, node: Node, state: LayerState, together: int) -> list[str]:
    """The weight of each block."""
    assert state.quantized is not None
    name, outputs = node.weight, len(state.weight)
    count = node.groups // together
    rows = np.arange(outputs).reshape(count, -1)
    names = [f"{name}.{i}" for i in range(count)]
    if names[0] in w.weights:  # the layer runs more than once
        return [w.weights[one] for one in names]
    before = len(w.nodes)
    quantized = state.quantized.with_positive_scale()
    unsigned = w.compressed.int16_sums and saturates(_apart(quantized, node.groups, together))
    kind = np.dtype(np.uint8 if unsigned else np.int8)
    stored = w.stored(name, quantized.integers.view(kind), quantized.bits)
    if quantized.bits <= 4:
        stored = w.emit("Cast", [stored], f"{name}.int8", to=TensorProto.INT8)
    if together > 1:
        stored = _with_zeros(w, node, state, stored, together, -np.eye(together, dtype=np.int8).view(kind))
    if unsigned:  # as -128 to 127 are 0 to 255
        stored = w.emit("BitwiseXor", [stored, w.initializer(f"{name}.sign", np.uint8(SIGN))], f"{name}.unsigned")
    blocks = [stored]
    if count > 1:
        sizes = w.constant([outputs // count] * count)
        blocks = _outputs(w.emit("Split", [stored, sizes], f"{name}.blocks", outputs=count, axis=0), count)
    for i, (block, one) in enumerate(zip(blocks, names, strict=True)):
        inputs = [block, w.initializer(f"{one}.scale", quantized.scale[rows[i]])]
        if unsigned:
            inputs.append(w.initializer(f"{one}.zero_points", np.full(outputs // count, SIGN, np.uint8)))
        w.weights[one] = w.emit("DequantizeLinear", inputs, f"{one}.float", axis=0)
    w.unpacking += w.nodes[before:]
    del w.nodes[before:]
    return [w.weights[one] for one in names]


def wide_weight(w: Writer, node: Node, state: LayerState) -> tuple[str, int]:
    """The weight of a convolution with groups in floats, and how many groups it has left: so few that they are wide."""
    groups, (outputs, width, *_) = node.groups, state.weight.shape
    together = int(groups_together_in_floats(groups, width, outputs // groups))
    weight, name = w.layer_weight(node, state), f"{node.weight}.whole"
    if together > 1 and name not in w.weights:  # else the layer runs more than once
        before = len(w.nodes)
        w.weights[name] = _with_zeros(w, node, state, weight, together, np.eye(together, dtype=np.float32))
        w.unpacking += w.nodes[before:]
        del w.nodes[before:]
    return w.weights.get(name, weight), groups // together


def _with_zeros(w: Writer, node: Node, state: LayerState, weight: str, together: int, mask: np.ndarray) -> str:
    """The weight of convolutions with fewer groups, (out, together * in / groups, ...). The file holds no zeros: they
    are put between the groups when it is loaded. mask: (together, together), what keeps numbers and what does not."""
    name, (outputs, width, *kernel) = node.weight, state.weight.shape
    parted = w.constant([node.groups // together, together, outputs // node.groups, 1, width * math.prod(kernel)])
    diagonal = w.initializer(f"{name}.diagonal", mask.reshape(together, 1, together, 1))
    weight = w.emit("Reshape", [weight, parted], f"{name}.parted")
    weight = w.emit("Mul" if mask.dtype.kind == "f" else "BitwiseAnd", [weight, diagonal], f"{name}.apart")
    return w.emit("Reshape", [weight, w.constant([outputs, together * width, *kernel])], f"{name}.whole")


def _apart(quantized: QuantizedWeight, groups: int, together: int) -> QuantizedWeight:
    """With zeros between the groups of each block, (out, together * in / groups, ...)."""
    parted = quantized.integers.reshape(groups // together, together, len(quantized.integers) // groups, 1, -1)
    whole = parted * np.eye(together, dtype=np.int8).reshape(together, 1, together, 1)
    return replace(quantized, integers=whole.reshape(len(quantized.integers), -1, *quantized.integers.shape[2:]))


def _block(node: Node, state: LayerState, rows: np.ndarray, i: int) -> tuple[Node, LayerState]:
    """A block as a layer, for its bias."""
    assert state.quantized is not None
    kept = np.isin(np.arange(len(state.weight)), rows)
    bias = None if state.bias is None else state.bias[rows]
    return replace(node, layer=f"{node.layer}.{i}"), replace(state, quantized=state.quantized.rows(kept), bias=bias)


def _outputs(first: str, count: int) -> list[str]:
    return [first, *(f"{first}:{i}" for i in range(1, count))]


class _Grid:
    """Rounding of several tensors with one scale and one zero point."""

    def __init__(self, w: Writer, quantizer: ActivationQuantizer, name: str) -> None:
        self.w = w
        scale, zero = np.float32(quantizer.scale), np.uint8(quantizer.zero_point)
        self.numbers = [w.initializer(f"{name}.scale", scale), w.initializer(f"{name}.zero_point", zero)]

    @classmethod
    def of_output(cls, w: Writer, name: str) -> _Grid | None:
        """As the present node's output will be rounded; None where it stays in floats."""
        quantizer = w.compressed.tensors.get(w.flow.end[w.position])
        return None if quantizer is None else cls(w, quantizer, name)

    def levels(self, source: str, name: str) -> str:
        return self.w.emit("QuantizeLinear", [source, *self.numbers], name)

    def floats(self, levels: str, name: str) -> str:
        return self.w.emit("DequantizeLinear", [levels, *self.numbers], name)
