"""Tensors that an operator moves between a rounding and its reader, rounded again in files that onnxruntime would else
refuse.

Where DequantizeLinear is followed by such an operator, onnxruntime adds a pair of QuantizeLinear and DequantizeLinear
behind it, of int8 as the first. Then it makes uint8 of all their zero points, but at opset 21 its own pair still says
that it gives int8, and the session is not created. A pair that stands there already, with the same scale, changes no
number and leaves nothing to add (seen with onnxruntime 1.32).
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

MOVING = frozenset({"Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "MaxPool"})
Levels = tuple[str, str]  # names of a scale and of a zero point


def round_moved(model: onnx.ModelProto) -> None:
    """Adds the pairs, in place, where zero points are int8."""
    graph = model.graph
    signed = {one.name for one in graph.initializer if one.data_type == TensorProto.INT8}
    written: dict[str, Levels] = {}  # integers -> how they were made
    rounded: dict[str, Levels] = {}  # their floats
    quantized = {name for node in graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    found: list[onnx.NodeProto] = []
    for node in graph.node:
        found.append(node)
        if node.op_type == "QuantizeLinear" and len(node.input) == 3 and node.input[2] in signed:
            written[node.output[0]] = (node.input[1], node.input[2])
        elif node.op_type == "DequantizeLinear" and node.input[0] in written:
            rounded[node.output[0]] = written[node.input[0]]
        elif node.op_type in MOVING and node.input[0] in rounded and node.output[0] not in quantized:
            how, name = rounded[node.input[0]], node.output[0]
            node.output[0], levels = f"{name}#moved", f"{name}#moved.levels"
            found.append(helper.make_node("QuantizeLinear", [node.output[0], *how], [levels], name=levels))
            found.append(helper.make_node("DequantizeLinear", [levels, *how], [name], name=f"{name}#again"))
            rounded[name] = how
    del graph.node[:]
    graph.node.extend(found)
