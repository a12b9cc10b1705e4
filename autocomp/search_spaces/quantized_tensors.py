"""Which tensors of a network are rounded to 8 bits, so that its runtime goes from layer to layer in integers.

A layer in integers reads rounded numbers, as does a product of two activations in integers, which reads two of them. A
convolution also writes them, as does a curve behind it. Between two
such layers an addition, a concatenation or an average of rounded tensors runs in integers too, where a layer in
integers reads the result. An operator that moves elements only, such as a max pool, passes integers on with the scale
that they have. (Jacob et al., CVPR 2018, sections 2.4 and A.2: "Quantization of addition, concatenation".)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .node_attributes import WEIGHTED

if TYPE_CHECKING:
    from .graph import NetworkGraph, Node

CLIPPING = ("ReLU", "ReLUExt", "ReLU6")  # rounding to unsigned integers includes them
SPLITS = ("Split", "SplitWithSize", "SplitTensor", "Chunk", "Unstack", "UnstackExt")
MAX_POOLS = ("MaxPool", "MaxPool3DWithArgmax", "MaxPoolWithArgmaxV2", "AdaptiveMaxPool2D")
MOVING = (
    *MAX_POOLS,
    *(*SPLITS, "StridedSlice", "SliceExt", "Narrow", "ResizeNearestNeighbor", "ResizeNearestNeighborV2"),
    "UpsampleNearest2D",
)
MOVING_KINDS = ("flatten", "reshape", "transpose")  # they move elements, and pass integers on as they are
ADDING = ("Add", "AddExt", "InplaceAddExt", "Mul", "InplaceMul")
AVERAGING = ("AvgPool", "AdaptiveAvgPool2D", "AdaptiveAvgPool2DExt", "ReduceMean", "MeanExt")
CURVES = ("Sigmoid", "SiLU", "LeakyReLU", "LeakyReLUExt")

Flags = Any  # np.bool_, or (n,) of them for n plans
Chosen = Mapping[str, Flags]  # layer or product of activations -> whether it runs in integers
NONE: Flags = np.False_


def foldable(graph: NetworkGraph) -> dict[str, str]:
    """BatchNorm layer -> the conv or dense layer before it, where nothing else reads that layer's output."""
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node.layer is not None:
            uses[node.layer] = uses.get(node.layer, 0) + 1
    pairs = {}
    for node in graph.nodes:
        if node.kind != "batchnorm" or node.layer is None or uses[node.layer] > 1:
            continue
        place = node.inputs[0]
        alone = _read_once(graph, place)
        while alone and _keeps_channels(graph, place):  # BatchNorm1d normalises (n, c) as (n, c, 1, 1)
            place = graph.nodes[place].inputs[0]
            alone = _read_once(graph, place)
        source = graph.nodes[place]
        rows = source.kind == "dense" and len(source.shape) > 2  # whose channels lie on another axis
        alone = alone and not rows
        if source.weight_shape is not None and source.layer is not None and uses[source.layer] == 1 and alone:
            pairs[node.layer] = source.layer
    return pairs


def _read_once(graph: NetworkGraph, place: int) -> bool:
    return len(graph.consumers[place]) == 1 and place not in graph.outputs


def _keeps_channels(graph: NetworkGraph, place: int) -> bool:
    """Whether it reshapes what lies behind the channels alone."""
    node = graph.nodes[place]
    before = graph.nodes[node.inputs[0]].shape if node.inputs else ()
    same = node.elements == math.prod(before) and len(before) > 1 and node.shape[:2] == before[:2]
    return node.kind == "reshape" and node.op != "Part" and same


@dataclass(frozen=True)
class Condition:
    """When a tensor is rounded: a layer of ``any`` runs in integers; or one of each of ``all``, and one of ``readers``.

    any: the convolution that writes the tensor, maybe with a curve behind it, and the layers that read it. all: for an
        operator that is no layer, those that decide whether its inputs are rounded. readers: those that decide whether
        the result of an operator that reads the tensor is.
    """

    any: frozenset[str] = frozenset()
    all: tuple[frozenset[str], ...] = ()
    readers: frozenset[str] = frozenset()

    def __call__(self, chosen: Chosen) -> Flags:
        found = _one_of(self.any, chosen)
        if self.all and self.readers:
            both = _one_of(self.readers, chosen)
            for some in self.all:
                both = both & _one_of(some, chosen)
            found = found | both
        return found

    @property
    def layers(self) -> frozenset[str]:
        """All layers that decide."""
        return self.any.union(*self.all, self.readers) if self.all and self.readers else self.any


