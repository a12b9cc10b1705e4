"""Convolutions of one dimension: MindSpore runs them as Conv2D, of height 1, between an ExpandDims and a Squeeze."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

from .layers import QuantizedConv2d, QuantizedConv2dTranspose

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

HEIGHT = 2  # the axis of it


class OneDimensional:
    """Marks a cell that reads (n, channels, length) and whose weight is (out, in / groups, 1, k)."""


class QuantizedConv1d(QuantizedConv2d, OneDimensional):
    """A convolution with a stored weight; otherwise as the ``nn.Conv1d`` that it replaces."""

    def construct(self, x: Any) -> Any:
        x = self.conv2d(ops.expand_dims(x, HEIGHT), self.weight())
        return ops.squeeze(ops.bias_add(x, self.bias) if self.has_bias else x, HEIGHT)


class QuantizedConv1dTranspose(QuantizedConv2dTranspose, OneDimensional):
    """A transposed convolution with a stored weight; otherwise as the ``nn.Conv1dTranspose`` that it replaces."""

    def construct(self, x: Any) -> Any:
        return ops.squeeze(self.operator(ops.expand_dims(x, HEIGHT), self.weight(), self.bias), HEIGHT)


def is_one_dimensional(cell: Any) -> bool:
    """Whether it is such a convolution, or holds one alone, as a cell that rounds its input does."""
    kinds = (nn.Conv1d, nn.Conv1dTranspose, OneDimensional)
    return any(isinstance(part, kinds) for _, part in cell.cells_and_names())


def float_conv1d(like: Any, transposed: bool, channels: tuple[int, int], weight: np.ndarray, window: Any) -> Any:
    """An ``nn.Conv1d`` or ``nn.Conv1dTranspose`` with the sizes of ``like``.

    channels: in and out; weight: of height 1, in MindSpore's layout; window: group and bias.
    """
    sizes = {"padding": like.padding[-1], "dilation": like.dilation[-1], "pad_mode": like.pad_mode}
    cell = nn.Conv1dTranspose if transposed else nn.Conv1d
    flat = ms.Tensor(np.ascontiguousarray(weight[:, :, 0]))
    return cell(*channels, like.kernel_size[-1], like.stride[-1], weight_init=flat, **sizes, **window)
