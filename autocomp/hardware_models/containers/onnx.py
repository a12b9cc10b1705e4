"""ONNX: files whose size depends on the names of their tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator, Program
from autocomp.search_spaces import BLOCK, WEIGHTED, NetworkGraph, Node

from . import protobuf
from .base import SCALE, Container, bias_name, letters_of
from .onnx_groups import groups_bytes

PHASES, GATE = ".phases", ".gate"  # what the file appends to the name of an operator that rounds another tensor


@dataclass(frozen=True)
class NamedContainer(Container):
    """ONNX: every letter of a tensor's name is a byte wherever the tensor is made or read.

    ``layer`` is a convolution, ``other`` an operator that is no layer. constant: a tensor. whole: the file itself.
    """

    constant: int = 0
    whole: int = 0

    def of_network(self, program: Program, graph: NetworkGraph) -> float:
        names = _written_names(graph)
        written = (i for i, node in enumerate(graph.nodes) if node.kind not in ("input", "batchnorm"))
        return self.whole + sum(self._operator(graph, i, names) for i in written)

    def _attributed(self, graph: NetworkGraph) -> list[float]:
        """With its tensor's name wherever that is read; a BatchNorm hands it on."""
        names = _written_names(graph)
        found = [
            0.0 if node.kind in ("input", "batchnorm") else self._own(graph, i, names[i])
            for i, node in enumerate(graph.nodes)
        ]
        origin = list(range(len(found)))
        for i, node in enumerate(graph.nodes):
            if node.kind == "batchnorm" and node.inputs:
                origin[i] = origin[node.inputs[0]]
                continue
            for source in node.inputs:
                found[origin[source]] += names[source]
        return found

    def _operator(self, graph: NetworkGraph, i: int, names: list[int]) -> float:
        return self._own(graph, i, names[i]) + sum(names[source] for source in graph.nodes[i].inputs)

    def of_table(self, lowered: LoweredNetwork, index: int) -> np.ndarray:
        node, (bits, _) = lowered.graph.nodes[index], lowered.workload.bits_of(index)
        source = len(lowered.graph.nodes[node.inputs[0]].name) if node.inputs else 0
        halves, table = bits <= 4, len(node.table)
        name = len(node.name)
        rows = _operators_of_rows(name, table, source) + halves * _operators_of_halves(name + len(".rows"), name)
        if not node.attributes.tied:
            return rows
        floats = table + len(".whole")
        product = protobuf.operator("Cast", (table,), floats + len(".cast"), protobuf.AXIS - 2)
        product += protobuf.operator("Mul", (floats + len(".cast"), floats), floats)
        return rows + product + halves * _operators_of_halves(table, floats)

    def _product(self, graph: NetworkGraph, index: int) -> int:
        node = graph.nodes[index]
        source, name = len(graph.nodes[node.inputs[0]].name), len(node.name) + len("#divided")
        factor = name + len(".factor")
        return protobuf.operator("Mul", (source, factor), name) + protobuf.tensor(factor)

    def _own(self, graph: NetworkGraph, i: int, name: int) -> float:
        node, letters = graph.nodes[i], 2 * name
        if node.kind not in WEIGHTED or node.attributes.weight is None:
            return float(letters + self.other)
        inside = [len(name) for name in (node.attributes.weight, bias_name(graph, i)) if name]
        return float(letters + 2 * sum(inside) + self.constant * len(inside) + self.layer * (node.kind == "conv"))


