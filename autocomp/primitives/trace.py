"""From a MindSpore network to a NetworkGraph."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import TraceError
from ..search_spaces import NetworkGraph, Node
from .channels import group_channels
from .mindir import Graph, Operator, Output, Parameter, export_graph, first_line
from .platform import forward, load_mindspore

log = logging.getLogger("autocomp")

Inputs = tuple[np.ndarray, ...]

KINDS = {
    "input": "Input",
    "conv": "Conv2D Conv2DExt",
    "dense": "MatMul Dense MatMulExt",
    "batchnorm": "BatchNorm BatchNormExt",
    "layernorm": "LayerNorm LayerNormExt GroupNorm InstanceNorm",
    "activation": "ReLU ReLU6 Sigmoid HSwish HSigmoid Tanh GeLU GeluExt SiLU PReLU LeakyReLU LeakyReLUExt Elu SeLU "
    "Mish Softplus Softsign HardTanh Hardtanh Clamp ClampScalar ClampTensor Abs Exp Log Sqrt Rsqrt Neg Square Erf Cast",
    "add": "Add AddExt Sub SubExt BiasAdd",
    "mul": "Mul Muls Div RealDiv Divs Pow Maximum Minimum",
    "concat": "Concat Stack",
    "pool": "MaxPool AvgPool AvgPoolExt MaxPoolWithArgmax MaxPoolWithMask AdaptiveAvgPool2D AdaptiveAvgPool2DExt "
    "AdaptiveMaxPool2D AvgPool2D AvgPool3D MaxPool3D",
    "mean": "ReduceMean MeanExt ReduceSum SumExt ReduceMax",
    "flatten": "Flatten FlattenExt",
    "matmul": "BatchMatMul BatchMatMulExt",
    "softmax": "Softmax LogSoftmax SoftmaxExt",
    "reshape": "Reshape ExpandDims Squeeze View",
    "transpose": "Transpose TransposeView TransposeExtView",
    "slice": "StridedSlice Slice Split SplitWithSize SplitTensor Chunk Gather SliceExt Narrow",
    "pad": "Pad PadV3 MirrorPad ConstantPadND",
}
KIND_OF = {op: kind for kind, ops in KINDS.items() for op in ops.split()}
PROBES = ((3, 224, 224), (3, 32, 32), (1, 28, 28), (1, 32, 32), (3, 299, 299), (3, 64, 64))


def trace(net: Any, inputs: Inputs | Sequence[int] | Sequence[Sequence[int]]) -> NetworkGraph:
    """The network as data.

    Args:
        net: a MindSpore Cell; it is copied, never changed.
        inputs: example arrays, one shape with its batch, or a list of shapes. The graph is traced at batch 1.

    Raises:
        TypeError: net is no Cell. TraceError: it does not compile for these inputs.
    """
    check_cell(net)
    arrays = one_image(example_inputs(inputs))
    raw = export_graph(net, arrays)
    nodes, index = _nodes(raw, _owners(net))
    outputs = tuple(dict.fromkeys(index[output.operator] for output in raw.outputs))
    unknown = Counter(node.op for node in nodes if node.kind == "other")
    graph = NetworkGraph(nodes, outputs, unknown=dict(unknown), other_params=_other_params(net, nodes))
    if unknown:
        names = ", ".join(f"{op} x{count}" for op, count in sorted(unknown.items()))
        log.info("operators that stay as they are, with the channels that reach them: %s", names)
    return group_channels(graph)


def check_cell(net: Any) -> None:
    ms = load_mindspore()
    if not isinstance(net, ms.nn.Cell):
        raise TypeError(f"net must be a mindspore.nn.Cell, but got {type(net).__name__}")


def example_inputs(inputs: Any) -> Inputs:
    """Arrays from arrays or shapes; images of zeros would hide problems, so shapes give seeded noise."""
    if isinstance(inputs, np.ndarray):
        return (inputs,)
    items = list(inputs)
    if items and all(isinstance(item, np.ndarray) for item in items):
        return tuple(items)
    shapes = [items] if items and all(isinstance(item, (int, np.integer)) for item in items) else items
    for shape in shapes:
        if not isinstance(shape, Sequence) or not all(
            isinstance(size, (int, np.integer)) and size > 0 for size in shape
        ):
            raise ValueError(
                f"inputs must be arrays, a shape such as (1, 3, 224, 224) or a list of shapes, got {inputs!r}"
            )
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(tuple(shape)).astype(np.float32) for shape in shapes)


def one_image(arrays: Inputs) -> Inputs:
    return tuple(array[:1] if array.ndim else array for array in arrays)


def find_inputs(net: Any) -> Inputs:
    """Inputs that the network takes, found by trying the usual image sizes; said in one log line."""
    check_cell(net)
    rng = np.random.default_rng(0)
    for shape in PROBES:
        x = rng.standard_normal((1, *shape)).astype(np.float32)
        try:
            forward(net, (x,), graph=False)
        except Exception as error:  # the network's own code may raise anything for a size that it does not take
            log.debug("inputs of shape (1, %s) do not fit: %s", ", ".join(map(str, shape)), first_line(error))
            continue
        log.info("no inputs= given: the network takes images of shape %s", shape)
        return (x,)
    tried = ", ".join(f"(1, {', '.join(map(str, shape))})" for shape in PROBES)
    raise TraceError(f"the network takes none of the usual image sizes {tried}: give inputs=, for example a shape")


def _owners(net: Any) -> dict[str, tuple[str, Any, str]]:
    """Parameter name -> (path of its cell, the cell, attribute)."""
    owners: dict[str, tuple[str, Any, str]] = {}
    for path, cell in net.cells_and_names():
        for attribute, parameter in cell.parameters_and_names(expand=False):
            owners.setdefault(parameter.name, (path, cell, attribute.rpartition(".")[2]))
    return owners


def _nodes(raw: Graph, owners: dict[str, tuple[str, Any, str]]) -> tuple[tuple[Node, ...], dict[int, int]]:
    """Nodes, and for each operator of the raw graph its node. A layer's BiasAdd is part of the layer's node."""
    nodes: list[Node] = []
    index: dict[int, int] = {}
    for position, operator in enumerate(raw.operators):
        sources = tuple(index[source.operator] for source in _outputs_in(operator.inputs))
        if _is_layer_bias(operator, sources, nodes, owners):
            nodes[sources[0]] = _with_bias(nodes[sources[0]], operator)
            index[position] = sources[0]
            continue
        index[position] = len(nodes)
        node = _node(operator, sources, owners, len(nodes))
        twice = any(other.name == node.name for other in nodes)
        nodes.append(replace(node, name=f"{node.name}@{len(nodes)}") if twice else node)
    return tuple(nodes), index


def _outputs_in(inputs: Any) -> list[Output]:
    found: list[Output] = []
    for value in inputs:
        if isinstance(value, tuple):
            found += _outputs_in(value)
        elif isinstance(value, Output):
            found.append(value)
    return found


def _is_layer_bias(operator: Operator, sources: tuple[int, ...], nodes: list[Node], owners: dict[str, Any]) -> bool:
    if operator.op != "BiasAdd" or not sources or len(operator.inputs) < 2:
        return False
    bias = operator.inputs[1]
    layer = nodes[sources[0]].layer
    return isinstance(bias, Parameter) and layer is not None and owners.get(bias.name, ("",))[0] == layer


def _arguments(inputs: tuple[Any, ...], sources: Iterator[int]) -> tuple[Any, ...]:
    """The operator's arguments with nodes in place of operators: see Node.attributes."""
    found: list[Any] = []
    for value in inputs:
        if isinstance(value, Output):
            found.append(("node", next(sources), value.part))
        elif isinstance(value, Parameter):
            found.append(("parameter", value.name))
        elif isinstance(value, tuple) and any(isinstance(part, (Output, Parameter)) for part in value):
            found.append(("tuple", _arguments(value, sources)))
        else:
            found.append(("constant", value))
    return tuple(found)


