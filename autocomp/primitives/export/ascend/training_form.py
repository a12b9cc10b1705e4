"""The form that ``amct_onnx.convert_qat_model`` converts: QuantizeLinear and DequantizeLinear at the layers.

Both stand at a layer's input, with one scale, and at its weight, which is a constant in floats: the tool computes its
integers. Biases are floats.
"""

from __future__ import annotations

import numpy as np
import onnx

from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, QuantizedWeight
from autocomp.search_spaces import NetworkGraph, Node

from .layers import FORMS, LayerWriter, common_scale, offset_of, output_scales, quantized_of, stored_layout
from .opset import lowered, with_batch


class TrainingWriter(LayerWriter):
    """Layers in integers behind pairs of QuantizeLinear and DequantizeLinear."""

    def multiplies_integers(self, node: Node, state: LayerState) -> bool:
        """A transposed convolution in groups has no axis along which ONNX could scale each of its outputs."""
        return super().multiplies_integers(node, state) and not (node.transposed and node.groups > 1)

    def integer_input(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        source = self.clipped_below_8_bits(source, quantizer, name)
        zero = np.int8(offset_of(quantizer))
        return self._pair(source, np.asarray(quantizer.scale, np.float32), np.asarray(zero), name)

    def integer_weight(self, node: Node, state: LayerState) -> str:
        levels, scale = stored_layout(node, state), quantized_of(state).scale
        axis = 0 if node.kind == "dense" or not node.transposed else 1
        if node.kind == "dense":
            scale = np.asarray(_weight_scale(state))
        column = scale if scale.ndim == 0 else scale.reshape([-1 if i == axis else 1 for i in range(levels.ndim)])
        floats = self.initializer(node.weight, (levels * column).astype(np.float32))
        settings = {} if scale.ndim == 0 else {"axis": axis}
        return self._pair(floats, scale, np.zeros(scale.shape, np.int8), f"{node.weight}#rounded", **settings)

    def _pair(self, source: str, scale: np.ndarray, zero: np.ndarray, name: str, **settings: int) -> str:
        factors = [self.initializer(f"{name}.scale", scale), self.initializer(f"{name}.zero_point", zero)]
        levels = self.emit("QuantizeLinear", [source, *factors], f"{name}.levels", **settings)
        return self.emit("DequantizeLinear", [levels, *factors], name, **settings)

    def layer_bias(self, node: Node, state: LayerState) -> list[str]:
        if state.bias is None or node.kind != "dense" or not self.multiplies_integers(node, state):
            return [] if state.bias is None else [self.initializer(f"{node.layer}.bias", state.bias)]
        return [self.initializer(f"{node.layer}.bias", (state.bias / _corrections(state)).astype(np.float32))]

    def in_floats(self, node: Node, product: str, state: LayerState) -> str:
        if node.kind != "dense" or np.all((factor := _corrections(state)) == 1):
            return product
        return self.emit("Mul", [product, self.initializer(f"{node.name}.outputs", factor)], f"{node.name}#scaled")

    def _dequantized(self, name: str, weight: QuantizedWeight, folded: bool) -> str:
        """Weights that are only stored in integers are floats here: the tool takes no others."""
        return self.initializer(name, weight.dequantized())


def _weight_scale(state: LayerState) -> np.float32:
    """The one scale of a dense layer's weight."""
    assert state.activation is not None
    return np.float32(common_scale(output_scales(state)) / np.float32(state.activation.scale))


def _corrections(state: LayerState) -> np.ndarray:
    """(out,): by what the outputs of a dense layer with one scale are multiplied."""
    return (quantized_of(state).scale / _weight_scale(state)).astype(np.float32)


def training_model(
    graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, batch: int = 1
) -> onnx.ModelProto:
    """The network for ``amct_onnx.convert_qat_model``, with one batch, as the converted model has it."""
    return with_batch(lowered(TrainingWriter(graph, parameters, compressed).model(FORMS)), batch)
