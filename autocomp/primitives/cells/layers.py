"""MindSpore cells of compressed networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.numerics.bit_packing import BYTE, in_fields, pack_bits, shifts, weights_of_bits
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer, QuantizedWeight
from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

ROUNDER = 1.5 * 2.0**23  # x + ROUNDER has no bits for a fraction: float32 rounds it, half to even, up to 2^22
NO_BOUND = 3e38
DESCRIBES = ("weight", "bias", "has_bias", "in_channels", "out_channels", "kernel_size", "stride")


def parameter(value: np.ndarray | np.floating, name: str, trains: bool = False) -> Any:
    return ms.Parameter(ms.Tensor(value), name=name, requires_grad=trains)


class StandIn(nn.Cell):
    """A cell that replaces a layer and contains it: the network's code can read the layer's description from it."""

    layer_name = "layer"

    def __getattr__(self, name: str) -> Any:
        layer = self.__dict__.get("_cells", {}).get(self.layer_name)
        return super().__getattr__(name) if layer is None or name not in DESCRIBES else getattr(layer, name)


class RoundedLayer(StandIn, nn.SequentialCell):
    """A cell that rounds the input, followed by the layer."""

    layer_name = "1"


class ElasticInput(StandIn):
    """A layer whose input is rounded. The step and the bounds are parameters: setting them gives any number of bits, or
    no rounding, and compiles nothing.

    Adding and subtracting ROUNDER takes a third of the time of ``ops.Round`` on CPU, and a division would take four
    times a product. bounded_below: False where the input is never negative, after a ReLU. channels: of the last axis,
    each of which may be divided by a scale of its own; None: there are no scales.
    """

    def __init__(self, layer: Any, bounded_below: bool = True, channels: int | None = None) -> None:
        super().__init__()
        self.layer, self.bounded_below = layer, bounded_below
        self.form = () if channels is None else (channels,)
        self.input_factor = parameter(np.ones(self.form, np.float32), "input_factor")
        self.input_scale = parameter(np.float32(1), "input_scale")
        self.input_rounder = parameter(np.float32(0), "input_rounder")
        self.input_low = parameter(np.float32(-NO_BOUND), "input_low")
        self.input_high = parameter(np.float32(NO_BOUND), "input_high")
        self.minimum = ops.Minimum()
        self.maximum = ops.Maximum()

    def construct(self, x: Any) -> Any:
        levels = self.minimum(x * self.input_factor + self.input_rounder, self.input_high)
        if self.bounded_below:
            levels = self.maximum(levels, self.input_low)
        return self.layer((levels - self.input_rounder) * self.input_scale)

    def set(self, quantizer: ActivationQuantizer | None, scale: np.ndarray | None = None) -> None:
        """scale: (channels,), by which the input is divided and the weight multiplied."""
        values = {"factor": 1.0, "scale": 1.0, "rounder": 0.0, "low": -NO_BOUND, "high": NO_BOUND}
        if quantizer is not None:
            low, high = quantizer.bounds
            values = {"factor": 1 / quantizer.scale, "scale": quantizer.scale, "rounder": ROUNDER}
            values |= {"low": ROUNDER + low, "high": ROUNDER + high}
        factor = np.full(self.form, values.pop("factor"), np.float32)
        self.input_factor.set_data(ms.Tensor(factor if scale is None else (factor / scale).astype(np.float32)))
        for name, value in values.items():
            getattr(self, f"input_{name}").set_data(ms.Tensor(np.float32(value)))


class ElasticShift(StandIn):
    """An elastic layer, from whose input a number for each channel is subtracted before."""

    def __init__(self, layer: ElasticInput) -> None:
        super().__init__()
        self.layer = layer
        self.input_shift = parameter(np.zeros(layer.form, np.float32), "input_shift")

    def construct(self, x: Any) -> Any:
        return self.layer(x - self.input_shift)

    def set(self, shift: np.ndarray | None) -> None:
        found = np.zeros(self.layer.form, np.float32) if shift is None else shift.astype(np.float32)
        self.input_shift.set_data(ms.Tensor(found))


class RowsInput(nn.Cell):
    """Rounds each row of a tensor, (..., channels), with the scale of its own largest magnitude, symmetric."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.top = 2.0 ** (bits - 1) - 1
        self.round, self.maximum = ops.Round(), ops.Maximum()

    def construct(self, x: Any) -> Any:
        scale = self.maximum(ops.amax(ops.abs(x), -1, keepdims=True) * (1 / self.top), LEAST_SCALE)
        return self.round(x / scale) * scale


