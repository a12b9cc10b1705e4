"""The ONNX form of each MindSpore operator that the writer knows; a missing one is an ExportError by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ExportError
from ..search_spaces import Node
from .onnx_network import Writer

Form = Callable[[Writer, Node], "str | tuple[str, ...]"]


def constants(node: Node) -> tuple[Any, ...]:
    return tuple(node.attributes["constants"])


def operand(w: Writer, node: Node, position: int = 0) -> str:
    return w.argument(node.attributes["arguments"][position])


def unary(op: str, **attributes: Any) -> Form:
    return lambda w, node: w.emit(op, [operand(w, node)], node.name, **attributes)


def binary(op: str) -> Form:
    return lambda w, node: w.emit(op, [operand(w, node, 0), operand(w, node, 1)], node.name)


def source_shape(w: Writer, node: Node) -> tuple[int, ...]:
    return w.graph.nodes[node.inputs[0]].shape


def network_input(w: Writer, node: Node) -> str:
    from onnx import TensorProto, helper

    name = str(node.attributes["operator"]["name"]).rpartition(":")[2] or node.name
    w.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *node.shape[1:]]))
    return name


def conv(w: Writer, node: Node) -> str:
    a = node.attributes
    if node.layer is None:
        raise ExportError(f"the convolution {node.name} does not belong to an nn.Conv2d")
    state = w.state(node.layer)
    inputs = [w.layer_input(node, state), w.layer_weight(node, state), *w.layer_bias(node, state)]
    groups = len(state.weight) // (node.weight_shape[0] // node.groups) if node.depthwise else node.groups  # type: ignore[index]
    top, bottom, left, right = a["pad"]
    window = {"kernel_shape": a["kernel"], "strides": a["stride"], "dilations": a["dilation"]}
    return w.emit("Conv", inputs, node.name, pads=[top, left, bottom, right], group=groups, **window)


def dense(w: Writer, node: Node) -> str:
    if node.layer is None:
        return matmul(w, node)
    state = w.state(node.layer)
    source, weight = w.layer_input(node, state), w.layer_weight(node, state)
    if len(source_shape(w, node)) == 2:
        return w.emit("Gemm", [source, weight, *w.layer_bias(node, state)], node.name, transB=1)
    turned = w.emit("Transpose", [weight], f"{node.name}.turned", perm=[1, 0])
    bias = w.layer_bias(node, state)
    product = w.emit("MatMul", [source, turned], f"{node.name}.product" if bias else node.name)
    return w.emit("Add", [product, *bias], node.name) if bias else product


def matmul(w: Writer, node: Node) -> str:
    a, b = operand(w, node, 0), operand(w, node, 1)
    flags = [value for value in constants(node) if isinstance(value, bool)] + [False, False]
    operator = node.attributes["operator"]
    turned = (operator.get("transpose_a", flags[0]), operator.get("transpose_b", flags[1]))
    rank = len(node.shape)
    swap = [*range(rank - 2), rank - 1, rank - 2]
    if turned[0]:
        a = w.emit("Transpose", [a], f"{node.name}.a", perm=swap)
    if turned[1]:
        b = w.emit("Transpose", [b], f"{node.name}.b", perm=swap)
    return w.emit("MatMul", [a, b], node.name)


def batchnorm(w: Writer, node: Node) -> str:
    if node.layer is None:
        raise ExportError(f"the BatchNorm {node.name} does not belong to an nn.BatchNorm1d or nn.BatchNorm2d")
    return w.batchnorm(node)


def layernorm(w: Writer, node: Node) -> str:
    axis, epsilon = constants(node)[0], constants(node)[-1]
    inputs = [operand(w, node, i) for i in range(3)]
    return w.emit("LayerNormalization", inputs, node.name, axis=int(axis), epsilon=float(epsilon))


def bias_add(w: Writer, node: Node) -> str:
    shape = w.constant([1, -1] + [1] * (len(node.shape) - 2))
    column = w.emit("Reshape", [operand(w, node, 1), shape], f"{node.name}.bias")
    return w.emit("Add", [operand(w, node), column], node.name)


def prelu(w: Writer, node: Node) -> str:
    name = node.attributes["parameters"][0]
    slope = w.parameters[name]
    slope = slope[w.kept(node)] if len(slope) > 1 else slope
    column = slope.reshape(-1, *([1] * (len(node.shape) - 2)))
    return w.emit("PRelu", [operand(w, node), w.initializer(name, column)], node.name)


def silu(w: Writer, node: Node) -> str:
    gate = w.emit("Sigmoid", [operand(w, node)], f"{node.name}.gate")
    return w.emit("Mul", [operand(w, node), gate], node.name)


def gelu_tanh(w: Writer, node: Node) -> str:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016)."""
    x, name = operand(w, node), node.name
    cube = w.emit("Mul", [x, w.emit("Mul", [x, x], f"{name}.2")], f"{name}.3")
    small = w.emit("Mul", [cube, w.constant(0.044715, np.float32)], f"{name}.small")
    inner = w.emit("Mul", [w.emit("Add", [x, small], f"{name}.sum"), w.constant(math.sqrt(2 / math.pi), np.float32)],
                   f"{name}.inner")  # fmt: skip
    return _half_gate(w, node, w.emit("Tanh", [inner], f"{name}.tanh"))