@dataclass(frozen=True)
class OnnxContainer(NamedContainer):
    """With the operators that quantize, as onnxruntime and TensorRT read them; fitted to 72 plans of eight small
    networks, in the mean within 0.7 %.

    whole_integers, whole_packed: as ``integers`` and ``packed`` where the layer's input is rounded, too. bias: of
    integers. zero_points: of a dense layer. turned, phases: operators for the weight of a transposed convolution, and
    those of one that is written as a convolution.
    """

    whole_integers: int = 0
    whole_packed: int = 0
    bias: int = 0
    zero_points: int = 0
    turned: int = 0
    phases: int = 0

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        node = lowered.graph.nodes[index]
        bits, activation_bits = lowered.workload.bits_of(index)
        stored, both = bits <= 8, (bits <= 8) & (activation_bits <= 8)
        name, shift = letters_of(node), len(bias_name(lowered.graph, index))
        packed = np.where(both, self.whole_packed, self.packed) + 8 * name
        plain = np.where(both, self.whole_integers + 5 * name, self.integers + 4 * name)
        if lowered.device.symmetric_inputs:  # DequantizeLinear for all, no zero points, and biases in floats
            packed = plain = np.asarray(self._dequantized(name))
        in_groups = (lowered.workload.group_of(index) > 0) * self._parted(name)
        scales = self.scales(lowered, index, outputs)
        found = stored * (scales + np.where(bits <= 4, packed, plain) + in_groups) + self._rounded_again(lowered, index)
        packed_here = lowered.device.runtime.reads_stored(lowered, index)
        if np.any(packed_here):
            found = np.where(packed_here, self._multiplied_packed(lowered, index), found)
        if not lowered.device.runtime.quantizes_tensors:
            rounded = self.rounded + 12 * len(node.name)
            return found + np.where(activation_bits <= 8, rounded, 0) + self._turned(node) * stored
        if lowered.device.symmetric_inputs:
            return found + self._turned(node) * stored
        if shift:
            whole = both & ~lowered.workload.by_row_of(index)
            found = found + whole * (outputs * SCALE + self.bias + 5 * shift)
        if node.kind == "dense":
            found = found + both * (outputs + self.zero_points + 2 * name)
        found = found + groups_bytes(lowered, index, both)
        phases = self.phases + self.rounded + 24 * len(node.name) + 12 * len(PHASES)
        return found + np.where(both, phases * node.transposed, self._turned(node) * stored)

    def _rounded_again(self, lowered: LoweredNetwork, index: int) -> np.ndarray:
        """(n,) bytes of the rounding of a divided input, where otherwise tensors between layers are rounded."""
        _, bits = lowered.workload.bits_of(index)
        letters = len(lowered.graph.nodes[index].name) + len("#rounded")
        by_row, divisions = lowered.workload.by_row_of(index), lowered.divisions(index)
        rounding = (self.rounded + 12 * letters) * (bits <= 8) + by_row * self._steps_of_rows(letters)
        rounding = rounding * divisions + by_row * self._product_of_rows(lowered.graph.nodes[index])
        return rounding * lowered.device.runtime.quantizes_tensors

    @staticmethod
    def _steps_of_rows(name: int) -> int:
        """Of the operators that divide rows by their largest magnitudes, and of their constants. name: letters."""
        constant = len("#100")
        found = protobuf.operator("Abs", (name,), name) + protobuf.operator("Div", (name, name), name)
        found += protobuf.operator("ReduceMax", (name, constant), name, protobuf.AXIS + 5)
        found += protobuf.operator("Mul", (name, constant), name) + protobuf.operator("Max", (name, constant), name)
        return found + 3 * protobuf.tensor(constant, 0) + 2 * SCALE + 2 * SCALE

    @staticmethod
    def _product_of_rows(node: Node) -> int:
        """Of the product with the scales of rows behind a layer."""
        name = len(node.name)
        return protobuf.operator("Mul", (name + len(".steps"), name + len("#scale")), name + len(".product")) + 14

    @staticmethod
    def _parted(weight: int) -> int:
        """Of the Reshape of a weight with a scale for each group. weight: letters of its name."""
        name, floats = weight + len(".rows"), weight + len(".float")
        return protobuf.operator("Reshape", (name, len("#100")), floats) + protobuf.tensor(len("#100")) + 2 * 8

    @staticmethod
    def _multiplied_packed(lowered: LoweredNetwork, index: int) -> np.ndarray:
        """(n,) bytes of a scale for each block of a row, and of what fills the last one; the operator has attributes
        and a domain that others have not."""
        layer, more = gemm_of(lowered, index), 145 + 2 * letters_of(lowered.graph.nodes[index])
        group = lowered.workload.group_of(index)
        block = np.where(group > 0, group, BLOCK)
        blocks = np.ceil(layer.channels_in / block)
        return layer.channels_out * (blocks * SCALE + (blocks * block - layer.channels_in) / 2) + more

    @staticmethod
    def _dequantized(weight: int) -> int:
        """weight: letters of its name. The layer reads a longer one."""
        floats, scale = weight + len(".float"), weight + len(".scale")
        node = protobuf.operator("DequantizeLinear", (weight, scale), floats, protobuf.AXIS)
        return node + protobuf.tensor(scale) + len(".float")

    def _turned(self, node: Node) -> int:
        return (self.turned + 10 * letters_of(node)) * node.transposed

    def of_tensors(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        count = np.zeros(len(lowered.workload))
        if not lowered.device.runtime.quantizes_tensors:
            return count
        flow = lowered.program.flow
        for i in _made(lowered, operator):
            if lowered.device.symmetric_inputs and flow.source[i] not in flow.shared:
                continue
            readers = len(lowered.graph.consumers[i])
            each = sum(self.rounded + 12 * letters for letters in _tensors(lowered.graph.nodes[i]))
            count = count + lowered.quantized(i) * (each + 10.0 * readers)
        for i, operand in _turned_operands(lowered, operator):
            letters = len(lowered.graph.nodes[i].name) + len(".b")
            count = count + lowered.quantized(operand) * float(self.rounded + 12 * letters)
        return count


def _operators_of_rows(name: int, table: int, positions: int) -> int:
    """Bytes of the operators that make floats of rows, and of a longer name. name, table, positions: letters of the
    embedding, of its table, and of the tensor of positions."""
    scale, cast, scales = table + len(".scale"), name + len(".cast"), name + len(".scales")
    made = protobuf.operator("Cast", (name + len(".rows"),), cast, protobuf.AXIS - 2)
    made += protobuf.operator("Gather", (scale, positions), scales, protobuf.AXIS)
    return made + protobuf.operator("Mul", (cast, scales), name) + protobuf.tensor(scale, 2) + 2 * len(".rows")


def _operators_of_halves(rows: int, name: int) -> int:
    """Bytes of the operators that take bytes apart, with three constants. rows, name: letters of the stored rows, and
    of the numbers that are made of them."""
    low, high, whole = rows + len(".low"), rows + len(".high"), rows + len(".whole")
    made = protobuf.operator("BitwiseAnd", (rows, rows + len(".mask")), low)
    made += protobuf.operator("BitShift", (rows, rows + len(".shift")), high, 2 * protobuf.AXIS)
    made += protobuf.operator("Concat", (low, high), whole, protobuf.AXIS + 8)
    made += protobuf.operator("Sub", (name + len(".cast"), len("#10")), name + len(".centred"))
    constants = (rows + len(".mask"), rows + len(".shift"), len("#10"))
    return made + sum(protobuf.tensor(letters, 0) for letters in constants) + 2 * len(".whole") + len(".centred")


def _written_names(graph: NetworkGraph) -> list[int]:
    """Of each node: letters of its tensor's name. A BatchNorm is folded into the layer before."""
    found: list[int] = []
    for node in graph.nodes:
        own = 1 if node.kind == "input" else len(node.name)
        found.append(found[node.inputs[0]] if node.kind == "batchnorm" and node.inputs else own)
    return found


def _made(lowered: LoweredNetwork, operator: Operator) -> set[int]:
    """Nodes whose tensors are rounded at an operator: its own, and those before it that no operator makes, where it is
    the first to read them: the network's inputs, reshapes, parts of a split. A split is written as its parts alone."""
    graph, own = lowered.graph, {i for one in lowered.program.operators for i in one.nodes}
    found, ahead = set(operator.nodes), list(operator.nodes)
    while ahead:
        node = ahead.pop()
        for source in graph.nodes[node].inputs:
            if source not in own and source not in found and graph.consumers[source][0] == node:
                found.add(source)
                ahead.append(source)
    return {i for i in found if not _split_whole(graph.nodes[i])}


def _turned_operands(lowered: LoweredNetwork, operator: Operator) -> Iterator[tuple[int, int]]:
    """Products of two activations at an operator, each with an operand that it transposes itself: the file rounds that
    again behind the transpose."""
    for i in filter(lowered.is_product, operator.nodes):
        node = lowered.graph.nodes[i]
        yield from ((i, operand) for operand, turned in zip(node.inputs, node.turns, strict=False) if turned)


def _split_whole(node: Node) -> bool:
    return node.op.endswith("Split") and ":" not in node.name


def _tensors(node: Node) -> Iterator[int]:
    """Letters of the names of the tensors that the file rounds for one node."""
    yield len(node.name)
    if node.op == "SiLU":
        yield len(node.name) + len(GATE)
