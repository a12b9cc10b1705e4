"""ONNX operators as nodes of a NetworkGraph: what a cost model reads of them, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from autocomp.primitives.tracing.nodes import KIND_OF
from autocomp.search_spaces import Argument, Convolution, Node, NodeAttributes

SAME = (
    *("Sigmoid", "Tanh", "Elu", "Mish", "Softplus", "Softsign", "Abs", "Exp", "Log", "Sqrt", "Neg", "Erf", "Cast"),
    *("Identity", "Sin", "Cos", "Floor", "Ceil", "Round", "Reciprocal", "Sign", "Add", "Sub", "Mul", "Pow", "Greater"),
    *("Less", "Equal", "Concat", "MaxPool", "Softmax", "LogSoftmax", "Flatten", "Reshape", "Squeeze", "Transpose"),
    *("Split", "Gather", "Tile", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"),
)
OPS = {name: name for name in SAME} | {  # ONNX -> MindSpore
    **{"Relu": "ReLU", "HardSwish": "HSwish", "HardSigmoid": "HSigmoid", "Gelu": "GeLU", "LeakyRelu": "LeakyReLU"},
    **{"PRelu": "PReLU", "Selu": "SeLU", "Swish": "SiLU", "Clip": "Clamp", "Not": "LogicalNot", "Div": "RealDiv"},
    **{"Max": "Maximum", "Min": "Minimum", "GreaterOrEqual": "GreaterEqual", "LessOrEqual": "LessEqual"},
    **{"And": "LogicalAnd", "Or": "LogicalOr", "Where": "Select", "Sum": "Add", "AveragePool": "AvgPool"},
    **{"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax", "ArgMax": "Argmax", "ArgMin": "Argmin"},
    **{"Unsqueeze": "ExpandDims", "Slice": "StridedSlice", "Expand": "BroadcastTo", "Pad": "PadV3"},
    **{"Resize": "ResizeBilinear", "Upsample": "ResizeNearestNeighbor", "LayerNormalization": "LayerNorm"},
    **{"InstanceNormalization": "InstanceNorm", "GroupNormalization": "GroupNorm", "LpNormalization": "L2Normalize"},
    **{"BatchNormalization": "BatchNorm", "SimplifiedLayerNormalization": "LayerNorm"},
}
Operands = list[Argument | None]  # in the operator's order; None for one that is not given
Attributes = Mapping[str, Any]
Found = tuple[str, tuple[Any, ...], dict[str, Any]]  # MindSpore's operator, its constants and its attributes
Shape = tuple[int, ...]


def node_of(op: str, name: str, given: Operands, shape: Shape, attributes: Attributes, sizes: list[Shape]) -> Node:
    """given: node, parameter or constant. sizes: shapes of all operands."""
    layer = _layer_of(op, given, sizes)
    if layer is not None:
        return layer(name, given, shape, attributes, sizes)
    found, constants, operator = _described(op, given, attributes)
    named = tuple(argument for argument in given if argument is not None and argument.kind in ("node", "parameter"))
    own = constants or tuple(a.value for a in given if a is not None and a.kind == "constant")
    arguments = tuple(a for a in given if a is not None) if not constants else named + _constants(constants)
    names = [i for i, argument in enumerate(given) if argument is not None and argument.kind == "parameter"]
    parameters = tuple(str(given[i].value) for i in names)  # type: ignore[union-attr]
    read = NodeAttributes(arguments, own, operator, parameters, tuple(sizes[i] for i in names))
    return Node(name, KIND_OF.get(found, "other"), found, _nodes(given), shape, attributes=read, units=units(shape))


def units(shape: Shape) -> np.ndarray:
    """All channels stay: those of an image, or the last axis."""
    return np.full(shape[1] if len(shape) == 4 else shape[-1] if shape else 0, -1)


def _constants(values: tuple[Any, ...]) -> tuple[Argument, ...]:
    return tuple(Argument("constant", value) for value in values)


def _nodes(given: Operands) -> tuple[int, ...]:
    return tuple(int(argument.value) for argument in given if argument is not None and argument.kind == "node")


def _described(op: str, given: Operands, attributes: Attributes) -> Found:
    found = OPS.get(op, op)
    if op in ("GlobalAveragePool", "GlobalMaxPool"):
        return found, ((2, 3), True), {}
    if op.startswith("Reduce"):
        return found, (_axes(given, attributes), bool(attributes.get("keepdims", 1))), {}
    if op == "Transpose":
        return found, (tuple(attributes.get("perm", ())),), {}
    if op in ("Softmax", "LogSoftmax"):
        return found, ((attributes.get("axis", -1),),), {}
    if op in ("MaxPool", "AveragePool"):
        kernel, stride = (tuple(attributes.get(key, (1, 1))) for key in ("kernel_shape", "strides"))
        return found, (), {"kernel_size": (1, 1, *kernel), "strides": (1, 1, *stride)}
    if op == "Clip":
        bounds = _bounds(given, attributes)
        return ("ReLU6", (), {}) if bounds == (0.0, 6.0) else (found, bounds, {})
    if op == "Resize" and attributes.get("mode", "nearest") == "nearest":
        return "ResizeNearestNeighbor", (), {}
    return found, (), {}


def _axes(given: Operands, attributes: Attributes) -> tuple[int, ...] | None:
    value = given[1].value if len(given) > 1 and given[1] is not None else attributes.get("axes")
    return None if value is None else tuple(int(axis) for axis in np.ravel(value))


def _bounds(given: Operands, attributes: Attributes) -> tuple[float | None, float | None]:
    def bound(place: int, name: str) -> float | None:
        argument = given[place] if len(given) > place else None
        value = attributes.get(name) if argument is None else argument.value
        return None if value is None or np.size(value) != 1 else float(np.ravel(value)[0])

    return bound(1, "min"), bound(2, "max")


Layer = Callable[[str, Operands, Shape, Attributes, list[Shape]], Node]


def _layer_of(op: str, given: Operands, sizes: list[Shape]) -> Layer | None:
    """How to make a node that multiplies matrices; None for other operators. Computed weights make no layer."""
    weighted = len(given) > 1 and given[1] is not None and given[1].kind == "parameter"
    if op in ("Conv", "ConvTranspose") and weighted and len(sizes[1]) == 4:
        return _transposed if op == "ConvTranspose" else _convolution
    if op in ("Gemm", "MatMul") and weighted and len(sizes[1]) == 2:
        return _dense
    return _product if op in ("Gemm", "MatMul") else None


def _layer(name: str, kind: str, op: str, given: Operands, shape: Shape, weight: Shape, **known: Any) -> Node:
    bias = given[2].value if len(given) > 2 and given[2] is not None else None
    source, matrix = given[0], given[1]
    assert source is not None and matrix is not None
    read = NodeAttributes((source, matrix), weight=str(matrix.value), bias=bias, **known)
    return Node(name, kind, op, _nodes(given[:1]), shape, name, weight, read, units(shape))


def _convolution(name: str, given: Operands, shape: Shape, attributes: Attributes, sizes: list[Shape]) -> Node:
    return _layer(name, "conv", "Conv2D", given, shape, sizes[1], convolution=_window(attributes, sizes[1]))


def _window(attributes: Attributes, weight: Shape, transposed: bool = False) -> Convolution:
    pad = tuple(attributes.get("pads", (0, 0, 0, 0)))
    return Convolution(
        kernel=(weight[2], weight[3]),
        stride=tuple(attributes.get("strides", (1, 1))),
        pad=(pad[0], pad[2], pad[1], pad[3]),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=int(attributes.get("group", 1)),
        transposed=transposed,
    )


def _transposed(name: str, given: Operands, shape: Shape, attributes: Attributes, sizes: list[Shape]) -> Node:
    inner, out, *kernel = sizes[1]
    groups = int(attributes.get("group", 1))
    window = _window(attributes, sizes[1], transposed=True)
    pixels = sizes[0][0] * int(np.prod(sizes[0][2:]))
    weight = (out * groups, inner // groups, *kernel)
    return _layer(name, "conv", "Conv2DTranspose", given, shape, weight, convolution=window, positions=pixels)


def _dense(name: str, given: Operands, shape: Shape, attributes: Attributes, sizes: list[Shape]) -> Node:
    weight = sizes[1] if attributes.get("transB", 0) else sizes[1][::-1]
    return _layer(name, "dense", "MatMul", given, shape, weight)


def _product(name: str, given: Operands, shape: Shape, attributes: Attributes, sizes: list[Shape]) -> Node:
    turns = (bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0)))
    pair = tuple(argument for argument in given[:2] if argument is not None)
    names = [i for i, argument in enumerate(pair) if argument.kind == "parameter"]
    parameters = tuple(str(pair[i].value) for i in names)
    shapes = tuple(sizes[i] for i in names)
    read = NodeAttributes(pair + _constants(turns), turns, {}, parameters, shapes)
    return Node(name, "matmul", "BatchMatMul", _nodes(list(pair)), shape, attributes=read, units=units(shape))
