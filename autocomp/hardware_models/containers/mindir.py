"""MindIR: every parameter is named where it is stored and where it is read."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Program
from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node

from .base import SCALE, Container, bias_name, letters_of

PREFIX = len("net:")  # of a parameter's name
OPERATOR = 54  # bytes of a node with its output's shape


@dataclass(frozen=True)
class MindirContainer(Container):
    """Counted in files of MindSpore 2.10, but for operators with attributes other than convolutions.

    layer, other: of the attributes of a convolution, and of another operator; convolutions that have all in common
        share them. integers, packed, divided, rounded: of the operators, without what they read. whole: the file
        itself. rows, halves: of the operators that make floats of an embedding's rows, of 8 and of 4 bits. shared,
        shared_packed, shared_divided: what all layers of whole bytes, of several integers in a byte, and of integers
        across bytes have in common, of which each counts its share: primitives, and constants to shift by.
    """

    whole: int = 0
    rows: int = 0
    halves: int = 0
    shared: int = 0
    shared_packed: int = 0
    shared_divided: int = 0

    def of_network(self, program: Program, graph: NetworkGraph) -> float:
        folded = {i for one in program.operators if _weighted(graph, one.head) for i in one.nodes[1:]}
        folded = {i for i in folded if graph.nodes[i].kind == "batchnorm"}
        nodes = [node for i, node in enumerate(graph.nodes) if node.kind != "input" and i not in folded]
        kinds = {_kind(node) for node in nodes if node.kind == "conv"}
        own = sum(self._own(graph, i) for i, node in enumerate(graph.nodes) if node.kind != "input" and i not in folded)
        return float(self.whole + self.layer * len(kinds) + own)

    def _attributed(self, graph: NetworkGraph) -> list[float]:
        return [float(self._own(graph, i) + self.layer * (node.kind == "conv")) for i, node in enumerate(graph.nodes)]

    def _own(self, graph: NetworkGraph, index: int) -> int:
        node, bias = graph.nodes[index], len(bias_name(graph, index))
        if node.kind == "batchnorm":
            return self.other + 4 * _stored(len(str(node.layer)) + len(".gamma"), 1)
        if node.weight_shape is None:
            return self.other
        layer = OPERATOR + _stored(letters_of(node), len(node.weight_shape))
        return layer + (OPERATOR + _stored(bias, 1)) * bool(bias)

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        node = lowered.graph.nodes[index]
        bits, activation_bits = lowered.workload.bits_of(index)
        rank, weight = len(node.weight_shape or ()), letters_of(node)
        named = 3 * len(".weight") + _stored(weight + len(".scale"), rank)
        read = lowered.device.runtime.reads_stored(lowered, index)  # with scales in float16, and not unpacked
        unpacked = self.unpacking(bits) + self._share(bits, len(lowered.graph.layers))
        unpacked = np.where(read, self.integers - outputs * SCALE / 2, unpacked)
        stored = np.where(bits <= 8, self.scales(lowered, index, outputs) + unpacked + named, 0)
        names = sum(_stored(len(str(node.layer)) + len(name), 0) for name in (".0.scale", ".0.low", ".0.high"))
        return stored + np.where(activation_bits <= 8, self.rounded + names, 0)

    def _share(self, bits: np.ndarray, layers: int) -> np.ndarray:
        """Of what all layers of such a width have in common."""
        below = np.where(np.isin(bits, (1, 2, 4)), self.shared_packed, self.shared_divided)
        return np.where(bits < 8, below, self.shared) / max(layers, 1)

    def _product(self, graph: NetworkGraph, index: int) -> int:
        return self.other + _stored(len(str(graph.nodes[index].layer)) + len(".0.factor"), 1)

    def of_table(self, lowered: LoweredNetwork, index: int) -> np.ndarray:
        bits, _ = lowered.workload.bits_of(index)
        scale = _stored(len(str(lowered.graph.nodes[index].layer)) + len(".scale"), 2)
        return scale + np.where(bits <= 4, self.halves, self.rows)


def _weighted(graph: NetworkGraph, head: int) -> bool:
    return graph.nodes[head].kind in WEIGHTED


def _kind(node: Node) -> Hashable:
    """Convolutions of one kind share their attributes in the file."""
    return (node.op, node.weight_shape and (node.weight_shape[0], node.weight_shape[2:]), node.convolution)


def _stored(name: int, rank: int) -> int:
    """Of a parameter and of its reading. name: its letters. rank: its number of axes."""
    return 3 * (name + PREFIX) + 52 + 4 * rank