@dataclass(frozen=True, eq=False)
class IntegerFlow:
    """Where integers flow in a network.

    end: for each node the last of the nodes that its runtime fuses with it: a folded BatchNorm, a ReLU.
    source: for each node the one whose scale its output has: another one where it only moves elements.
    conditions: for each node when its output is rounded. So that a few layers decide, an operator between two others
        that are no layers stays in floats unless a layer in integers reads the result of its reader.
    """

    end: tuple[int, ...]
    source: tuple[int, ...]
    conditions: tuple[Condition, ...]
    graph: NetworkGraph

    @classmethod
    def of(cls, graph: NetworkGraph) -> IntegerFlow:
        structure = _Structure(graph)
        conditions = tuple(structure.condition(i) for i in range(len(graph.nodes)))
        return cls(tuple(structure.end), tuple(structure.source), conditions, graph)

    @cached_property
    def shared(self) -> frozenset[int]:
        """The sources that TensorRT rounds: what layers read, and one operand of each addition. It adds that one within
        the convolution that gives the other, if that convolution's output is not rounded."""
        graph = self.graph
        possible = {self.source[i] for i in self.tensors(dict.fromkeys(graph.multiplying, True))}
        inputs = {node.inputs[0] for layer in graph.layers for node in graph.calls(layer)}
        inputs = inputs.union(*(graph.nodes[i].inputs[:2] for i in graph.products.values()))
        found = possible & {self.source[i] for i in inputs}
        for node in graph.nodes:
            operands = {self.source[i] for i in node.inputs} & possible
            if node.kind == "add" and len(node.inputs) > 1 and operands and not operands & found:
                found.add(min(operands))
        return frozenset(found)

    def tensors(self, chosen: Chosen) -> dict[int, Flags]:
        """Node -> whether its output is rounded; nodes that no plan rounds are left out.

        chosen: the layers and products of activations that run in integers.
        """
        found = {i: condition(chosen) for i, condition in enumerate(self.conditions) if condition.any or condition.all}
        return {i: flags for i, flags in found.items() if np.any(flags)}


