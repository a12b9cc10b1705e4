"""What the forms share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator, Program
from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node

SCALE = 4  # bytes


@dataclass(frozen=True)
class Container:
    """A form with one size for all layers, and one for all other operators.

    layer, other: attributes, shapes and parameters' names of a layer, with what it fuses, and of another operator.
    integers, packed, divided: the operators that convert a layer's integers to its weight: whole bytes, several
        integers in a byte, and integers across bytes. rounded: the operators that round its input, or another tensor.
    quantizes_tensors: whether tensors between layers are rounded for runtimes that keep them in integers.
    exact: whether every number of bits is packed; otherwise 4 bits are the least, and between 4 and 8 there is nothing.
    table_bits: in which it holds rows of an embedding, so that only those that are read become floats.
    tied_tables: whether it holds integers of a table that others read, too; in MindIR they read a parameter of floats.
    shares_divided: whether layers that divide one tensor by the same scales share the product.
    """

    layer: int
    other: int
    integers: int
    packed: int
    rounded: int
    divided: int = 0
    quantizes_tensors: bool = False
    exact: bool = False
    table_bits: tuple[int, ...] = (8, 4)
    tied_tables: bool = True
    shares_divided: bool = True

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
        stored = np.where(bits <= 8, self.scales(lowered, index, outputs) + self.unpacking(bits), 0)
        return stored + np.where(activation_bits <= 8, self.rounded, 0)

    @staticmethod
    def scales(lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        """(n,) bytes of the scales of a layer's weight: of each output, or of each group of its inputs."""
        group = lowered.workload.group_of(index)
        if not group.any():
            return outputs * SCALE
        parts = gemm_of(lowered, index).channels_in // np.maximum(group, 1)
        return outputs * SCALE * np.where(group > 0, np.maximum(parts, 1), 1)

    def of_division(self, lowered: LoweredNetwork, index: int) -> np.ndarray:
        """(n,) bytes of the scales that a layer's input is divided by, and of the product."""
        shape = lowered.graph.nodes[index].weight_shape
        divisions = lowered.divisions(index) if self.shares_divided else 1.0 * lowered.workload.divided_of(index)
        if not divisions.any() or shape is None:
            return divisions
        source = lowered.graph.nodes[index].inputs[0]
        units = lowered.graph.nodes[source].units
        width = lowered.workload.channels_of(source) if len(units) == shape[1] else np.array(float(shape[1]))
        return divisions * (width * SCALE + self._product(lowered.graph, index))

    def _product(self, graph: NetworkGraph, index: int) -> int:
        """Of the product that divides a layer's input, without its scales."""
        return self.other

    def of_table(self, lowered: LoweredNetwork, index: int) -> np.ndarray:
        """(n,) bytes that an embedding has in addition, beside its integers and scales, where its table is in
        integers: of the operators that make floats of rows."""
        raise NotImplementedError

    def of_tensors(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        """(n,) bytes of the operators that round tensors at an operator, besides inputs of layers alone."""
        return np.zeros(len(lowered.workload))


def bias_name(graph: NetworkGraph, index: int) -> str:
    """Of a layer's bias in the file; empty where it has none. A BatchNorm behind it gives it one."""
    node = graph.nodes[index]
    if node.bias:
        return node.bias
    folds = any(graph.nodes[reader].kind == "batchnorm" for reader in graph.consumers[index])
    return f"{node.layer}.bias" if folds else ""


def letters_of(node: Node) -> int:
    """Of the name of a layer's weight."""
    return len(node.attributes.weight or "")
