"""The rules of the form that ``amct_onnx.convert_qat_model`` converts: pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .file_graph import LAYERS, FileGraph

Broken = tuple[str, str, str]
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}


def training_rules(graph: FileGraph) -> Iterator[Broken]:
    for node in graph.of("QuantizeLinear"):
        yield from _pair(graph, node)
    for node in graph.of("DequantizeLinear"):
        if graph.made_by(node.input[0]) != "QuantizeLinear":
            yield "pairs", node.name, "it reads what no QuantizeLinear writes"
        yield from _readers(graph, node)
    for node in graph.of(*LAYERS):
        rounded = [graph.made_by(name) == "DequantizeLinear" for name in node.input[:2]]
        if any(rounded) and not all(rounded):
            yield "both", node.name, f"its {'input' if rounded[0] else 'weight'} alone is rounded"
        elif all(rounded):
            yield from _weight(graph, node)


def _pair(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    readers = graph.readers[node.output[0]]
    if node.output[0] in graph.outputs and not readers:
        return
    if not readers or any(reader.op_type != "DequantizeLinear" or i for reader, i in readers):
        yield "pairs", node.name, "another operator than DequantizeLinear reads it"
    for reader, _ in readers:
        same = len(reader.input) == len(node.input) and all(
            np.array_equal(_values(graph, a), _values(graph, b))
            for a, b in zip(reader.input[1:], node.input[1:], strict=True)
        )
        if reader.op_type == "DequantizeLinear" and not same:
            yield "pairs", reader.name, f"its factors are not those of {node.name}"


def _values(graph: FileGraph, name: str) -> np.ndarray:
    found = graph.constant(name)
    return np.full(1, np.nan) if found is None else found


def _readers(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    for reader, i in graph.readers[node.output[0]]:
        if reader.op_type not in (*LAYERS, "Add") or (reader.op_type in LAYERS and i > 1):
            yield "both", node.name, f"{reader.op_type} reads it"
        elif (i == 0 or reader.op_type == "Add") and _values(graph, node.input[1]).size != 1:
            yield "input-scale", node.name, f"it has {_values(graph, node.input[1]).size} scales"


def _weight(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    pair, weight = graph.maker[node.input[1]], graph.weight(node)
    if weight is None or weight.dtype != np.float32:
        yield "weight-constant", node.name, f"its weight is {'no constant' if weight is None else weight.dtype}"
        return
    scales, axis = _values(graph, pair.input[1]), CHANNEL_AXIS.get(node.op_type)
    given = graph.attributes(pair).get("axis", 1)
    if scales.size != 1 and (axis is None or given != axis or scales.size != weight.shape[axis]):
        yield "weight-scale", node.name, f"its weight has {scales.size} scales along axis {given}"
    if not np.all(np.isfinite(scales) & (scales > 0)):
        yield "weight-scale", node.name, "a scale of its weight is not above 0"
    if len(pair.input) > 2 and np.any(_values(graph, pair.input[2])):
        yield "weight-zero", node.name, "its weight has a zero point"
