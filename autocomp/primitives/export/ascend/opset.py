"""Lowers a model to the opset that the toolkit and atc know.

The toolkit takes operators of opsets 8 to 14 ("AMCT (ONNX)", table of versions:
https://www.hiascend.com/document/detail/zh/canncommercial/900/devaids/amct/atlasamct_16_0017.html); atc knows
AscendQuant in opsets 8 to 16 in CANN 8.0, and to 22 in CANN 9.0.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from autocomp.errors import ExportError

OPSET, IR_VERSION = 14, 7
CUSTOM = ("AscendQuant", "AscendDequant")


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation in OPSET; ExportError for an operator that came later.

    Reductions have had their axes as an input since opset 18; before, they were an attribute.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    _whole_shapes(model)
    for node in model.graph.node:
        if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.input) > 1:
            axes = [int(axis) for axis in numpy_helper.to_array(stored[node.input[1]])]
            del node.input[1:]
            node.attribute.append(helper.make_attribute("axes", axes))
        elif node.op_type == "ReduceSum" and len(node.input) == 1:
            _axes_as_input(model, node)
        _check_known(node)
    model.opset_import[0].version, model.ir_version = OPSET, IR_VERSION
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _whole_shapes(model: onnx.ModelProto) -> None:
    """A part of a shape is a slice of it: only opset 15 gives parts."""
    nodes = list(model.graph.node)
    for node in [one for one in nodes if one.op_type == "Shape" and one.attribute]:
        limits = {one.name: one.i for one in node.attribute}
        values, name = (limits.get("start", 0), limits.get("end", 2**31 - 1)), node.output[0]
        parts = [f"{name}.start", f"{name}.end"]
        for part, value in zip(parts, values, strict=True):
            model.graph.initializer.append(helper.make_tensor(part, onnx.TensorProto.INT64, [1], [value]))
        node.output[0], node.name = f"{name}.whole", f"{name}.whole"
        del node.attribute[:]
        nodes.insert(nodes.index(node) + 1, helper.make_node("Slice", [f"{name}.whole", *parts], [name], name=name))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _axes_as_input(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    for attribute in [one for one in node.attribute if one.name == "axes"]:
        name = f"{node.output[0]}.axes"
        model.graph.initializer.append(
            helper.make_tensor(name, onnx.TensorProto.INT64, [len(attribute.ints)], attribute.ints)
        )
        node.input.append(name)
        node.attribute.remove(attribute)


def _check_known(node: onnx.NodeProto) -> None:
    if node.op_type in CUSTOM:
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, OPSET)
    except onnx.defs.SchemaError:
        raise ExportError(
            f"{node.name or node.op_type} needs ONNX's operator {node.op_type}, which opset {OPSET} of the files for "
            "an Ascend does not have; form='simulated' writes a newer opset"
        ) from None
    unknown = [one.name for one in node.attribute if one.name not in schema.attributes]
    if unknown or len(node.input) > schema.max_input:
        raise ExportError(
            f"{node.name or node.op_type} needs a newer form of ONNX's operator {node.op_type} than opset {OPSET} of "
            "the files for an Ascend has; form='simulated' writes a newer opset"
        )


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """With this batch in place of a free one."""
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == "batch":
                size.dim_value = batch
    return _with_inferred_outputs(model)


def _with_inferred_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes that outputs have by the model's operators: a number of all samples has no axis."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value, found in zip(model.graph.output, onnx.shape_inference.infer_shapes(bare).graph.output, strict=True):
        if found.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.CopyFrom(found.type.tensor_type.shape)
    return model