def _with_bias(node: Node, operator: Operator) -> Node:
    return replace(node, attributes={**node.attributes, "bias": operator.inputs[1].name})


def _node(operator: Operator, sources: tuple[int, ...], owners: dict[str, Any], position: int) -> Node:
    kind = KIND_OF.get(operator.op, "other")
    parameters = [value.name for value in operator.inputs if isinstance(value, Parameter)]
    constants = tuple(value for value in operator.inputs if not isinstance(value, (Output, Parameter)))
    attributes: dict[str, Any] = {"parameters": tuple(parameters), "constants": constants}
    attributes |= {"arguments": _arguments(operator.inputs, iter(sources)), "operator": operator.attributes}
    name, layer, weight_shape = f"{operator.op}-{position}", None, None
    path, cell, attribute = owners.get(parameters[0], ("", None, "")) if parameters else ("", None, "")
    if kind == "dense" and attribute != "weight":
        kind = "matmul"
    if kind in ("conv", "dense", "batchnorm", "layernorm", "activation") and cell is not None:
        layer = path if _carries(kind, cell) else None
    if kind in ("conv", "dense") and layer is not None:
        assert cell is not None
        weight_shape = tuple(cell.weight.shape)
        attributes |= {"weight": parameters[0]} | (_window(operator) if kind == "conv" else {})
        if len(parameters) > 1:
            attributes["bias"] = parameters[1]
    if kind == "batchnorm" and layer is not None:
        attributes["epsilon"] = next(value for value in constants if isinstance(value, float))
    if kind == "conv" and layer is None:
        kind = "other"
    name = layer or name
    return Node(name, kind, operator.op, sources, operator.shape or (1,), layer, weight_shape, attributes)


def _carries(kind: str, cell: Any) -> bool:
    """Whether surgery knows this cell; a user's own cell that owns such a weight stays as it is."""
    nn = load_mindspore().nn
    known = {
        "conv": nn.Conv2d,
        "dense": nn.Dense,
        "batchnorm": (nn.BatchNorm1d, nn.BatchNorm2d),
        "layernorm": nn.LayerNorm,
        "activation": nn.PReLU,
    }[kind]
    return isinstance(cell, known)


def _window(operator: Operator) -> dict[str, Any]:
    a = operator.attributes
    return {
        "kernel": tuple(a["kernel_size"]),
        "stride": tuple(a["stride"])[-2:],
        "pad": tuple(a["pad_list"]),
        "dilation": tuple(a["dilation"])[-2:],
        "groups": int(a.get("groups", a.get("group", 1))),
    }


def _other_params(net: Any, nodes: Sequence[Node]) -> int:
    layers = {node.attributes[key] for node in nodes for key in ("weight", "bias") if key in node.attributes}
    return sum(math.prod(p.shape) for p in net.get_parameters() if p.name not in layers)
