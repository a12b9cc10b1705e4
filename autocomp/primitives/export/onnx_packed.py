"""Dense layers with weights of 4 bits that onnxruntime multiplies without unpacking them first."""

from __future__ import annotations

from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.search_spaces import Node, packs

from .onnx_blocks import block_of, packed_blocks
from .onnx_writer import MICROSOFT, Writer


def multiplies_packed(w: Writer, node: Node, state: LayerState) -> bool:
    """Whether onnxruntime reads the weight of a layer in floats as it is stored."""
    quantized = state.quantized
    if quantized is None or state.activation is not None or not w.style.packed_dense or quantized.bits != 4:
        return False
    plain = quantized.zero_point is None and state.row_bits is None and block_of(quantized) is not None
    return plain and packs(w.graph, w.graph.layers[str(node.layer)])


def packed_dense(w: Writer, node: Node, state: LayerState) -> str:
    """``MatMulNBits``: y = x W^T + b in float32, with a scale for each block of inputs of an output: all equal, or
    those of the format's groups."""
    assert state.quantized is not None
    outputs, inputs = state.quantized.integers.shape
    block, positive = block_of(state.quantized), state.quantized.with_positive_scale()
    assert block is not None
    weight, scales = packed_blocks(positive.integers, positive.scale, block)
    stored = [w.initializer(f"{node.weight}.packed", weight), w.initializer(f"{node.weight}.blocks", scales)]
    bias = ["", "", *w.layer_bias(node, state)] if state.bias is not None else []
    settings = {"K": inputs, "N": outputs, "bits": 4, "block_size": block}
    source = w.layer_input(node, state)
    return w.emit("MatMulNBits", [source, *stored, *bias], node.name, domain=MICROSOFT, **settings)
