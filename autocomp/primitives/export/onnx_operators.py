"""The ONNX form of each MindSpore operator that the writer supports; for others it raises ExportError with the name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.search_spaces import Node

from .forms.functions import FUNCTIONS
from .forms.known import known
from .forms.matrices import MATRICES
from .forms.places import PLACES
from .forms.recurrent import lstm
from .forms.running import RUNNING
from .forms.windows import WINDOWS
from .onnx_cache import cached_product
from .onnx_convolutions import conv, transposed_conv, volume_conv
from .onnx_elementwise import ELEMENTWISE, binary, unary
from .onnx_indexing import INDEXING
from .onnx_inputs import dense_of_rows, in_steps
from .onnx_packed import multiplies_packed, packed_dense
from .onnx_padding import PADDING
from .onnx_reductions import REDUCTIONS
from .onnx_shapes import SHAPES, argument_shape, operand, source_shape
from .onnx_types import element_type, type_of, typed
from .onnx_writer import Form, Writer


def constants(node: Node) -> tuple[Any, ...]:
    return tuple(node.attributes.constants)


def network_input(w: Writer, node: Node) -> str:
    from onnx import helper

    name = str(node.attributes.operator["name"]).rpartition(":")[2] or node.name
    if any(name == other.name for other in w.graph.nodes if other is not node):  # a layer called as the argument
        name = f"{name}.input"
    kind = element_type(type_of(node))
    w.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *node.shape[1:]]))
    return name


def dense(w: Writer, node: Node) -> str:
    if node.layer is None:
        return plain_dense(w, node) if node.op == "Dense" else matmul(w, node)
    state = w.state(node.layer)
    if multiplies_packed(w, node, state):
        return packed_dense(w, node, state)
    if state.row_bits is not None and w.multiplies_integers(node, in_steps(state)):
        return dense_of_rows(w, node, state)
    matrix = len(source_shape(w, node)) == 2
    source, weight = w.layer_input(node, state), w.layer_weight(node, state, columns=not matrix)
    bias = w.layer_bias(node, state)
    if matrix:
        return w.emit("Gemm", [source, weight, *bias], node.name, transB=1)
    product = w.emit("MatMul", [source, weight], f"{node.name}.product" if bias else node.name)
    return w.emit("Add", [product, *bias], node.name) if bias else product


def plain_dense(w: Writer, node: Node) -> str:
    """(x, weight (out, in), bias or None) of a weight that belongs to no ``nn.Dense``, or is computed."""
    bias = node.arguments[2:3]
    biased = bool(bias) and bias[0].value is not None
    turned = w.emit("Transpose", [operand(w, node, 1)], f"{node.name}.columns", perm=[1, 0])
    product = w.emit("MatMul", [operand(w, node), turned], f"{node.name}.product" if biased else node.name)
    return w.emit("Add", [product, operand(w, node, 2)], node.name) if biased else product


def matmul(w: Writer, node: Node) -> str:
    operands = [operand(w, node, 0), operand(w, node, 1)]
    flags = [value for value in constants(node) if isinstance(value, bool)] + [False, False]
    operator = node.attributes.operator
    transposed = (operator.get("transpose_a", flags[0]), operator.get("transpose_b", flags[1]))
    for i in np.flatnonzero(transposed):
        rank = len(argument_shape(w, node, int(i)))
        swap = [*range(rank - 2), rank - 1, rank - 2]
        quantizer = w.on_grid.get(operands[i])  # a rounded operand is rounded again behind its transpose
        operands[i] = w.emit("Transpose", [operands[i]], f"{node.name}.{'ab'[i]}", perm=swap)
        if quantizer is not None:
            operands[i] = w.rounded(operands[i], quantizer, f"{operands[i]}#quantized")
    if (read := w.compressed.cache.get(node.name)) is not None:
        return cached_product(w, node, operands, read)
    return w.emit("MatMul", operands, node.name)


def batchnorm(w: Writer, node: Node) -> str:
    return plain_batchnorm(w, node) if node.layer is None else w.batchnorm(node)


def plain_batchnorm(w: Writer, node: Node) -> str:
    """(x, gamma, beta, mean, variance, ...) of numbers that belong to no layer, by running statistics."""
    a, values = node.attributes.operator, node.attributes.constants
    trains = next((value for value in values if isinstance(value, bool)), a.get("is_training", False))
    if trains:
        raise ExportError(f"the BatchNorm {node.name} normalises by the statistics of the batch, not by running ones")
    epsilon = next((value for value in values if isinstance(value, float)), a.get("epsilon", 1e-5))
    inputs = [operand(w, node, i) for i in range(5)]
    return w.emit("BatchNormalization", inputs, node.name, epsilon=float(epsilon))


def layernorm(w: Writer, node: Node) -> str:
    axis, epsilon = constants(node)[0], constants(node)[-1]
    inputs = [operand(w, node, i) for i in range(3)]
    return w.emit("LayerNormalization", inputs, node.name, axis=int(axis), epsilon=float(epsilon))


def bias_add(w: Writer, node: Node) -> str:
    shape = w.constant([1, -1] + [1] * (len(node.shape) - 2))
    column = w.emit("Reshape", [operand(w, node, 1), shape], f"{node.name}.bias")
    return w.emit("Add", [operand(w, node), column], node.name)


def prelu(w: Writer, node: Node) -> str:
    """(x, slope): one number for all channels, or one for each."""
    slope, name = known(w, node.arguments[1]), node.parameters[0] if node.parameters else f"{node.name}.slope"
    if slope is None:
        raise ExportError(f"{node.name} computes its slope, which has no ONNX form in autocomp")
    slope = slope[w.kept(node)] if slope.size > 1 and len(node.units) else slope
    column = slope.reshape(-1, *([1] * (len(node.shape) - 2)))
    return w.emit("PRelu", [operand(w, node), w.initializer(name, column)], node.name)


def silu(w: Writer, node: Node) -> str:
    gate = w.gate("Sigmoid", operand(w, node), f"{node.name}.gate")
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


def window(node: Node) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Kernel, strides and MindSpore's padding of a pooling operator, from its attributes or its arguments."""
    a, values = node.attributes.operator, constants(node)
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
        source = w.pooled(node) if op == "MaxPool" else operand(w, node)
        return w.emit(op, [source], node.name, kernel_shape=kernel, strides=strides, auto_pad=pad)

    return form


