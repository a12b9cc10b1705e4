"""An ONNX file as the rules read it: who makes and who reads each tensor, and its constants."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .deployable import QUANT

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class FileGraph:
    """nodes: in the file's order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in self.nodes:
            for i, name in enumerate(node.input):
                self.readers[name].append((node, i))
        self.outputs = {value.name for value in model.graph.output}

    def of(self, *kinds: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in kinds]

    def made_by(self, name: str) -> str:
        """The operator that makes a tensor; empty for inputs and constants."""
        return self.maker[name].op_type if name in self.maker else ""

    def constant(self, name: str) -> np.ndarray | None:
        """None where the tensor is no constant, or its bytes do not fit its shape."""
        try:
            return numpy_helper.to_array(self.constants[name]) if name in self.constants else None
        except (ValueError, TypeError, KeyError):
            return None

    def attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        return {one.name: helper.get_attribute_value(one) for one in node.attribute}

    def kinds(self, node: onnx.NodeProto) -> dict[str, int]:
        """Attribute -> its type, as ONNX numbers types of attributes."""
        return {one.name: one.type for one in node.attribute}

    def weight(self, node: onnx.NodeProto) -> np.ndarray | None:
        """A layer's weight, through QuantizeLinear and DequantizeLinear."""
        name = node.input[1] if len(node.input) > 1 else ""
        while self.made_by(name) in ("QuantizeLinear", "DequantizeLinear"):
            name = self.maker[name].input[0]
        return self.constant(name)

    @cached_property
    def integer_layers(self) -> dict[str, onnx.NodeProto]:
        """Layers whose input is rounded by AscendQuant, or by a pair with the weight rounded, too; by name."""
        return {node.name: node for node in self.of(*LAYERS) if self._in_integers(node)}

    def _in_integers(self, node: onnx.NodeProto) -> bool:
        made = [self.made_by(name) for name in node.input[:2]]
        return bool(made) and (made[0] == QUANT or made == ["DequantizeLinear", "DequantizeLinear"])
