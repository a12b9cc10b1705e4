"""Bytes of convolutions with groups in ONNX files for onnxruntime: of what stands beside them, or in their place."""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.gemm import gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork

from . import protobuf
from .base import SCALE, bias_name

WINDOW = 80  # bytes of the attributes kernel_shape, strides, dilations and pads
GRID = protobuf.tensor(0, 0) * 2 + SCALE + 1  # a scale and a zero point, beside the letters of their names
COUNT = 8  # bytes of an integer of 64 bits
CONSTANT = len("#100")  # letters
PLACE, FLOAT = 4, 4  # of one of 32, and of a float


def groups_bytes(lowered: LoweredNetwork, index: int, integers: np.ndarray) -> np.ndarray:
    """(n,) bytes of a layer's operators and tensors, beside its weights, more than those of one convolution. integers:
    (n,) bool, whether it is multiplied in integers."""
    node, layer = lowered.graph.nodes[index], gemm_of(lowered, index)
    arranged = lowered.device.runtime.arranged(lowered, index, layer)
    if arranged is layer:
        return np.zeros(len(lowered.workload))
    if node.repeats_channels:
        return _of_repeated(len(node.name), integers) + layer.channels_out * PLACE
    count, together = arranged.groups, arranged.channels_in / layer.channels_in
    letters = len(node.name), len(node.attributes.weight or ""), len(bias_name(lowered.graph, index))
    zeros = _of_zeros(letters[1]) + together**2 * np.where(integers, 1, FLOAT)
    several = count * _of_block(*letters) - _of_convolution(*letters) + _around(*letters)
    return np.where(together > 1, zeros, 0.0) + np.where(integers & (count > 1), several, 0.0)


def _of_repeated(name: int, integers: np.ndarray) -> np.ndarray:
    """name: letters of the layer's name."""
    repeated, rounded = name + len(".repeated"), name + len("#rounded")
    channels, scale, zero = repeated + len(".channels"), rounded + len(".scale"), rounded + len(".zero_point")
    found = protobuf.operator("Gather", (repeated, channels), repeated, protobuf.AXIS) + protobuf.tensor(channels)
    return found + integers * (protobuf.pair(repeated, rounded, scale, zero) + GRID + scale + zero)


def _of_zeros(weight: int) -> int:
    """What puts zeros between groups. weight: letters of its name."""
    parted, apart, whole = weight + len(".parted"), weight + len(".apart"), weight + len(".whole")
    found = protobuf.operator("Reshape", (weight, CONSTANT), parted)
    found += protobuf.operator("Reshape", (apart, CONSTANT), whole)
    found += protobuf.operator("BitwiseAnd", (parted, weight + len(".diagonal")), apart)
    return found + 2 * protobuf.tensor(CONSTANT) + protobuf.tensor(weight + len(".diagonal"), 4) + 9 * COUNT


def _of_convolution(name: int, weight: int, bias: int) -> int:
    """Of one convolution, and what makes floats of its weight and its bias. name, weight, bias: letters of the names of
    the layer, of its weight and of its bias, 0: none."""
    floats = weight + len(".float")
    found = protobuf.operator("Conv", (name, floats, bias), name, WINDOW)
    found += protobuf.operator("DequantizeLinear", (weight, weight + len(".scale")), floats, protobuf.AXIS)
    found += protobuf.tensor(weight + len(".scale"))
    if not bias:
        return found
    integers, scale = bias + len(".integers"), bias + len(".scale")
    found += protobuf.operator("DequantizeLinear", (integers, scale), bias, protobuf.AXIS)
    return found + protobuf.tensor(integers) + protobuf.tensor(scale)


def _of_block(name: int, weight: int, bias: int) -> int:
    """One of several convolutions, a part of the input made floats for it, and its output rounded."""
    part, block = name + len(".part0"), name + len(".block0")
    read = name + len(".parts:0"), name + len(".parts.scale"), name + len(".parts.zero_point")
    floats = protobuf.operator("DequantizeLinear", read, part)
    scale, zero = name + len(".blocks.scale"), name + len(".blocks.zero_point")
    levels = protobuf.operator("QuantizeLinear", (block, scale, zero), block + len(".levels"))
    listed = protobuf.field(name + len(".parts:0")) + protobuf.field(block + len(".levels"))
    listed += protobuf.field(weight + len(".blocks:0")) + 2 * COUNT
    own = _of_convolution(name, weight + len(".0"), bias + len(".0") * (bias > 0))
    return own + len(".part0") + 2 * len(".block0") + len(".blocks") + floats + levels + listed


def _around(name: int, weight: int, bias: int) -> int:
    """The splits before several convolutions, of the input and of the weight, and the concatenation behind them."""
    scale, zero = name + len(".parts.scale"), name + len(".parts.zero_point")
    found = protobuf.operator("QuantizeLinear", (name, scale, zero), name + len(".levels"))
    found += protobuf.operator("Split", (name + len(".levels"), CONSTANT), name + len(".parts"), protobuf.AXIS)
    found += protobuf.operator("Split", (weight + len(".whole"), CONSTANT), weight + len(".blocks"), protobuf.AXIS)
    found += protobuf.operator("Concat", (), name + len(".joined"), protobuf.AXIS)
    found += protobuf.operator("DequantizeLinear", (name + len(".joined"), scale, zero), name)
    return found + 2 * protobuf.tensor(CONSTANT) + 2 * (GRID + scale + zero)