def padded_max_pool(w: Writer, node: Node) -> str:
    """``MaxPool3DWithArgmax`` (an image as a volume of depth 1) and ``MaxPoolWithArgmaxV2``; only the maxima."""
    a, spatial = node.attributes.operator, len(node.shape) - 2
    kernel = tuple(a["ksize"] if "ksize" in a else a["kernel_size"])[-spatial:]
    pads = tuple(a["pads"])[-spatial:]
    strides, dilations = tuple(a["strides"])[-spatial:], tuple(a["dilation"])[-spatial:]
    return w.emit(
        "MaxPool", [w.pooled(node)], node.name, kernel_shape=kernel, strides=strides, dilations=dilations,
        pads=pads + pads, ceil_mode=int(a["ceil_mode"]),
    )  # fmt: skip


def padded_average_pool(w: Writer, node: Node) -> str:
    """``AvgPool3D``: an image as a volume of depth 1; pads are pairs, before and after each axis."""
    a = node.attributes.operator
    if a.get("divisor_override"):
        raise ExportError(f"{node.name} overrides its divisor, which has no ONNX form")
    pads = tuple(a["pad_list"])
    return w.emit(
        "AveragePool", [operand(w, node)], node.name, kernel_shape=tuple(a["kernel_size"])[-3:],
        strides=tuple(a["strides"])[-3:], pads=pads[0::2] + pads[1::2], ceil_mode=int(a["ceil_mode"]),
        count_include_pad=int(a["count_include_pad"]),
    )  # fmt: skip


def softmax(op: str) -> Form:
    def form(w: Writer, node: Node) -> str:
        axis = next((value for value in constants(node) if isinstance(value, (int, tuple))), -1)
        return w.emit(op, [operand(w, node)], node.name, axis=axis[0] if isinstance(axis, tuple) else axis)

    return form


def scaled_binary(op: str) -> Form:
    """``x + alpha * y``"""

    def form(w: Writer, node: Node) -> str:
        values = [value for kind, value, *_ in node.arguments[2:3] if kind == "constant"]
        dtype = type_of(node)
        other = typed(w, node, 1, dtype)
        if values and isinstance(values[0], (int, float)) and values[0] != 1:
            factor = w.initializer(f"{node.name}.factor", np.asarray(values[0], dtype))
            other = w.emit("Mul", [other, factor], f"{node.name}.scaled")
        return w.emit(op, [typed(w, node, 0, dtype), other], node.name)

    return form


