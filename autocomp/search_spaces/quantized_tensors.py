"""Which tensors of a network are rounded to 8 bits, so that its runtime goes from layer to layer in integers.

A layer in integers reads rounded numbers, and a convolution also writes them. Between two such layers an addition, a
concatenation or an average of rounded tensors runs in integers too, where a layer in integers reads the result. An
operator that moves elements only, such as a max pool, passes integers on with the scale that they have. (Jacob et al.,
CVPR 2018, sections 2.4 and A.2: "Quantization of addition, concatenation".)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph import WEIGHTED, NetworkGraph, Node

CLIPPING = ("ReLU", "ReLUExt", "ReLU6")  # rounding to unsigned integers includes them
SPLITS = ("Split", "SplitWithSize", "SplitTensor", "Chunk", "Unstack", "UnstackExt")
MOVING = (
    *("MaxPool", "MaxPool3DWithArgmax", "MaxPoolWithArgmaxV2", "AdaptiveMaxPool2D"),
    *(*SPLITS, "StridedSlice", "SliceExt", "Narrow", "ResizeNearestNeighbor", "ResizeNearestNeighborV2"),
    "UpsampleNearest2D",
)
MOVING_KINDS = ("flatten", "reshape", "transpose")  # they move elements, and pass integers on as they are
ADDING = ("Add", "AddExt", "InplaceAddExt", "Mul", "Muls", "InplaceMul")
AVERAGING = ("AvgPool", "AdaptiveAvgPool2D", "AdaptiveAvgPool2DExt", "ReduceMean", "MeanExt")
CURVES = ("Sigmoid", "SiLU", "LeakyReLU", "LeakyReLUExt")

Flags = Any  # np.bool_, or (n,) of them for n plans
Chosen = Mapping[str, Flags]  # layer -> whether it runs in integers
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


@dataclass(frozen=True, eq=False)
class IntegerFlow:
    """What integers flow through in a network, whatever the plan.

    end: for each node the last of the nodes that its runtime fuses with it: a folded BatchNorm, a ReLU.
    source: for each node the one whose scale its output has: another one where it only moves elements.
    whole: for each node whether it gives one tensor that the runtime has; a layer that a distant BatchNorm is folded
        into has another one.
    """

    graph: NetworkGraph
    end: tuple[int, ...]
    source: tuple[int, ...]
    whole: tuple[bool, ...]

    @classmethod
    def of(cls, graph: NetworkGraph) -> IntegerFlow:
        folded, ends, sources = foldable(graph), list(range(len(graph.nodes))), list(range(len(graph.nodes)))
        for i in reversed(range(len(graph.nodes))):
            if _read_once(graph, i):
                reader = graph.consumers[i][0]
                ends[i] = ends[reader] if _fused(graph, i, reader, folded) else i
        whole = [_one_tensor(graph, i, folded, ends[i]) for i in range(len(graph.nodes))]
        for i, node in enumerate(graph.nodes):
            if _moves(node) and whole[i] and whole[node.inputs[0]]:
                sources[i] = sources[node.inputs[0]]
        return cls(graph, tuple(ends), tuple(sources), tuple(whole))

    def tensors(self, chosen: Chosen) -> dict[int, Flags]:
        """Node -> whether its output is rounded; nodes that no plan rounds are left out.

        chosen: the layers that run in integers.
        """
        wanted, rounded = self._wanted(chosen), self._read(chosen)
        for i, node in enumerate(self.graph.nodes):
            end = self.end[i]
            if self.whole[end]:
                rounded[end] = rounded.get(end, NONE) | self._written(node, i, chosen, wanted, rounded)
        return {i: found for i, found in rounded.items() if np.any(found)}

    def _written(
        self, node: Node, i: int, chosen: Chosen, wanted: Mapping[int, Flags], rounded: Mapping[int, Flags]
    ) -> Flags:
        """Whether the node's own kernel writes integers."""
        asked = wanted.get(self.end[i], NONE)
        if node.kind in WEIGHTED:
            runs = NONE if node.transposed and not node.has_phases else chosen.get(str(node.layer), NONE)
            return runs if node.kind == "conv" else runs & asked
        if self.computes(node):
            return np.logical_and.reduce([asked, *(rounded.get(k, NONE) for k in node.inputs)])
        return asked & rounded.get(node.inputs[0], NONE) if self.source[i] != i else NONE

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

    def _read(self, chosen: Chosen) -> dict[int, Flags]:
        """Node -> whether a layer in integers reads it, also through operators that move elements."""
        found: dict[int, Flags] = {}
        for i in reversed(range(len(self.graph.nodes))):
            if self.whole[i]:
                found[i] = _any(
                    found.get(reader, NONE) if self.source[reader] != reader else self._multiplies(reader, i, chosen)
                    for reader in self.graph.consumers[i]
                )
        return found

    def _wanted(self, chosen: Chosen) -> dict[int, Flags]:
        """Node -> whether a layer in integers reads it, also through operators that may run in integers."""
        found: dict[int, Flags] = {}
        for i in reversed(range(len(self.graph.nodes))):
            found[i] = _any(
                found[reader] if self._passes(reader, i) else self._multiplies(reader, i, chosen)
                for reader in self.graph.consumers[i]
            )
        return found

    def _passes(self, reader: int, i: int) -> bool:
        node = self.graph.nodes[reader]
        return self.source[reader] != reader or self.computes(node) or self.end[i] == self.end[reader]

    def _multiplies(self, reader: int, i: int, chosen: Chosen) -> Flags:
        """Whether the reader is a layer in integers, and node i what its weight is multiplied with."""
        node = self.graph.nodes[reader]
        return chosen.get(str(node.layer), NONE) if node.kind in WEIGHTED and node.inputs[0] == i else NONE


def _any(flags: Iterable[Flags]) -> Flags:
    found = NONE
    for some in flags:
        found = found | some
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


def averages_images(graph: NetworkGraph, node: Node) -> bool:
    """Whether it is a pool of images, or the mean of each channel of them."""
    before = graph.nodes[node.inputs[0]].shape
    return len(before) == 4 and (node.kind == "pool" or node.elements == math.prod(before[:2]))
