"""What a deployable model computes, with operators of ONNX alone: onnxruntime evaluates it in the same integers.

y = round(x * scale + offset) in int8; sums in int32, where what pads an image is the offset's zero; times the scale
(https://www.hiascend.com/document/detail/zh/CANNCommunityEdition/800alpha003/apiref/aolapi/context/aclnnAscendQuant.md;
github.com/hicann/amct, replace_quant_pass.py and replace_dequant_pass.py). Kernels for a chip may round floats
differently in the last digit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .deployable import DEQUANT, QUANT

MIDDLE = 128  # onnxruntime multiplies unsigned inputs


def scales_of(packed: np.ndarray) -> np.ndarray:
    """float32 from the low halves of deq_scale."""
    return (packed.astype(np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def in_standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that onnxruntime runs, for a model that keeps the rules."""
    return _Translator(model).model()


class _Translator:
    """offsets: of tensors in integers, the value that stands for 0."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.source = model
        self.stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.offsets: dict[str, int] = {}
        self.channel_axis: dict[str, int] = {}  # of sums in integers

    def model(self) -> onnx.ModelProto:
        for node in self.source.graph.node:
            self._node(node)
        graph = self.source.graph
        stored = [tensor for tensor in graph.initializer if tensor.name not in self.constants]
        made = helper.make_graph(self.nodes, "network", graph.input, graph.output, [*stored, *self.constants.values()])
        return helper.make_model(made, opset_imports=self.source.opset_import, ir_version=self.source.ir_version)

    def _node(self, node: onnx.NodeProto) -> None:
        if node.op_type == QUANT:
            self._quant(node)
        elif node.op_type == DEQUANT:
            self._dequant(node)
        elif node.input and node.input[0] in self.offsets:
            self._layer(node)
        else:
            self.nodes.append(node)
            if node.op_type == "Add" and node.input[0] in self.channel_axis:
                self.channel_axis[node.output[0]] = self.channel_axis[node.input[0]]

    def _quant(self, node: onnx.NodeProto) -> None:
        a, name = attributes_of(node), node.output[0]
        offset = float(a.get("offset", 0.0))
        steps = self._add("Mul", [node.input[0], self._constant(np.float32(a["scale"]))], f"{name}.steps")
        levels = self._add("Round", [self._add("Add", [steps, self._constant(np.float32(offset))], f"{name}.moved")],
                           f"{name}.levels")  # fmt: skip
        bounds = [self._constant(np.float32(-MIDDLE)), self._constant(np.float32(MIDDLE - 1))]
        clipped = self._add("Clip", [levels, *bounds], f"{name}.clipped")
        moved = self._add("Add", [clipped, self._constant(np.float32(MIDDLE))], f"{name}.unsigned")
        self._add("Cast", [moved], name, to=TensorProto.UINT8)
        self.offsets[name] = round(offset) + MIDDLE

    def _layer(self, node: onnx.NodeProto) -> None:
        source, weight, name = node.input[0], node.input[1], node.output[0]
        bias = self.stored[node.input[2]] if len(node.input) > 2 else None
        zero = self._constant(np.uint8(self.offsets[source]))
        self.channel_axis[name] = 1 if node.op_type in ("Conv", "ConvTranspose") else -1
        product = name if bias is None else f"{name}.product"
        if node.op_type == "ConvTranspose":
            self._transposed(node, product)
        elif node.op_type == "Conv":
            self._add("ConvInteger", [source, *self._unsigned(weight, zero)], product, **attributes_of(node))
        else:
            self._add("MatMulInteger", [source, *self._unsigned(weight, zero)], product)
        if bias is not None:
            rank = self.stored[weight].ndim
            shape = (-1, *[1] * (rank - 2)) if self.channel_axis[name] == 1 else (-1,)
            self._add("Add", [product, self._constant(bias.reshape(shape))], name)

    def _unsigned(self, weight: str, zero: str) -> list[str]:
        """The weight and the zero points: for signed ones onnxruntime has a kernel that saturates."""
        levels = (self.stored[weight].astype(np.int16) + MIDDLE).astype(np.uint8)
        return [self._constant(levels), zero, self._constant(np.uint8(MIDDLE))]

    def _transposed(self, node: onnx.NodeProto, name: str) -> None:
        """In floats: onnxruntime has no such kernel in integers; sums below 2^24 are exact."""
        zero = self._constant(np.float32(self.offsets[node.input[0]]))
        floats = self._add("Cast", [node.input[0]], f"{name}.cast", to=TensorProto.FLOAT)
        centred = self._add("Sub", [floats, zero], f"{name}.centred")
        weight = self._constant(self.stored[node.input[1]].astype(np.float32))
        found = self._add("ConvTranspose", [centred, weight], f"{name}.sums", **attributes_of(node))
        self._add("Cast", [found], name, to=TensorProto.INT32)

    def _dequant(self, node: onnx.NodeProto) -> None:
        scales = scales_of(self.stored[node.input[1]])
        rank = self._rank(node.input[0])
        if self.channel_axis.get(node.input[0], -1) == 1:
            scales = scales.reshape(-1, *[1] * (rank - 2))
        name = node.output[0]
        floats = self._add("Cast", [node.input[0]], f"{name}.cast", to=TensorProto.FLOAT)
        self._add("Mul", [floats, self._constant(scales)], name)

    def _rank(self, sums: str) -> int:
        """Of the output of a convolution: that of its weight."""
        for node in self.source.graph.node:
            if sums in node.output and node.op_type in ("Conv", "ConvTranspose"):
                return self.stored[node.input[1]].ndim
        return 2

    def _add(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, value: np.ndarray | np.generic) -> str:
        name = f"#ascend{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