def square(w: Writer, node: Node) -> str:
    x = typed(w, node, 0, type_of(node))
    return w.emit("Mul", [x, x], node.name)


def rsqrt(w: Writer, node: Node) -> str:
    return w.emit("Reciprocal", [w.emit("Sqrt", [operand(w, node)], f"{node.name}.root")], node.name)


def mish(w: Writer, node: Node) -> str:
    softplus = w.emit("Softplus", [operand(w, node)], f"{node.name}.soft")
    return w.emit("Mul", [operand(w, node), w.emit("Tanh", [softplus], f"{node.name}.tanh")], node.name)


def leaky_relu(w: Writer, node: Node) -> str:
    slope = next((value for value in constants(node) if isinstance(value, float)), None)
    slope = node.attributes.operator.get("alpha", 0.2) if slope is None else slope
    return w.emit("LeakyRelu", [operand(w, node)], node.name, alpha=float(slope))


def group_norm(w: Writer, node: Node) -> str:
    """(x, groups, gamma, beta, epsilon)"""
    groups, epsilon = int(constants(node)[0]), float(constants(node)[-1])
    shape, name = node.shape, node.name
    grouped = w.emit("Reshape", [operand(w, node), w.constant([0, groups, -1])], f"{name}.groups")
    ones, zeros = w.constant(np.ones(groups), np.float32), w.constant(np.zeros(groups), np.float32)
    normal = w.emit("InstanceNormalization", [grouped, ones, zeros], f"{name}.normal", epsilon=epsilon)
    back = w.emit("Reshape", [normal, w.constant([-1, *shape[1:]])], f"{name}.back")
    column = w.constant([1, -1] + [1] * (len(shape) - 2))
    gamma, beta = (w.emit("Reshape", [operand(w, node, i), column], f"{name}.{i}") for i in (2, 3))
    return w.emit("Add", [w.emit("Mul", [back, gamma], f"{name}.scaled"), beta], name)


def l2_normalize(w: Writer, node: Node) -> str:
    a, x, name = node.attributes.operator, operand(w, node), node.name
    axes = (a["axis"],) if isinstance(a["axis"], int) else a["axis"]
    total = w.emit("ReduceSumSquare", [x, w.constant(axes)], f"{name}.sum", keepdims=1)
    safe = w.emit("Max", [total, w.constant(a["epsilon"], np.float32)], f"{name}.safe")
    return w.emit("Div", [x, w.emit("Sqrt", [safe], f"{name}.norm")], name)


OPERATORS: dict[str, Form] = {
    **SHAPES,
    **ELEMENTWISE,
    **REDUCTIONS,
    **INDEXING,
    **PADDING,
    **PLACES,
    **RUNNING,
    **FUNCTIONS,
    **WINDOWS,
    **MATRICES,
    "LSTM": lstm,
    "MatMulExt": dense,
    "BatchMatMulExt": matmul,
    "GroupNorm": group_norm,
    "L2Normalize": l2_normalize,
    "Identity": unary("Identity"),
    "Sin": unary("Sin"),
    "Cos": unary("Cos"),
    "Floor": unary("Floor"),
    "Elu": unary("Elu"),
    "LeakyReLU": leaky_relu,
    "LeakyReLUExt": leaky_relu,
    "Square": square,
    "Rsqrt": rsqrt,
    "Mish": mish,
    "Reciprocal": unary("Reciprocal"),
    "AddExt": scaled_binary("Add"),
    "SubExt": scaled_binary("Sub"),
    "InplaceAddExt": scaled_binary("Add"),
    "InplaceSubExt": scaled_binary("Sub"),
    "InplaceMul": binary("Mul"),
    "InplaceDiv": binary("Div"),
    "Muls": binary("Mul"),
    "Divs": binary("Div"),
    "Input": network_input,
    "Conv2D": conv,
    "Conv3D": volume_conv,
    "Conv2DTranspose": transposed_conv,
    "Conv2DBackpropInput": transposed_conv,
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
    "MaxPool": pool("MaxPool"),
    "MaxPool3DWithArgmax": padded_max_pool,
    "MaxPoolWithArgmaxV2": padded_max_pool,
    "AvgPool": pool("AveragePool"),
    "AvgPool3D": padded_average_pool,
    "Softmax": softmax("Softmax"),
    "LogSoftmax": softmax("LogSoftmax"),
}
