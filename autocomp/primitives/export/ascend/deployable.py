"""The form of the deployable models of the Ascend Model Compression Toolkit, which atc compiles.

AscendQuant rounds a layer's input to int8, the layer multiplies integers, its bias has 32 bits, and AscendDequant makes
floats of the sums. These operators stand in ONNX's own domain. Attributes and types are those that the toolkit writes
(github.com/hicann/amct, amct_pytorch/classic/graph_based/amct_pytorch/optimizer: insert_quant_pass.py,
insert_weight_quant_pass.py, insert_bias_quant_pass.py, insert_dequant_pass.py). There is no AscendWeightQuant in an
ONNX file: the toolkit stores the integers themselves, and only the plugin for TensorFlow reads such nodes.
"""

from __future__ import annotations

import numpy as np
import onnx

from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, QuantizedWeight
from autocomp.search_spaces import NetworkGraph, Node

from .layers import FORMS, LayerWriter, common_scale, offset_of, output_scales, stored_layout
from .opset import lowered, with_batch

QUANT, DEQUANT = "AscendQuant", "AscendDequant"
FLOAT = 0  # AscendDequant's dtype: a number of the graph engine's types, not of ONNX's
LARGEST = 2**31 - 1


class DeployableWriter(LayerWriter):
    """Layers in integers between AscendQuant and AscendDequant."""

    def integer_input(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        """y = round(x * scale + offset), in int8."""
        source = self.clipped_below_8_bits(source, quantizer, name)
        scale, offset = float(np.float32(1) / np.float32(quantizer.scale)), float(offset_of(quantizer))
        return self.emit(QUANT, [source], name, scale=scale, offset=offset, dst_type="INT8")

    def integer_weight(self, node: Node, state: LayerState) -> str:
        return self.initializer(node.weight, stored_layout(node, state))

    def layer_bias(self, node: Node, state: LayerState) -> list[str]:
        if state.bias is None or not self.multiplies_integers(node, state):
            return super().layer_bias(node, state)
        levels = np.rint(state.bias.astype(np.float64) / output_scales(state))
        return [self.initializer(f"{node.layer}.bias", np.clip(levels, -LARGEST - 1, LARGEST).astype(np.int32))]

    def in_floats(self, node: Node, product: str, state: LayerState) -> str:
        scales = output_scales(state)
        common = common_scale(scales)
        several = node.kind == "dense" and bool(np.any(scales != common))
        param = self.initializer(
            f"{node.name}.deq_scale", packed(np.array([common]) if node.kind == "dense" else scales)
        )
        found = self.emit(DEQUANT, [product, param], f"{node.name}#float", dtype=FLOAT)
        if not several:
            return found
        factor = self.initializer(f"{node.name}.outputs", scales / common)
        return self.emit("Mul", [found, factor], f"{node.name}#scaled")

    def _dequantized(self, name: str, weight: QuantizedWeight, folded: bool) -> str:
        """Weights that are only stored in integers: atc computes these operators on constants when it compiles."""
        rows = weight.integers.reshape(weight.scale.size, -1)
        column = (-1, 1)
        stored = self.initializer(name, rows)
        floats = self.emit("Cast", [stored], f"{name}.cast", to=onnx.TensorProto.FLOAT)
        if weight.zero_point is not None:
            zeros = self.initializer(f"{name}.zero_point", weight.zero_point.reshape(column).astype(np.float32))
            floats = self.emit("Sub", [floats, zeros], f"{name}.centred")
        scale = self.initializer(f"{name}.scale", weight.scale.reshape(column))
        parted = self.emit("Mul", [floats, scale], f"{name}.rows")
        return self.emit("Reshape", [parted, self.constant(list(weight.integers.shape))], f"{name}.float")


def packed(scales: np.ndarray) -> np.ndarray:
    """(n,) uint64: the bits of a float32 in the low half. The offset of the weight, in bits 32 and up, is 0."""
    return np.ascontiguousarray(scales, np.float32).view(np.uint32).astype(np.uint64)


def deployable_model(
    graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, batch: int = 1
) -> onnx.ModelProto:
    """The network for atc, with one batch: the tool takes no dynamic shapes for a model in integers."""
    return with_batch(lowered(DeployableWriter(graph, parameters, compressed).model(FORMS)), batch)
