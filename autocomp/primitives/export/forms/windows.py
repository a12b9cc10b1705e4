"""The ONNX form of operators that look at windows of an image or of a volume: pools of any size, patches, samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from ..onnx_convolutions import padded_pairs
from ..onnx_shapes import argument_shape, operand, source_shape
from ..onnx_types import FLOAT, typed

if TYPE_CHECKING:
    from ..onnx_writer import Writer

KEYS: dict[str, Any] = {
    "cubic_coeff_a": -0.5,
    "exclude_outside": 1,
}  # MindSpore's cubic kernel where pixels have half-pixel centres


def adaptive_pool(op: str) -> Any:
    """The windows of each axis start at floor(i * size / count) and end at ceil((i + 1) * size / count)."""

    def form(w: Writer, node: Node) -> str:
        spatial = 3 if node.op.endswith("3D") else 2
        before, after = source_shape(w, node)[-spatial:], node.shape[-spatial:]
        source = w.pooled(node) if op == "MaxPool" else operand(w, node)
        if set(after) == {1}:
            return w.emit(f"Global{op}", [source], node.name)
        if not any(a % b for a, b in zip(before, after, strict=True)):
            kernel = [a // b for a, b in zip(before, after, strict=True)]
            return w.emit(op, [source], node.name, kernel_shape=kernel, strides=kernel)
        return _windows(w, node, source, "ReduceMax" if op == "MaxPool" else "ReduceMean", (before, after))

    return form


def _windows(w: Writer, node: Node, source: str, op: str, sizes: tuple[tuple[int, ...], tuple[int, ...]]) -> str:
    """One axis after the other: the mean of a window is the mean of the means of its rows."""
    changed = [i for i, (a, b) in enumerate(zip(*sizes, strict=True)) if a != b]
    for i in changed:
        axis = i - len(sizes[0])
        size, count = sizes[0][i], sizes[1][i]
        parts = []
        for k in range(count):
            bounds = [[k * size // count], [-(-(k + 1) * size // count)], [axis]]
            name = f"{node.name}.{i}.{k}"
            window = w.emit("Slice", [source, *(w.constant(bound) for bound in bounds)], f"{name}.window")
            parts.append(w.emit(op, [window, w.constant([axis])], name, keepdims=1))
        source = w.emit("Concat", parts, node.name if i == changed[-1] else f"{node.name}.{i}", axis=axis)
    return source


def volume_max_pool(w: Writer, node: Node) -> str:
    a = node.attributes.operator
    window: dict[str, Any] = {"kernel_shape": a["kernel_size"][-3:], "strides": a["strides"][-3:]}
    if a["pad_mode"].upper() == "SAME":
        return w.emit("MaxPool", [operand(w, node)], node.name, auto_pad="SAME_UPPER", **window)
    pads, rounding = padded_pairs(a["pad_list"]), int(a.get("ceil_mode") or 0)
    return w.emit("MaxPool", [operand(w, node)], node.name, pads=pads, ceil_mode=rounding, **window)


def patches(w: Writer, node: Node) -> str:
    """``Im2Col``: (n, c, kh * kw, places), by a convolution whose kernels each pick one pixel."""
    a, channels = node.attributes.operator, source_shape(w, node)[1]
    if str(a.get("padding_mode", "CALCULATED")).upper() != "CALCULATED":
        raise ExportError(
            f"{node.name} takes patches padded by {a['padding_mode']!r}, which has no ONNX form in autocomp"
        )
    kh, kw = a["ksizes"]
    one = np.eye(kh * kw, dtype=np.float32).reshape(kh * kw, 1, kh, kw)
    kernel = w.initializer(f"{node.name}.kernel", np.tile(one, (channels, 1, 1, 1)))
    pads = tuple(a["pads"])[-2:] * 2
    found = w.emit("Conv", [operand(w, node), kernel], f"{node.name}.pixels", kernel_shape=(kh, kw), group=channels,
                   strides=a["strides"], dilations=a["dilations"], pads=pads)  # fmt: skip
    return w.emit("Reshape", [found, w.constant([-1, *node.shape[1:]])], node.name)


def image_of_patches(w: Writer, node: Node) -> str:
    """``Col2Im`` (x (n, c, kh * kw, places), size): overlapping pixels are added."""
    a, size = node.attributes.operator, node.shape[-2:]
    _, channels, pixels, places = source_shape(w, node)
    rows = w.emit("Reshape", [operand(w, node), w.constant([-1, channels * pixels, places])], f"{node.name}.rows")
    inputs = [rows, w.constant(size), w.constant(a["kernel_size"])]
    pads = tuple(a["padding"]) * 2
    return w.emit("Col2Im", inputs, node.name, pads=pads, strides=a["stride"], dilations=a["dilation"])


def sampled(w: Writer, node: Node) -> str:
    """``GridSampler2D`` (x, places (n, h, w, 2), interpolation, padding, align_corners)."""
    mode, padding = [value for value in node.attributes.constants if type(value) is int][-2:]
    modes, paddings = ("linear", "nearest"), ("zeros", "border", "reflection")
    align = int(True in node.attributes.constants[-1:])
    inputs = [typed(w, node, i, FLOAT) for i in (0, 1)]
    w.opset = max(w.opset, 20)  # from which it samples volumes, too, and calls the mode so
    return w.emit(
        "GridSample", inputs, node.name, mode=modes[mode], padding_mode=paddings[padding], align_corners=align
    )


def resize(mode: str) -> Any:
    """(x, size, align_corners, half_pixel); ``ResizeLinear1D`` has the way as a number or a word."""

    def form(w: Writer, node: Node) -> str:
        before = source_shape(w, node)
        align, half = ([value for value in node.attributes.constants if isinstance(value, bool)] + [False] * 2)[:2]
        if node.op == "ResizeLinear1D":
            given = node.attributes.constants[-1]
            align, half = given in ("align_corners", 1), given in ("half_pixel", 2)
        way = "align_corners" if align else "half_pixel" if half else "asymmetric"
        scales = [b / a for a, b in zip(before[2:], node.shape[2:], strict=True)]
        cubic: dict[str, Any] = KEYS if mode == "cubic" and half else {}
        inputs = [operand(w, node), "", w.constant([1.0, 1.0, *scales], np.float32)]
        return w.emit("Resize", inputs, node.name, mode=mode, coordinate_transformation_mode=way, **cubic)

    return form


def local_response_norm(w: Writer, node: Node) -> str:
    """x / (bias + alpha * sum over 2 radius + 1 channels of x^2) ^ beta; ONNX divides alpha by the channels."""
    a = node.attributes.operator
    size = 2 * int(a["depth_radius"]) + 1
    settings: dict[str, Any] = {"alpha": float(a["alpha"]) * size, "beta": float(a["beta"]), "bias": float(a["bias"])}
    return w.emit("LRN", [operand(w, node)], node.name, size=size, **settings)


def instance_norm(w: Writer, node: Node) -> str:
    """(x, gamma, beta, ...): by the statistics of each image's channels."""
    inputs = [operand(w, node, i) for i in range(3)]
    epsilon = float(node.attributes.operator["epsilon"])
    return w.emit("InstanceNormalization", inputs, node.name, epsilon=epsilon)