class ElasticRows(ElasticInput):
    """Rounds each row with a scale of its own where ``row_bits`` is set, else as :class:`ElasticInput` does."""

    def __init__(self, layer: Any, bounded_below: bool = True, channels: int | None = None) -> None:
        super().__init__(layer, bounded_below, channels)
        self.row_step, self.by_row = parameter(np.float32(1), "row_step"), parameter(np.float32(0), "by_row")
        self.round = ops.Round()

    def construct(self, x: Any) -> Any:
        scale = self.maximum(ops.amax(ops.abs(x * self.input_factor), -1, keepdims=True) * self.row_step, LEAST_SCALE)
        rows = self.round(x * self.input_factor / scale) * scale
        levels = self.minimum(x * self.input_factor + self.input_rounder, self.input_high)
        if self.bounded_below:
            levels = self.maximum(levels, self.input_low)
        whole = (levels - self.input_rounder) * self.input_scale
        return self.layer(rows * self.by_row + whole * (1 - self.by_row))

    def set_rows(self, bits: int | None) -> None:
        self.by_row.set_data(ms.Tensor(np.float32(bits is not None)))
        self.row_step.set_data(ms.Tensor(np.float32(1 if bits is None else 1 / (2 ** (bits - 1) - 1))))


class RoundedInput(nn.Cell):
    """Rounds a tensor to a quantizer's levels, like QuantizeLinear followed by DequantizeLinear."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        low, high = quantizer.bounds
        self.scale = parameter(np.float32(quantizer.scale), "scale")
        self.low, self.high = parameter(np.float32(low), "low"), parameter(np.float32(high), "high")
        self.round = ops.Round()
        self.minimum = ops.Minimum()
        self.maximum = ops.Maximum()

    def construct(self, x: Any) -> Any:
        return self.minimum(self.maximum(self.round(x / self.scale), self.low), self.high) * self.scale


class StoredWeight(nn.Cell):
    """A weight stored as int8, or packed where it has fewer than 8 bits (:mod:`bit_packing`).

    It has a scale for each output channel, or for each part of a channel's inputs, and a zero point where the weight
    has one.
    """

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.shape, self.dtype = tuple(weight.integers.shape), ms.float32  # of the weight that it computes
        self.count = int(np.prod(self.shape))
        self.bits, self.odd = weight.bits, weight.odd
        self.packed = self.bits < BYTE
        stored = _packed(weight) if self.packed else weight.integers
        self.weight = parameter(stored, "weight")
        if self.packed:
            left, right = shifts(self.bits)
            self.left, self.right, self.one = ms.Tensor(left), ms.Tensor(right - self.odd), ms.Tensor(np.int8(1))
            self.weights_of_bits = None if in_fields(self.bits) else ms.Tensor(weights_of_bits(self.bits)[:, None])
            self.padded = stored.size * BYTE > self.count * self.bits
            self.shift_left, self.shift_right = ops.LeftShift(), ops.RightShift()
            self.set_lowest, self.multiply = ops.BitwiseOr(), ops.MatMul()
        parts = weight.scale.ndim > 1
        column = (*weight.scale.shape, 1) if parts else (-1, *([1] * (len(self.shape) - 1)))
        self.parted = (*weight.scale.shape, -1) if parts else self.shape
        self.scale = parameter(weight.scale.reshape(column), "scale")
        self.shifted = weight.zero_point is not None
        if weight.zero_point is not None:
            self.zero_point = parameter(weight.zero_point.reshape(column), "zero_point")

    def construct(self) -> Any:
        levels = self._levels().reshape(self.parted)
        if self.shifted:
            levels = levels - self.zero_point.astype(ms.float32)
        return (levels * self.scale).reshape(self.shape)

    def _levels(self) -> Any:
        if not self.packed:
            return self.weight.astype(ms.float32)
        levels = self.shift_right(self.shift_left(self.weight, self.left), self.right)
        levels = (self.set_lowest(levels, self.one) if self.odd else levels).astype(ms.float32)
        if self.weights_of_bits is not None:
            levels = self.multiply(levels.reshape((-1, self.bits)), self.weights_of_bits)
        return levels.reshape((-1,))[: self.count] if self.padded else levels


def _packed(weight: QuantizedWeight) -> np.ndarray:
    """The halves of odd integers: a shift by one less brings back their lowest bit's place."""
    return pack_bits(weight.integers // 2 if weight.odd else weight.integers, weight.bits)


class QuantizedConv2d(nn.Cell):
    """A convolution with a stored weight; otherwise like the ``nn.Conv2d`` that it replaces."""

    def __init__(self, like: Any, weight: QuantizedWeight, bias: np.ndarray | None, groups: int) -> None:
        super().__init__()
        self.weight = StoredWeight(weight)
        self.conv2d = ops.Conv2D(
            weight.integers.shape[0],
            like.kernel_size,
            1,
            like.pad_mode,
            like.padding,
            like.stride,
            like.dilation,
            groups,
        )
        self.in_channels, self.out_channels = weight.integers.shape[1] * groups, weight.integers.shape[0]
        self.kernel_size, self.stride = like.kernel_size, like.stride
        self.has_bias = bias is not None
        if bias is not None:
            self.bias = parameter(bias, "bias", trains=True)

    def construct(self, x: Any) -> Any:
        x = self.conv2d(x, self.weight())
        return ops.bias_add(x, self.bias) if self.has_bias else x


class TransposedConv2d(nn.Cell):
    """The computation of an ``nn.Conv2dTranspose``, with a weight (out, in / groups, kh, kw) that is an argument, like
    x."""

    def __init__(self, like: Any, shape: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.out_channels, depth, *kernel = shape
        self.in_channels = groups * depth
        self.parted = (groups, self.out_channels // groups, depth, *kernel)
        self.in_first = (self.in_channels, self.out_channels // groups, *kernel)
        self.stride, self.more = like.stride, _positions_added(like)
        window = {"pad_mode": like.pad_mode, "pad": like.padding, "stride": like.stride, "dilation": like.dilation}
        self.conv2d_transpose = ops.Conv2DTranspose(self.in_channels, like.kernel_size, mode=1, group=groups, **window)
        after = getattr(like, "output_padding", 0)  # which one of one dimension does not have
        below, right = after if isinstance(after, tuple) else (after, after)
        self.pads = below + right > 0
        self.pad = ops.Pad(((0, 0), (0, 0), (0, below), (0, right)))

    def construct(self, x: Any, weight: Any, bias: Any = None) -> Any:
        weight = ops.transpose(weight.reshape(self.parted), (0, 2, 1, 3, 4)).reshape(self.in_first)
        n, _, height, width = x.shape
        size = (n, self.out_channels, height * self.stride[0] + self.more[0], width * self.stride[1] + self.more[1])
        x = self.conv2d_transpose(x, weight, size)
        x = x if bias is None else ops.bias_add(x, bias)
        return self.pad(x) if self.pads else x


class QuantizedConv2dTranspose(nn.Cell):
    """A transposed convolution with a stored weight, (out, in / groups, kh, kw); otherwise like the
    ``nn.Conv2dTranspose`` that it replaces."""

    def __init__(self, like: Any, weight: QuantizedWeight, bias: np.ndarray | None, groups: int) -> None:
        super().__init__()
        self.weight = StoredWeight(weight)
        self.operator = TransposedConv2d(like, weight.integers.shape, groups)
        self.in_channels, self.out_channels = self.operator.in_channels, self.operator.out_channels
        self.kernel_size, self.stride = like.kernel_size, like.stride
        self.has_bias = bias is not None
        self.bias = parameter(bias, "bias", trains=True) if bias is not None else None

    def construct(self, x: Any) -> Any:
        return self.operator(x, self.weight(), self.bias)


def _positions_added(like: Any) -> tuple[int, int]:
    """Rows and columns that an nn.Conv2dTranspose adds to stride times its input's height and width, before its output
    padding."""
    if like.pad_mode == "same":
        return 0, 0
    reach = [(k - 1) * d + 1 - s for k, d, s in zip(like.kernel_size, like.dilation, like.stride, strict=True)]
    if like.pad_mode == "valid":
        return max(reach[0], 0), max(reach[1], 0)
    top, bottom, left, right = like.padding if isinstance(like.padding, tuple) else (like.padding,) * 4
    return reach[0] - top - bottom, reach[1] - left - right


class QuantizedDense(nn.Cell):
    """A dense layer with a stored weight; x: (..., in)."""

    def __init__(self, like: Any, weight: QuantizedWeight, bias: np.ndarray | None) -> None:
        super().__init__()
        self.weight = StoredWeight(weight)
        self.matmul = ops.MatMul(transpose_b=True)
        self.activation = like.activation
        self.out_channels, self.in_channels = weight.integers.shape
        self.has_bias = bias is not None
        if bias is not None:
            self.bias = parameter(bias, "bias", trains=True)

    def construct(self, x: Any) -> Any:
        shape = x.shape
        y = self.matmul(x.reshape((-1, self.in_channels)), self.weight())
        if self.has_bias:
            y = ops.bias_add(y, self.bias)
        y = y.reshape((*shape[:-1], self.out_channels))
        return self.activation(y) if self.activation is not None else y