class _Structure:
    """Who writes and who reads each tensor of a network.

    whole: for each node whether it gives one tensor that the runtime has; a layer that a distant BatchNorm is folded
        into has another one. reads: the layers that read it, also through operators that move elements.
    """

    def __init__(self, graph: NetworkGraph) -> None:
        self.graph, count, self.products = graph, len(graph.nodes), frozenset(graph.products.values())
        folded = foldable(graph)
        self.end, self.source = list(range(count)), list(range(count))
        for i in reversed(range(count)):
            if _read_once(graph, i) and _fused(graph, i, graph.consumers[i][0], folded):
                self.end[i] = self.end[graph.consumers[i][0]]
        self.whole = [_one_tensor(graph, i, folded, self.end[i]) for i in range(count)]
        for i, node in enumerate(graph.nodes):
            moves = _moves(node) and self.whole[i] and self.whole[node.inputs[0]]
            if moves and not (_cuts(node) and self._multiplied_alone(i)):
                self.source[i] = self.source[node.inputs[0]]
        self.reads: list[frozenset[str]] = [frozenset()] * count
        for i in reversed(range(count)):
            self.reads[i] = frozenset().union(*(self._reading(reader, i) for reader in graph.consumers[i]))
        self.writers = {self.end[i]: i for i in reversed(range(count))}  # the first of the fused nodes

    def condition(self, i: int) -> Condition:
        if not self.whole[i] or self.end[i] != i:
            return Condition()
        writer = self.writers[i]
        node = self.graph.nodes[writer]
        needed: tuple[frozenset[str], ...] = ()
        if (node.kind == "dense" and node.layer is not None) or writer in self.products:
            needed = (frozenset([node.place]),)
        elif self.computes(node) or self.source[writer] != writer:
            needed = tuple(self._rounded(k) for k in node.inputs)
        readers: list[frozenset[str]] = [self._rounded(self.end[k]) for k in self._operators(i)]
        moved = self.source[i] != i
        return Condition(self.reads[i] if moved else self._rounded(i), needed, frozenset().union(*readers))

    def computes(self, node: Node) -> bool:
        """Whether the operator, no layer, has a kernel in integers where its inputs and its output are rounded."""
        inputs = node.inputs
        tensors = bool(inputs) and all(self.whole[i] for i in inputs)
        several = len(inputs) > 1 and len(node.arguments) >= len(inputs)
        if node.op in ADDING:
            return tensors and several and not any(a.kind == "parameter" for a in node.arguments)
        if node.op in AVERAGING:
            return tensors and averages_images(self.graph, node)
        return tensors and (node.op in CURVES or node.op == "Concat")

    def _rounded(self, i: int) -> frozenset[str]:
        """Layers each of which suffices that a tensor is rounded: its readers, and the convolution that writes it, with
        a curve behind it."""
        i = self.source[i]
        node = self.graph.nodes[self.writers.get(i, i)]
        if node.op in CURVES and self.computes(node):
            before = node.inputs[0]
            node = self.graph.nodes[self.writers.get(before, before)]
        writes = node.kind == "conv" and node.layer is not None and (node.has_phases or not node.transposed)
        return self.reads[i] | ({str(node.layer)} if writes else set())

    def _reading(self, reader: int, i: int) -> frozenset[str]:
        node = self.graph.nodes[reader]
        if self.source[reader] != reader:
            return self.reads[reader]
        multiplies = node.kind in WEIGHTED and node.layer is not None and node.inputs[0] == i
        both = reader in self.products and i in node.inputs[:2]
        return frozenset([node.place]) if multiplies or both else frozenset()

    def _multiplied_alone(self, i: int) -> bool:
        """Whether products of activations alone read it, maybe moved."""
        readers = self.graph.consumers[i]
        return (
            bool(readers)
            and i not in self.graph.outputs
            and all(
                reader in self.products or (_moves(self.graph.nodes[reader]) and self._multiplied_alone(reader))
                for reader in readers
            )
        )

    def _operators(self, i: int) -> Iterator[int]:
        """Operators in integers that are no layers and read a tensor, also through those that move elements."""
        for reader in self.graph.consumers[i]:
            if self.source[reader] != reader:
                yield from self._operators(reader)
            elif self.computes(self.graph.nodes[reader]):
                yield reader


def _one_of(layers: frozenset[str], chosen: Chosen) -> Flags:
    found = NONE
    for layer in layers:
        found = found | chosen.get(layer, NONE)
    return found


def _fused(graph: NetworkGraph, i: int, reader: int, folded: Mapping[str, str]) -> bool:
    """Whether the runtime computes the reader together with node i, the only one that it reads."""
    node, after = graph.nodes[i], graph.nodes[reader]
    if after.kind == "batchnorm":
        return node.layer is not None and node.layer == folded.get(str(after.layer))
    return after.op in CLIPPING and (node.kind in WEIGHTED or node.kind in ("add", "batchnorm", "concat"))


def _one_tensor(graph: NetworkGraph, i: int, folded: Mapping[str, str], end: int) -> bool:
    """Whether the node gives one tensor, and that is the one that the runtime computes."""
    node = graph.nodes[i]
    folds_later = node.kind in WEIGHTED and node.layer in folded.values() and end == i
    parts = node.op not in SPLITS and any(
        argument.kind == "node" and argument.value == i and argument.part
        for reader in graph.consumers[i]
        for argument in graph.nodes[reader].arguments
    )
    return not folds_later and not parts and graph.fed[i]


def _moves(node: Node) -> bool:
    """Whether the operator puts elements of its one input elsewhere, and computes nothing."""
    return len(node.inputs) == 1 and (node.op in MOVING or node.kind in MOVING_KINDS)


def _cuts(node: Node) -> bool:
    """Whether it gives a part of its input. Queries, keys and values that one layer gives have other ranges each: a
    part that products of activations read is rounded by itself."""
    return node.op == "Part" or node.op in ("StridedSlice", "SliceExt", "Narrow")


def averages_images(graph: NetworkGraph, node: Node) -> bool:
    """Whether it is a pool of images, or the mean of each channel of them."""
    before = graph.nodes[node.inputs[0]].shape
    return len(before) == 4 and (node.kind == "pool" or node.elements == math.prod(before[:2]))
