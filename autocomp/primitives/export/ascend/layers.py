"""How layers in integers are written for an Ascend: what both forms share.

A layer in integers reads a rounded input and gives floats: tensors between layers stay floats. Weights have a scale for
each output of a convolution, and one scale for a dense layer, which is all that the tools take. Scales for each output
of a dense layer are kept nevertheless: the layer runs with one scale, and a product behind it corrects the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.primitives.export.onnx_convolutions import conv as plain_conv
from autocomp.primitives.export.onnx_convolutions import transposed_conv, transposed_window
from autocomp.primitives.export.onnx_inputs import divided
from autocomp.primitives.export.onnx_operators import OPERATORS, constants
from autocomp.primitives.export.onnx_operators import dense as plain_dense
from autocomp.primitives.export.onnx_shapes import operand, source_shape
from autocomp.primitives.export.onnx_writer import Form, Style, Writer
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters
from autocomp.primitives.numerics.quantizers import MOST_BIAS, ActivationQuantizer, QuantizedWeight
from autocomp.primitives.tracing.weight_layout import groups_left, to_out_first_layout
from autocomp.search_spaces import Argument, NetworkGraph, Node

MOST = 127


class LayerWriter(Writer):
    """Writes layers in integers one by one; tensors between them are floats, and the opset is 18 until it is lowered.

    Two forms derive from it: they say how an input is rounded, how weight and bias are stored, and what follows a
    layer.
    """

    def __init__(self, graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights) -> None:
        super().__init__(graph, parameters, replace(compressed, tensors={}), Style(integer_weights=True))
        self.rounded_inputs: dict[tuple[str, ActivationQuantizer, bool], str] = {}

    def multiplies_integers(self, node: Node, state: LayerState) -> bool:
        """Whether the chip multiplies the integers: one scale for each output, no zero points, documented layers."""
        quantized = state.quantized
        if quantized is None or state.activation is None or not runs_in_integers(node):
            return False
        return quantized.scale.ndim == 1 and quantized.zero_point is None

    def state(self, layer: str) -> LayerState:
        state = super().state(layer)
        if state.row_bits is not None:
            raise ExportError(f"{layer} rounds each row of its input with a range of its own, which atc does not take")
        if not self.multiplies_integers(self.graph.nodes[self.graph.layers[layer]], state):
            return state
        return replace(state, quantized=filling_bytes(quantized_of(state), state.bias, output_scales(state)))

    def layer_input(self, node: Node, state: LayerState) -> str:
        source = self.argument(Argument("node", node.inputs[0], node.arguments[0].part))
        source = divided(self, source, state, node.name)
        if state.activation is None:
            return source
        key = (source, state.activation, self.multiplies_integers(node, state))
        if key not in self.rounded_inputs:
            round_input = self.integer_input if key[2] else self.simulated_input
            self.rounded_inputs[key] = round_input(source, state.activation, f"{node.name}#rounded")
        return self.rounded_inputs[key]

    def layer_weight(self, node: Node, state: LayerState, columns: bool = False) -> str:
        if not self.multiplies_integers(node, state):
            return super().layer_weight(node, state, columns)
        if node.weight not in self.weights:
            self.weights[node.weight] = self.integer_weight(node, state)
        return self.weights[node.weight]

    def simulated_input(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        """Rounded, and computed in floats: for a layer that the chip does not run in integers."""
        scale, (low, high) = np.float32(quantizer.scale), quantizer.bounds
        levels = self.emit("Mul", [source, self.constant(1 / scale, np.float32)], f"{name}.steps")
        levels = self.emit("Round", [levels], f"{name}.levels")
        bounds = [self.constant(low, np.float32), self.constant(high, np.float32)]
        return self.emit(
            "Mul", [self.emit("Clip", [levels, *bounds], f"{name}.clip"), self.constant(scale, np.float32)], name
        )

    def clipped_below_8_bits(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        """Both tools round to 8 bits: fewer levels need a clip before."""
        return source if quantizer.bits == 8 else self._clipped(source, quantizer, f"{name}.clip")

    # what a form defines ---------------------------------------------------------------------------------------------

    def integer_input(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        raise NotImplementedError

    def integer_weight(self, node: Node, state: LayerState) -> str:
        raise NotImplementedError

    def in_floats(self, node: Node, product: str, state: LayerState) -> str:
        """The layer's output in floats, from what the layer gives."""
        raise NotImplementedError


def runs_in_integers(node: Node) -> bool:
    """Whether the tools take the layer in integers: not a transposed convolution with a dilation."""
    return not (node.transposed and node.convolution.dilation != (1, 1))