def transposed_volume(w: Writer, node: Node) -> str:
    """``Conv3DTranspose``; the weight is (in, out / groups, kd, kh, kw) in both."""
    a = node.attributes.operator
    strides, dilations, kernel = (tuple(a[key])[-3:] for key in ("strides", "dilations", "kernel_size"))
    pads = padded_pairs(a["pad_list"])
    before, after, extra = argument_shape(w, node, 0)[2:], node.shape[2:], []
    for i, (small, large) in enumerate(zip(before, after, strict=True)):
        natural = strides[i] * (small - 1) + (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + 3]
        extra.append(large - natural)
    return w.emit(
        "ConvTranspose", [operand(w, node), operand(w, node, 1)], node.name, kernel_shape=kernel, strides=strides,
        dilations=dilations, pads=pads, output_padding=extra, group=int(a.get("groups", a.get("group", 1))),
    )  # fmt: skip


WINDOWS: dict[str, Any] = {
    "AdaptiveAvgPool2D": adaptive_pool("AveragePool"),
    "AdaptiveAvgPool3D": adaptive_pool("AveragePool"),
    "AdaptiveMaxPool2D": adaptive_pool("MaxPool"),
    "MaxPool3D": volume_max_pool,
    "Im2Col": patches,
    "Col2Im": image_of_patches,
    "GridSampler2D": sampled,
    "GridSampler3D": sampled,
    "ResizeBicubic": resize("cubic"),
    "ResizeLinear1D": resize("linear"),
    "LRN": local_response_norm,
    "InstanceNorm": instance_norm,
    "Conv3DTranspose": transposed_volume,
}
