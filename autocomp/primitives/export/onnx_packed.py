"""Dense layers with weights of 4 bits that onnxruntime multiplies without unpacking them first."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.search_spaces import BLOCK, Node

from .onnx_writer import MICROSOFT, Writer

MIDDLE = 8  # what onnxruntime takes from an unsigned integer of 4 bits that has no zero point


def packed_dense(w: Writer, node: Node, state: LayerState) -> str:
    """``MatMulNBits``: y = x W^T + b in float32, with a scale for each BLOCK inputs of an output, all equal."""
    assert state.quantized is not None
    outputs, inputs = state.quantized.integers.shape
    weight, scales = packed_blocks(state.quantized.integers, state.quantized.with_positive_scale().scale)
    stored = [w.initializer(f"{node.weight}.packed", weight), w.initializer(f"{node.weight}.blocks", scales)]
    bias = ["", "", *w.layer_bias(node, state)] if state.bias is not None else []
    settings = {"K": inputs, "N": outputs, "bits": 4, "block_size": BLOCK}
    source = w.layer_input(node, state)
    return w.emit("MatMulNBits", [source, *stored, *bias], node.name, domain=MICROSOFT, **settings)


def packed_blocks(levels: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """levels: (out, in), -8 to 7; scale: (out,). Returns (out, blocks, BLOCK / 2) uint8, the earlier integer in the low
    half, and (out * blocks,) float32. The last block is filled with zeros."""
    outputs, inputs = levels.shape
    blocks = -(-inputs // BLOCK)
    whole = np.full((outputs, blocks * BLOCK), MIDDLE, np.uint8)
    whole[:, :inputs] = levels.astype(np.int16) + MIDDLE
    halves = (whole[:, ::2] | (whole[:, 1::2] << 4)).reshape(outputs, blocks, BLOCK // 2)
    return halves, np.repeat(np.asarray(scale, np.float32).reshape(-1), blocks)
