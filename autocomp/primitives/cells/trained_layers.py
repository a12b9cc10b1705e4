"""Layers that train while their weight and their input are rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.tracing.weight_layout import to_out_first_layout

from .fake_quant import InputFakeQuant, WeightFakeQuant
from .layers import TransposedConv2d
from .one_dimensional import HEIGHT, OneDimensional


class TrainedLayer(nn.Cell):
    """A convolution or dense layer: ``operator(input_quantizer(x), weight_quantizer(weight)) + bias``.

    It holds the layer's own parameters, with their own names. state: a BatchNorm without gamma and beta, which reads
    the layer's output with the deployed weight during training (:class:`autocomp.primitives.quantization.slb.SLB`).
    """

    def __init__(
        self, layer: Any, weight_quantizer: WeightFakeQuant, input_quantizer: InputFakeQuant, state: Any = None
    ) -> None:
        super().__init__()
        self.state = state
        self.norm: Any = None
        self.weight = layer.weight
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.has_bias = bool(layer.has_bias)
        self.bias = layer.bias if self.has_bias else None
        self.weight_quantizer, self.input_quantizer = weight_quantizer, input_quantizer

    def in_rows(self, weight: np.ndarray) -> np.ndarray:
        """The layer's weight in the layout of its quantizer, (out, in / groups, ...); it also converts back."""
        return weight


class TrainedConv2d(TrainedLayer):
    def __init__(
        self, layer: Any, weight_quantizer: WeightFakeQuant, input_quantizer: InputFakeQuant, state: Any = None
    ) -> None:
        super().__init__(layer, weight_quantizer, input_quantizer, state)
        self.kernel_size, self.stride = layer.kernel_size, layer.stride
        self.conv2d = ops.Conv2D(
            layer.out_channels,
            layer.kernel_size,
            1,
            layer.pad_mode,
            layer.padding,
            layer.stride,
            layer.dilation,
            layer.group,
        )

    def construct(self, x: Any) -> Any:
        x, weight = self.input_quantizer(x), self._rows()
        y = self._operate(x, self.weight_quantizer(weight))
        if self.state is not None and self.training:
            deployed = self._operate(x, self.weight_quantizer.deployed(weight))
            y = ops.depend(y, self.state(ops.stop_gradient(deployed)))
        return y

    def _rows(self) -> Any:
        return self.weight

    def _operate(self, x: Any, weight: Any) -> Any:
        y = self.conv2d(x, weight)
        return ops.bias_add(y, self.bias) if self.has_bias else y


class TrainedConv2dTranspose(TrainedConv2d):
    """Its weight is the layer's own, (in, out / groups, kh, kw); quantizers get it as (out, in / groups, kh, kw)."""

    def __init__(
        self, layer: Any, weight_quantizer: WeightFakeQuant, input_quantizer: InputFakeQuant, state: Any = None
    ) -> None:
        TrainedLayer.__init__(self, layer, weight_quantizer, input_quantizer, state)
        self.kernel_size, self.stride, self.groups = layer.kernel_size, layer.stride, layer.group
        depth, outputs, *kernel = layer.weight.shape
        self.parted = (self.groups, depth // self.groups, outputs, *kernel)
        self.to_out_first_layout = (self.groups * outputs, depth // self.groups, *kernel)
        self.operator = TransposedConv2d(layer, self.to_out_first_layout, self.groups)

    def in_rows(self, weight: np.ndarray) -> np.ndarray:
        return to_out_first_layout(weight, self.groups)

    def _rows(self) -> Any:
        return ops.transpose(self.weight.reshape(self.parted), (0, 2, 1, 3, 4)).reshape(self.to_out_first_layout)

    def _operate(self, x: Any, weight: Any) -> Any:
        return self.operator(x, weight, self.bias)


class TrainedConv1d(TrainedConv2d, OneDimensional):
    """x: (n, in, length)."""

    def _operate(self, x: Any, weight: Any) -> Any:
        y = self.conv2d(ops.expand_dims(x, HEIGHT), weight)
        return ops.squeeze(ops.bias_add(y, self.bias) if self.has_bias else y, HEIGHT)


class TrainedConv1dTranspose(TrainedConv2dTranspose, OneDimensional):
    """x: (n, in, length)."""

    def _operate(self, x: Any, weight: Any) -> Any:
        return ops.squeeze(self.operator(ops.expand_dims(x, HEIGHT), weight, self.bias), HEIGHT)


class TrainedDense(TrainedLayer):
    """x: (..., in)."""

    def __init__(
        self, layer: Any, weight_quantizer: WeightFakeQuant, input_quantizer: InputFakeQuant, state: Any = None
    ) -> None:
        super().__init__(layer, weight_quantizer, input_quantizer, state)
        self.matmul = ops.MatMul(transpose_b=True)
        self.activation = layer.activation

    def construct(self, x: Any) -> Any:
        shape = x.shape
        x = self.input_quantizer(x).reshape((-1, self.in_channels))
        y = self.matmul(x, self.weight_quantizer(self.weight))
        if self.has_bias:
            y = ops.bias_add(y, self.bias)
        y = y.reshape((*shape[:-1], self.out_channels))
        return self.activation(y) if self.activation is not None else y


FORMS: dict[Any, type[TrainedLayer]] = {
    nn.Conv2d: TrainedConv2d,
    nn.Conv2dTranspose: TrainedConv2dTranspose,
    nn.Conv1d: TrainedConv1d,
    nn.Conv1dTranspose: TrainedConv1dTranspose,
    nn.Dense: TrainedDense,
}


def trained_layer(
    layer: Any, weight_quantizer: WeightFakeQuant, input_quantizer: InputFakeQuant, norm: Any, state: Any
) -> TrainedLayer:
    """norm: the BatchNorm cell after the layer, or None."""
    form = next(form for kind, form in FORMS.items() if isinstance(layer, kind))
    found: TrainedLayer = form(layer, weight_quantizer, input_quantizer, None if form is TrainedDense else state)
    object.__setattr__(found, "norm", norm)  # not a child cell of the layer: the network holds it elsewhere
    return found


def trains_rounded(layer: Any) -> bool:
    """Whether the layer can train while it is rounded."""
    return isinstance(layer, tuple(FORMS))


def lies_in_rows(layer: Any) -> bool:
    """Whether the layer's weight is (out, in / groups, ...); that of a transposed convolution is not."""
    return isinstance(layer, nn.Conv2d | nn.Conv1d | nn.Dense)
