"""The rules of the deployable form: AscendQuant, layers in integers, AscendDequant."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import AttributeProto

from .deployable import DEQUANT, QUANT
from .file_graph import LAYERS, FileGraph
from .integer_form import scales_of

Broken = tuple[str, str, str]
QUANT_KINDS = {
    "scale": AttributeProto.FLOAT,
    "offset": AttributeProto.FLOAT,
    "dst_type": AttributeProto.STRING,
    "sqrt_mode": AttributeProto.INT,
    "round_mode": AttributeProto.STRING,
}
DEQUANT_KINDS = dict.fromkeys(("dtype", "sqrt_mode", "relu_flag"), AttributeProto.INT)
LEAST, MOST = -128, 127


def integer_rules(graph: FileGraph) -> Iterator[Broken]:
    for node in graph.of(QUANT):
        yield from _quant(graph, node)
    for node in graph.of(DEQUANT):
        yield from _dequant(graph, node)
    for node in graph.integer_layers.values():
        yield from _layer(graph, node)
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        yield "one-form", node.name, f"it is {node.op_type}"


def _quant(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    a, kinds = graph.attributes(node), graph.kinds(node)
    wrong = [name for name, kind in kinds.items() if QUANT_KINDS.get(name) != kind]
    if len(node.input) != 1 or len(node.output) != 1 or wrong or "scale" not in a or "offset" not in a:
        yield "quant-attributes", node.name, f"it has {len(node.input)} inputs and the attributes {sorted(kinds)}"
        return
    scale, offset = a["scale"], a["offset"]
    whole = LEAST <= offset <= MOST and offset == round(offset)
    if not (np.isfinite(scale) and scale > 0 and whole and a.get("dst_type", b"INT8") == b"INT8"):
        yield "quant-attributes", node.name, f"it has scale {scale:g}, offset {offset:g}, dst_type {a.get('dst_type')}"
    readers = graph.readers[node.output[0]]
    if node.output[0] in graph.outputs or not readers or any(r.op_type not in LAYERS or i for r, i in readers):
        found = ", ".join(sorted({reader.op_type for reader, _ in readers})) or "nothing"
        yield "quant-readers", node.name, f"{found} reads it"


def _layer(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    weight = graph.constant(node.input[1]) if len(node.input) > 1 else None
    if weight is None or weight.dtype != np.int8:
        found = "no constant" if weight is None else str(weight.dtype)
        yield "weight", node.name, f"its weight is {found}"
        return
    if any(reader.op_type not in LAYERS or i != 1 for reader, i in graph.readers[node.input[1]]):
        yield "weight", node.name, f"{node.input[1]} is read by other operators, too"
    outputs = outputs_of(graph, node, weight)
    if len(node.input) > 2:
        yield from _bias(graph, node.name, node.input[2], outputs)
    yield from _reader(graph, node, outputs)


def _bias(graph: FileGraph, layer: str, name: str, outputs: int) -> Iterator[Broken]:
    bias = graph.constant(name)
    if bias is None or bias.dtype != np.int32 or bias.shape != (outputs,):
        found = "no constant" if bias is None else f"{bias.dtype} of shape {bias.shape}"
        yield "bias", layer, f"its bias is {found}, for {outputs} outputs"


def _reader(graph: FileGraph, node: onnx.NodeProto, outputs: int) -> Iterator[Broken]:
    """Of the layer's integers: AscendDequant, of a MatMul maybe behind the addition of its bias."""
    made, readers = node.output[0], graph.readers[node.output[0]]
    if node.op_type == "MatMul" and len(readers) == 1 and readers[0][0].op_type == "Add" and made not in graph.outputs:
        add = readers[0][0]
        yield from _bias(graph, node.name, next((name for name in add.input if name != made), ""), outputs)
        made, readers = add.output[0], graph.readers[add.output[0]]
    kinds = [reader.op_type for reader, i in readers if i == 0]
    if made in graph.outputs or kinds != [DEQUANT] or len(readers) != 1:
        found = ", ".join(sorted({reader.op_type for reader, _ in readers})) or "nothing"
        yield "dequant", node.name, f"{found} reads its integers"
        return
    param = graph.constant(readers[0][0].input[1]) if len(readers[0][0].input) > 1 else None
    allowed = {1, outputs} if node.op_type in ("Conv", "ConvTranspose") else {1}
    if param is not None and param.size not in allowed:
        yield "channels", node.name, f"it has {param.size} values for {outputs} outputs"


def outputs_of(graph: FileGraph, node: onnx.NodeProto, weight: np.ndarray) -> int:
    """How many outputs a layer with this weight has."""
    a = graph.attributes(node)
    if node.op_type == "Conv":
        return len(weight)
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1] * a.get("group", 1))
    return len(weight) if node.op_type == "Gemm" and a.get("transB", 0) else int(weight.shape[-1])


def _dequant(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    a, kinds = graph.attributes(node), graph.kinds(node)
    wrong = [name for name, kind in kinds.items() if DEQUANT_KINDS.get(name) != kind]
    if wrong or a.get("dtype", 0) not in (0, 1) or any(a.get(name, 0) not in (0, 1) for name in DEQUANT_KINDS):
        yield "dequant-attributes", node.name, f"it has {', '.join(f'{k}={v}' for k, v in sorted(a.items()))}"
    if not _sums(graph, node.input[0] if node.input else ""):
        yield "dequant", node.name, "it reads what no layer in integers gives"
    param = graph.constant(node.input[1]) if len(node.input) == 2 else None
    if param is None or param.dtype != np.uint64 or param.ndim != 1:
        found = "no constant" if param is None else f"{param.dtype} of shape {param.shape}"
        yield "deq-scale", node.name, f"its deq_scale is {found}"
        return
    scales = scales_of(param)
    if np.any(param >> np.uint64(32)) or not np.all(np.isfinite(scales) & (scales > 0)):
        yield "deq-scale", node.name, f"its deq_scale holds {scales.min():g} to {scales.max():g}, or bits above 31"


def _sums(graph: FileGraph, name: str) -> bool:
    if graph.made_by(name) == "Add":
        return any(_sums(graph, read) for read in graph.maker[name].input if graph.made_by(read) == "MatMul")
    return name in graph.maker and graph.maker[name].name in graph.integer_layers
