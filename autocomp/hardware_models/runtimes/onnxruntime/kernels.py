"""The work of onnxruntime's convolutions in addition to the arithmetic, from profiles of single layers.

Inputs are copied together, and channels and groups are multiplied one by one.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.rates import FLOAT, INT8, UNPACKED
from autocomp.search_spaces import Node

ALIGNED = 4  # an integer convolution whose input channels are no multiple of it gathers and rounds separately


def im2col_overhead(
    node: Node, layer: Gemm | None, precision: np.ndarray, grouped: np.ndarray
) -> dict[str, np.ndarray]:
    """Entries of the extra work, each (n,). grouped: multiply-accumulates outside the matrix unit."""
    if layer is None or node.kind != "conv" or node.weight_shape is None:
        return dict.fromkeys(("groups", "gathered", "rows", "strided", "separate_requantize"), np.zeros(len(precision)))
    copied = layer.rows * layer.channels_in * layer.groups * layer.kernel
    floats, several = precision == UNPACKED, layer.kernel > 1
    steps = node.convolution.stride[1] > 1 and not node.transposed
    integers = (precision == INT8) & (grouped == 0)
    odd = integers & (layer.channels_in % ALIGNED > 0)
    pieces = np.where(layer.groups > 1, layer.kernel * layer.groups, node.convolution.kernel[0] * odd) * integers
    return {
        "groups": layer.groups * layer.rows / node.positions * floats * (grouped > 0),
        "gathered": copied * several * (precision > FLOAT) * (grouped == 0),
        "rows": copied / node.shape[-1] * several * floats + layer.rows * pieces,
        "strided": copied * steps * floats,
        "separate_requantize": layer.rows * layer.channels_out * odd,
    }


def one_by_one(layer: Gemm, precision: np.ndarray, block: int) -> np.ndarray:
    """(n,): how many times as long a depthwise convolution in integers takes because of its last channels.

    Each channel beyond a multiple of the channel block takes as long as a channel block.
    """
    alone = layer.channels_out % block
    return np.where(precision == INT8, 1 + alone * (block - 1) / layer.channels_out, 1.0)
