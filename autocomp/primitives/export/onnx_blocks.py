"""Blocks of a weight of 4 bits that has one scale each, as ``MatMulNBits`` stores them."""

from __future__ import annotations

import numpy as np

from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.search_spaces import BLOCK

MIDDLE = 8  # what onnxruntime takes from an unsigned integer of 4 bits that has no zero point
SIZES = (16, 32, 64, 128, 256)  # of blocks that it multiplies


def block_of(weight: QuantizedWeight) -> int | None:
    """The number of inputs in a block of a dense layer's weight; None where its groups are no blocks."""
    if weight.scale.ndim == 1:
        return BLOCK
    inputs, parts = weight.integers.shape[1], weight.scale.shape[1]
    size = inputs // parts
    return size if weight.integers.ndim == 2 and size * parts == inputs and size in SIZES else None


def packed_blocks(levels: np.ndarray, scale: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """levels: (out, in), -8 to 7; scale: (out,) or (out, blocks). Returns (out, blocks, block / 2) uint8, the earlier
    integer in the low half, and (out * blocks,) float32. The last block is filled with zeros."""
    outputs, inputs = levels.shape
    blocks = -(-inputs // block)
    whole = np.full((outputs, blocks * block), MIDDLE, np.uint8)
    whole[:, :inputs] = levels.astype(np.int16) + MIDDLE
    halves = (whole[:, ::2] | (whole[:, 1::2] << 4)).reshape(outputs, blocks, block // 2)
    scales = np.broadcast_to(np.asarray(scale, np.float32).reshape(outputs, -1), (outputs, blocks))
    return halves, np.ascontiguousarray(scales).reshape(-1)
