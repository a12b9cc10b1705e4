"""The bytes of an exported file beside its weights and biases, by the form of the file.

A file holds its operators with the names of their tensors, scales, and operators that make numbers of integers. In
small networks they are a third of it. Names are those of the network's cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node

from .lowered import LoweredNetwork
from .operators import Operator, Program

SCALE = 4  # bytes
PHASES, GATE = ".phases", ".gate"  # what the file appends to the name of an operator that rounds another tensor


@dataclass(frozen=True)
class Container:
    """A form with one size for all layers, and one for all other operators.

    layer, other: attributes, shapes and parameters' names of a layer, with what it fuses, and of another operator.
    integers, packed, divided: the operators that convert a layer's integers to its weight: whole bytes, several
        integers in a byte, and integers across bytes. rounded: the operators that round its input, or another tensor.
    quantizes_tensors: whether tensors between layers are rounded for runtimes that keep them in integers.
    exact: whether every number of bits is packed; otherwise 4 bits are the least, and between 4 and 8 there is nothing.
    """

    layer: int
    other: int
    integers: int
    packed: int
    rounded: int
    divided: int = 0
    quantizes_tensors: bool = False
    exact: bool = False

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        """The bits that an integer of ``bits`` has in the file."""
        return bits if self.exact else np.where(bits <= 4, 4, np.where(bits <= 8, 8, bits))

    def unpacking(self, bits: np.ndarray) -> np.ndarray:
        """Bytes of the operators that convert a layer's integers to its weight."""
        stored = self.stored_bits(bits)
        small = np.where(np.isin(stored, (1, 2, 4)), self.packed, self.divided)
        return np.where(stored < 8, small, np.where(stored == 8, self.integers, 0))

    def of_network(self, program: Program, graph: NetworkGraph) -> float:
        """Bytes of the operators of the float network; a BatchNorm that is folded into a layer leaves nothing."""
        kinds = [node.kind for node in graph.nodes]
        folded = sum(
            kinds[i] == "batchnorm" for one in program.operators for i in one.nodes if kinds[one.head] in WEIGHTED
        )
        layers = sum(node.weight_shape is not None or node.kind == "batchnorm" for node in graph.nodes) - folded
        others = len(kinds) - layers - folded - kinds.count("input")
        return float(self.layer * layers + self.other * others)

    def of_chains(self, graph: NetworkGraph, chained: NetworkGraph) -> dict[str, float]:
        """Layer -> bytes that the operators in its place have more than it. chained: the graph with them."""
        found: dict[str, float] = {}
        for node, own in zip(chained.nodes, self._attributed(chained), strict=True):
            if node.attributes.replaces is not None:
                found[node.attributes.replaces] = found.get(node.attributes.replaces, 0.0) + own
        whole = self._attributed(graph)
        return {layer: total - whole[graph.layers[layer]] for layer, total in found.items()}

    def _attributed(self, graph: NetworkGraph) -> list[float]:
        """Of each layer the bytes that the file would not have without it."""
        return [float(self.layer)] * len(graph.nodes)

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        """(n,) bytes that a layer has in addition where its weight is in integers or its input rounded.

        outputs: (n,) its channels out.
        """
        bits, activation_bits = lowered.workload.bits_of(index)
        stored = np.where(bits <= 8, outputs * SCALE + self.unpacking(bits), 0)
        return stored + np.where(activation_bits <= 8, self.rounded, 0)

    def of_tensors(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        """(n,) bytes of the operators that round tensors at an operator, besides inputs of layers alone."""
        return np.zeros(len(lowered.workload))


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
        name, shift = _letters(node), len(bias_name(lowered.graph, index))
        packed = np.where(both, self.whole_packed, self.packed) + 8 * name
        plain = np.where(both, self.whole_integers + 5 * name, self.integers + 4 * name)
        found = stored * (outputs * SCALE + np.where(bits <= 4, packed, plain))
        if not lowered.device.runtime.quantizes_tensors:
            rounded = self.rounded + 12 * len(node.name)
            return found + np.where(activation_bits <= 8, rounded, 0) + self._turned(node) * stored
        if lowered.device.symmetric_inputs:  # no zero points, and biases in floats
            return found + self._turned(node) * stored
        if shift:
            found = found + both * (outputs * SCALE + self.bias + 5 * shift)
        if node.kind == "dense":
            found = found + both * (outputs + self.zero_points + 2 * name)
        phases = self.phases + self.rounded + 24 * len(node.name) + 12 * len(PHASES)
        return found + np.where(both, phases * node.transposed, self._turned(node) * stored)

    def _turned(self, node: Node) -> int:
        return (self.turned + 10 * _letters(node)) * node.transposed

    def of_tensors(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        count = np.zeros(len(lowered.workload))
        if not lowered.device.runtime.quantizes_tensors:
            return count
        for i in _made(lowered, operator):
            readers = len(lowered.graph.consumers[i])
            each = sum(self.rounded + 12 * letters for letters in _tensors(lowered.graph.nodes[i]))
            count = count + lowered.quantized(i) * (each + 10.0 * readers)
        return count


@dataclass(frozen=True)
class AtcContainer(NamedContainer):
    """With AscendQuant and AscendDequant: weights of fewer bits have a byte, too. Fitted to 72 plans of eight small
    networks, largest miss 1.1 %.

    dense: of a dense layer in integers, ``rounded`` of a convolution. turned: as in ``OnnxContainer``.
    """

    dense: int = 0
    turned: int = 0

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        return np.where(bits <= 8, 8, bits)

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        node = lowered.graph.nodes[index]
        bits, activation_bits = lowered.workload.bits_of(index)
        turned = (self.turned + 10 * _letters(node)) * node.transposed
        only_stored = outputs * SCALE + self.integers + 7 * _letters(node) + turned
        multiplied = outputs * SCALE + self.dense if node.kind == "dense" else outputs * 2 * SCALE + self.rounded
        able = lowered.device.runtime.multiplies_integers(node)
        whole = (activation_bits <= 8) & able
        return (bits <= 8) * np.where(whole, multiplied + len(node.name), only_stored)


def bias_name(graph: NetworkGraph, index: int) -> str:
    """Of a layer's bias in the file; empty where it has none. A BatchNorm behind it gives it one."""
    node = graph.nodes[index]
    if node.bias:
        return node.bias
    folds = any(graph.nodes[reader].kind == "batchnorm" for reader in graph.consumers[index])
    return f"{node.layer}.bias" if folds else ""


def _letters(node: Node) -> int:
    """Of the name of a layer's weight."""
    return len(node.attributes.weight or "")


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


def _split_whole(node: Node) -> bool:
    return node.op.endswith("Split") and ":" not in node.name


def _tensors(node: Node) -> Iterator[int]:
    """Letters of the names of the tensors that the file rounds for one node."""
    yield len(node.name)
    if node.op == "SiLU":
        yield len(node.name) + len(GATE)


CONTAINERS: dict[str, Container] = {
    # fitted to files of 20 KB to 100 MB of ten networks: floats miss by up to 1 %, integers by 4 % of the smallest
    "mindir": Container(600, 100, 290, 525, 652, divided=653, exact=True),
    "onnx": OnnxContainer(
        110, 60, 150, 102, 250, quantizes_tensors=True, constant=14, whole=99, whole_integers=136, whole_packed=164,
        bias=49, zero_points=48, turned=284, phases=811,
    ),
    "atc": AtcContainer(114, 52, 218, 218, 218, constant=25, whole=56, dense=309, turned=307),
}  # fmt: skip