def filling_bytes(weight: QuantizedWeight, bias: np.ndarray | None, steps: np.ndarray) -> QuantizedWeight:
    """The same weight with each output's integers times a whole factor, as large as a byte allows: of 4 bits 18 times
    larger, since they have a byte anyway. So biases, which are multiples of the scale, are rounded more finely.

    steps: (out,) what one step of the output is worth; a bias stays below 2^30 of them.
    """
    rows = weight.integers.reshape(len(weight.integers), -1).astype(np.int64)
    factor = MOST // np.maximum(np.abs(rows).max(1, initial=1), 1)
    if bias is not None:
        factor = np.minimum(factor, np.maximum(MOST_BIAS * steps / np.maximum(np.abs(bias), steps), 1).astype(np.int64))
    levels = (rows * factor[:, None]).astype(np.int8).reshape(weight.integers.shape)
    return QuantizedWeight(levels, (weight.scale / factor).astype(np.float32), 8)


def offset_of(quantizer: ActivationQuantizer) -> int:
    """The zero point of signed integers."""
    return int(quantizer.zero_point - 2 ** (quantizer.bits - 1))


def stored_layout(node: Node, state: LayerState) -> np.ndarray:
    """The integers of a weight in the layout of the operator in the file: (out, in / groups, kh, kw), of a transposed
    convolution (in, out / groups, kh, kw), of a dense layer (in, out)."""
    quantized = quantized_of(state)
    if node.kind == "dense":
        return np.ascontiguousarray(quantized.integers.T)
    groups = groups_left(node, len(quantized.integers))
    return to_out_first_layout(quantized.integers, groups) if node.transposed else quantized.integers


def quantized_of(state: LayerState) -> QuantizedWeight:
    assert state.quantized is not None
    return state.quantized


def output_scales(state: LayerState) -> np.ndarray:
    """(out,) float32: what one step of each output's integers is worth."""
    assert state.activation is not None
    return (np.float32(state.activation.scale) * quantized_of(state).scale).astype(np.float32)


def common_scale(scales: np.ndarray) -> np.float32:
    """The one scale of a dense layer: the median, so that the corrections are near 1 and fit into float16."""
    return np.float32(np.median(scales))


def conv(w: Writer, node: Node) -> str:
    assert isinstance(w, LayerWriter)
    if node.layer is None or not w.multiplies_integers(node, state := w.state(node.layer)):
        return (
            transposed_conv(w, node)
            if node.layer is None and node.op.startswith("Conv2D") and node.op != "Conv2D"
            else plain_conv(w, node)
        )
    if not node.transposed:
        return w.in_floats(node, plain_conv(w, node), state)
    inputs = [w.layer_input(node, state), w.layer_weight(node, state), *w.layer_bias(node, state)]
    return w.in_floats(node, transposed_window(w, node, inputs, groups_left(node, len(state.weight))), state)


def dense(w: Writer, node: Node) -> str:
    """``Gemm`` for a matrix, else ``MatMul`` with the bias added to its integers."""
    assert isinstance(w, LayerWriter)
    if node.layer is None or not w.multiplies_integers(node, state := w.state(node.layer)):
        return plain_dense(w, node)
    source, weight, bias = w.layer_input(node, state), w.layer_weight(node, state), w.layer_bias(node, state)
    if len(source_shape(w, node)) == 2:
        return w.in_floats(node, w.emit("Gemm", [source, weight, *bias], node.name), state)
    product = w.emit("MatMul", [source, weight], f"{node.name}.product" if bias else node.name)
    return w.in_floats(node, w.emit("Add", [product, *bias], node.name) if bias else product, state)


def layernorm(w: Writer, node: Node) -> str:
    """Its operators one by one: LayerNormalization came with opset 17."""
    rank, name = len(node.shape), node.name
    first, epsilon = int(constants(node)[0]) % rank, float(constants(node)[-1])
    axes: Any = {"axes": list(range(first, rank)), "keepdims": 1}
    x, gamma, beta = (operand(w, node, i) for i in range(3))
    centred = w.emit("Sub", [x, w.emit("ReduceMean", [x], f"{name}.mean", **axes)], f"{name}.centred")
    squares = w.emit("Mul", [centred, centred], f"{name}.squares")
    variance = w.emit("ReduceMean", [squares], f"{name}.variance", **axes)
    safe = w.emit("Add", [variance, w.constant(epsilon, np.float32)], f"{name}.safe")
    normal = w.emit("Div", [centred, w.emit("Sqrt", [safe], f"{name}.deviation")], f"{name}.normal")
    return w.emit("Add", [w.emit("Mul", [normal, gamma], f"{name}.scaled"), beta], name)


REPLACED: dict[Form, Form] = {plain_conv: conv, transposed_conv: conv, plain_dense: dense}
FORMS: dict[str, Form] = {op: REPLACED.get(form, form) for op, form in OPERATORS.items()} | {"LayerNorm": layernorm}