def gelu(w: Writer, node: Node) -> str:
    if "tanh" in constants(node) or 1 in constants(node):
        return gelu_tanh(w, node)
    scaled = w.emit("Mul", [operand(w, node), w.constant(math.sqrt(0.5), np.float32)], f"{node.name}.scaled")
    return _half_gate(w, node, w.emit("Erf", [scaled], f"{node.name}.erf"))


def _half_gate(w: Writer, node: Node, gate: str) -> str:
    one = w.emit("Add", [gate, w.constant(1, np.float32)], f"{node.name}.one")
    half = w.emit("Mul", [operand(w, node), w.constant(0.5, np.float32)], f"{node.name}.half")
    return w.emit("Mul", [half, one], node.name)


def clip(low: float, high: float) -> Form:
    return lambda w, node: w.emit(
        "Clip", [operand(w, node), w.constant(low, np.float32), w.constant(high, np.float32)], node.name
    )


def concat(w: Writer, node: Node) -> str:
    parts = node.attributes["arguments"][0][1]
    axis = next(value for value in constants(node) if isinstance(value, int))
    return w.emit("Concat", [w.argument(part) for part in parts], node.name, axis=axis)


def window(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Kernel, strides and MindSpore's padding of a pooling operator, from its attributes or its arguments."""
    a, values = node.attributes["operator"], constants(node)
    if "kernel_size" in a:
        return tuple(a["kernel_size"])[-2:], tuple(a["strides"])[-2:], str(a["pad_mode"]).upper()
    pairs = [value for value in values if isinstance(value, tuple)]
    mode = next(value for value in values if isinstance(value, (int, str)) and not isinstance(value, bool))
    return pairs[0][-2:], pairs[1][-2:], {"1": "SAME", "2": "VALID"}.get(str(mode), str(mode).upper())


def pool(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        kernel, strides, mode = window(node)
        if mode not in ("SAME", "VALID"):
            raise ExportError(f"{node.name} pads by {mode!r}, which has no ONNX form in autocomp")
        pad = "SAME_UPPER" if mode == "SAME" else "VALID"
        return w.emit(op, [operand(w, node)], node.name, kernel_shape=kernel, strides=strides, auto_pad=pad)

    return form


def adaptive_pool(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        before, after = source_shape(w, node)[-2:], node.shape[-2:]
        if after == (1, 1):
            return w.emit(f"Global{op}", [operand(w, node)], node.name)
        if any(a % b for a, b in zip(before, after, strict=True)):
            raise ExportError(f"{node.name} pools {before} to {after}, which is no whole window and has no ONNX form")
        kernel = [a // b for a, b in zip(before, after, strict=True)]
        return w.emit(op, [operand(w, node)], node.name, kernel_shape=kernel, strides=kernel)

    return form


def reduce(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        source = source_shape(w, node)
        axes = next(
            (value for value in constants(node) if isinstance(value, (int, tuple)) and value is not False), None
        )
        axes = tuple(range(len(source))) if axes in (None, ()) else (axes,) if isinstance(axes, int) else axes
        if 0 in [axis % len(source) for axis in axes]:
            raise ExportError(f"{node.name} reduces over the batch, which must stay free in ONNX")
        keeps = int(len(source) == len(node.shape))
        return w.emit(op, [operand(w, node), w.constant(axes)], node.name, keepdims=keeps)

    return form


def reshape(w: Writer, node: Node) -> str:
    """The batch stays free; the axis that carries prunable channels, or else the largest, is left to be inferred."""
    source, target = source_shape(w, node), list(node.shape)
    if not target or source[0] != target[0]:
        if target and target[0] % source[0] == 0 and not (node.units >= 0).any():
            return w.emit("Reshape", [operand(w, node), w.constant([-1, *target[1:]])], node.name)
        raise ExportError(f"{node.name} reshapes {source} to {tuple(target)}, which mixes the batch with other axes")
    shape = [0, *target[1:]]
    if len(shape) > 1 and (node.units >= 0).any():
        shape[1] = -1
    elif len(shape) > 1:
        shape[1 + int(np.argmax(shape[1:]))] = -1
    return w.emit("Reshape", [operand(w, node), w.constant(shape)], node.name)


def transpose(w: Writer, node: Node) -> str:
    order = next(value for value in constants(node) if isinstance(value, tuple))
    return w.emit("Transpose", [operand(w, node)], node.name, perm=order)


def softmax(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        axis = next((value for value in constants(node) if isinstance(value, (int, tuple))), -1)
        return w.emit(op, [operand(w, node)], node.name, axis=axis[0] if isinstance(axis, tuple) else axis)

    return form


def split(w: Writer, node: Node) -> tuple[str, ...]:
    axis, parts = constants(node)[:2]
    names = [node.name, *(f"{node.name}:{i}" for i in range(1, parts))]
    length = source_shape(w, node)[axis] // parts
    w.emit("Split", [operand(w, node), w.constant([length] * parts)], node.name, outputs=parts, axis=axis)
    return tuple(names)


def strided_slice(w: Writer, node: Node) -> str:
    """Begin, end and strides; the masks' bits stand for axes (begin, end, ellipsis, new axis, shrink)."""
    begin, end, strides, begin_mask, end_mask, ellipsis, new_axis, shrink = constants(node)
    if ellipsis or new_axis:
        raise ExportError(f"{node.name} slices with an ellipsis or a new axis, which has no ONNX form in autocomp")
    shape = source_shape(w, node)
    axes = [i for i in range(len(begin)) if not (begin_mask >> i & 1 and end_mask >> i & 1 and strides[i] == 1)]
    if shrink or (0 in axes and node.shape[0] != shape[0]):
        raise ExportError(f"{node.name} picks single elements, which has no ONNX form in autocomp")
    starts = [0 if begin_mask >> i & 1 else begin[i] for i in axes]
    ends = [np.iinfo(np.int64).max if end_mask >> i & 1 else end[i] for i in axes]
    inputs = [operand(w, node), *(w.constant(v) for v in (starts, ends, axes, [strides[i] for i in axes]))]
    return w.emit("Slice", inputs, node.name) if axes else w.emit("Identity", inputs[:1], node.name)


def pad(w: Writer, node: Node) -> str:
    """Pairs for the last axes first, as PyTorch has them."""
    pairs = next(value for value in constants(node) if isinstance(value, tuple))
    mode = node.attributes["operator"].get("mode", "constant")
    fill = [float(value) for value in constants(node) if isinstance(value, (float, np.ndarray))]
    before, after = [0] * len(node.shape), [0] * len(node.shape)
    for i in range(len(pairs) // 2):
        before[-1 - i], after[-1 - i] = pairs[2 * i], pairs[2 * i + 1]
    inputs = [operand(w, node), w.constant(before + after)]
    inputs += [w.constant(fill[0] if fill else 0.0, np.float32)] if mode == "constant" else []
    return w.emit("Pad", inputs, node.name, mode={"constant": "constant", "reflect": "reflect"}.get(mode, "edge"))


def cast(w: Writer, node: Node) -> str:
    if node.shape != source_shape(w, node):
        raise ExportError(f"{node.name} changes the shape")
    return w.emit("Identity", [operand(w, node)], node.name)


OPERATORS: dict[str, Form] = {
    "Input": network_input,
    "Conv2D": conv,
    "MatMul": dense,
    "Dense": dense,
    "BatchMatMul": matmul,
    "BatchNorm": batchnorm,
    "LayerNorm": layernorm,
    "BiasAdd": bias_add,
    "ReLU": unary("Relu"),
    "ReLU6": clip(0, 6),
    "Sigmoid": unary("Sigmoid"),
    "Tanh": unary("Tanh"),
    "HSwish": unary("HardSwish"),
    "HSigmoid": unary("HardSigmoid", alpha=1 / 6, beta=0.5),
    "SiLU": silu,
    "GeLU": gelu_tanh,
    "GeluExt": gelu,
    "PReLU": prelu,
    "Softplus": unary("Softplus"),
    "Softsign": unary("Softsign"),
    "Abs": unary("Abs"),
    "Exp": unary("Exp"),
    "Log": unary("Log"),
    "Sqrt": unary("Sqrt"),
    "Neg": unary("Neg"),
    "Erf": unary("Erf"),
    "Add": binary("Add"),
    "Sub": binary("Sub"),
    "Mul": binary("Mul"),
    "Div": binary("Div"),
    "RealDiv": binary("Div"),
    "Pow": binary("Pow"),
    "Maximum": binary("Max"),
    "Minimum": binary("Min"),
    "Concat": concat,
    "MaxPool": pool("MaxPool"),
    "AvgPool": pool("AveragePool"),
    "AdaptiveAvgPool2D": adaptive_pool("AveragePool"),
    "AdaptiveMaxPool2D": adaptive_pool("MaxPool"),
    "ReduceMean": reduce("ReduceMean"),
    "MeanExt": reduce("ReduceMean"),
    "ReduceMax": reduce("ReduceMax"),
    "ReduceSum": reduce("ReduceSum"),
    "SumExt": reduce("ReduceSum"),
    "Flatten": reshape,
    "Reshape": reshape,
    "ExpandDims": reshape,
    "Squeeze": reshape,
    "Transpose": transpose,
    "Softmax": softmax("Softmax"),
    "LogSoftmax": softmax("LogSoftmax"),
    "Split": split,
    "StridedSlice": strided_slice,
    "PadV3": pad,
}
