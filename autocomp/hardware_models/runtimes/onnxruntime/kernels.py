"""The work of onnxruntime's convolutions in integers in addition to the arithmetic."""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.rates import INT8
from autocomp.search_spaces import Node


def im2col_elements(node: Node, layer: Gemm | None, precision: np.ndarray, grouped: np.ndarray) -> np.ndarray:
    """(n,) inputs that are copied together for each position of a kernel before they are multiplied.

    grouped: multiply-accumulates outside the matrix unit.
    """
    if layer is None or node.kind != "conv" or layer.kernel == 1:
        return np.zeros(len(precision))
    return layer.rows * layer.channels_in * layer.groups * layer.kernel * (precision == INT8) * (grouped == 0)


def one_by_one(layer: Gemm, precision: np.ndarray, block: int) -> np.ndarray:
    """(n,): how many times as long a depthwise convolution in integers takes because of its last channels.

    Each channel beyond a multiple of the channel block takes as long as a channel block.
    """
    alone = layer.channels_out % block
    return np.where(precision == INT8, 1 + alone * (block - 1) / layer.channels_out, 1.0)
