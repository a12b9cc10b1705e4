"""The ONNX form of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.tracing.nodes import window_of
from autocomp.primitives.tracing.weight_layout import groups_left
from autocomp.search_spaces import Node

from .onnx_grouped import conv_in_blocks, repeated, wide_weight
from .onnx_shapes import operand, source_shape

if TYPE_CHECKING:
    from .onnx_writer import Writer


def conv(w: Writer, node: Node) -> str:
    if node.layer is None:
        return plain_conv(w, node)
    state = w.state(node.layer)
    groups = groups_left(node, len(state.weight))
    if node.transposed and w.multiplies_integers(node, state):
        return phased_conv(w, node, state)
    if node.transposed:
        inputs = [w.layer_input(node, state), w.layer_weight(node, state), *w.layer_bias(node, state)]
        return transposed_window(w, node, inputs, groups)
    a = node.convolution
    top, bottom, left, right = a.pad
    window: dict[str, Any] = {"kernel_shape": a.kernel, "strides": a.stride, "dilations": a.dilation}
    window["pads"] = [top, left, bottom, right]
    fast = w.style.fast_groups and groups > 1 and not node.channelwise
    if fast and not node.depthwise and w.multiplies_integers(node, state):
        return conv_in_blocks(w, node, state, window)
    source, weight = w.layer_input(node, state), w.layer_weight(node, state)
    if fast and node.depthwise:
        source, groups = repeated(w, node, state, source, groups), len(state.weight)
    elif fast:
        weight, groups = wide_weight(w, node, state)
    inputs = [source, weight, *w.layer_bias(node, state)]
    return w.emit("Conv", inputs, node.name, group=groups, **window)


def plain_conv(w: Writer, node: Node) -> str:
    """A convolution whose weight is a parameter of another cell, or computed."""
    a = window_of(node.attributes.operator)
    top, bottom, left, right = a.pad
    window: dict[str, Any] = {"kernel_shape": a.kernel, "strides": a.stride, "dilations": a.dilation}
    window |= {"pads": [top, left, bottom, right], "group": a.groups}
    return w.emit("Conv", [operand(w, node), operand(w, node, 1)], node.name, **window)


def volume_conv(w: Writer, node: Node) -> str:
    """``Conv3D``; pads in pairs, before and after."""
    a = node.attributes.operator
    steps = {"strides": a["strides"][-3:], "dilations": a["dilations"][-3:]}
    return w.emit(
        "Conv", [operand(w, node), operand(w, node, 1)], node.name, kernel_shape=a["kernel_size"],
        pads=padded_pairs(a["pad_list"]), group=int(a["groups"]), **steps,
    )  # fmt: skip


def padded_pairs(pads: Sequence[int]) -> tuple[int, ...]:
    """(before, after) of each axis in turn, as ONNX writes them: all before, then all after."""
    return (*pads[0::2], *pads[1::2])


def transposed_conv(w: Writer, node: Node) -> str:
    if node.layer is not None:
        return conv(w, node)
    groups = window_of(node.attributes.operator).groups
    return transposed_window(w, node, [operand(w, node), operand(w, node, 1)], groups)


def transposed_window(w: Writer, node: Node, inputs: list[str], groups: int) -> str:
    """The weight is (in, out / groups, kh, kw) in MindSpore and in ONNX."""
    a = window_of(node.attributes.operator)
    stride, dilation, kernel = a.stride, a.dilation, a.kernel
    top, bottom, left, right = a.pad
    pads = ((top, bottom), (left, right))
    extra = []
    for i, (before, after) in enumerate(zip(source_shape(w, node)[2:], node.shape[2:], strict=True)):
        extra.append(after - (stride[i] * (before - 1) + (kernel[i] - 1) * dilation[i] + 1 - sum(pads[i])))
        if not 0 <= extra[i] < max(stride[i], dilation[i]):
            raise ExportError(f"{node.name} makes {after} of {before} positions, which ONNX's ConvTranspose cannot")
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "dilations": dilation}
    window |= {"output_padding": extra, "group": groups}
    return w.emit("ConvTranspose", inputs, node.name, pads=[top, left, bottom, right], **window)


def phased_conv(w: Writer, node: Node, state: LayerState) -> str:
    """A transposed convolution in integers, for which runtimes have no kernel: a convolution computes the pixels of
    each phase of the stride, and they are put side by side (Shi et al., CVPR 2016, "the deconvolution layer is
    convolution in LR space")."""
    (sh, sw), (top, _, left, _), name = node.convolution.stride, node.convolution.pad, node.name
    phases = in_phases(state, (sh, sw))
    assert phases.quantized is not None
    kh, kw = phases.quantized.integers.shape[2:]
    inputs = [w.layer_input(node, state), w.layer_weight(node, phases), *w.layer_bias(node, phases)]
    pads = [kh - 1, kw - 1, kh - 1, kw - 1]
    found = w.emit("Conv", inputs, f"{name}.phases", kernel_shape=[kh, kw], pads=pads)
    found = w.rounded_before_moves(found, f"{name}.phases#quantized")
    height, width = (size + k - 1 for size, k in zip(source_shape(w, node)[2:], (kh, kw), strict=True))
    channels = len(state.weight)
    whole = (height * sh, width * sw)
    exact = (top, left) == (0, 0) and whole == node.shape[2:]
    # With the channels last, as onnxruntime's kernels have them, whole rows of pixels are moved.
    last = w.emit("Transpose", [found], f"{name}.last", perm=[0, 2, 3, 1])
    parted = w.emit("Reshape", [last, w.constant([0, height, width, sh, sw * channels])], f"{name}.parted")
    beside = w.emit("Transpose", [parted], f"{name}.beside", perm=[0, 1, 3, 2, 4])
    joined = w.emit("Reshape", [beside, w.constant([0, *whole, channels])], f"{name}.joined")
    image = w.emit("Transpose", [joined], name if exact else f"{name}.whole", perm=[0, 3, 1, 2])
    if exact:
        return image
    ends = [top + node.shape[2], left + node.shape[3]]
    return w.emit("Slice", [image, w.constant([top, left]), w.constant(ends), w.constant([2, 3])], name)


def in_phases(state: LayerState, stride: tuple[int, int]) -> LayerState:
    """The weight (out, in, kh, kw) of a transposed convolution as (phases * out, in, kh / stride, kw / stride)."""
    assert state.quantized is not None
    integers, (sh, sw) = state.quantized.integers, stride
    out, read, kh, kw = integers.shape
    filled = np.pad(integers, ((0, 0), (0, 0), (0, -kh % sh), (0, -kw % sw)))
    taps = filled.reshape(out, read, filled.shape[2] // sh, sh, filled.shape[3] // sw, sw)[:, :, ::-1, :, ::-1]
    rows = taps.transpose(3, 5, 0, 1, 2, 4).reshape(sh * sw * out, read, filled.shape[2] // sh, filled.shape[3] // sw)
    scale = np.tile(state.quantized.scale, sh * sw)
    quantized = QuantizedWeight(np.ascontiguousarray(rows), scale, state.quantized.bits + state.quantized.odd)
    bias = None if state.bias is None else np.tile(state.bias, sh * sw)
    return replace(state, quantized=quantized, bias=bias)
