"""Where the scale of a layer's input can come from: the parameters before it that can be divided by it.

The road back from a dense layer: a reshape that keeps the last axis, a product with a parameter (RMSNorm's gamma), the
addition of one (LayerNorm's beta), a LayerNorm, a ReLU, one factor of a product (SwiGLU's), and at last a dense layer,
whose rows and bias take the scale. Everything on it must have one reader.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

HOMOGENEOUS = ("ReLU", "ReLUExt", "LeakyReLU", "LeakyReLUExt", "Identity", "Abs")
NORMS = ("LayerNorm", "LayerNormExt", "RmsNorm")
PRODUCTS, SUMS = ("Mul",), ("Add", "AddExt", "BiasAdd")
Taker = tuple[str, int]  # a parameter, and the axis of it that has the channels


@dataclass(frozen=True)
class SharedInput:
    """Dense layers that read one tensor.

    takers: what can be divided by the scales of the tensor's channels instead of the tensor; None where nothing can.
    shift_taker: of the takers the one that a shift of the channels can be subtracted from, a bias or a LayerNorm's
        beta; None where there is none.
    """

    layers: tuple[str, ...]
    width: int
    takers: tuple[Taker, ...] | None
    shift_taker: Taker | None = None


def shared_inputs(graph: NetworkGraph) -> tuple[SharedInput, ...]:
    """All dense layers that run once, by the tensors that they read, in the order in which they run."""
    return _Roads(graph).found()


def scaled_parameters(
    parameters: Mapping[str, np.ndarray],
    graph: NetworkGraph,
    scales: Mapping[SharedInput, np.ndarray],
    shifts: Mapping[SharedInput, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The parameters that change: weights times the scales of their inputs, takers divided by them.

    shifts: of the inputs, before they are divided. A bias takes the weight's product with a shift; that of a layer
    without one has the name that :func:`bias_of` says. Where nothing takes a scale, or a shift, the input itself must
    still be divided by it, or shifted.
    """
    found: dict[str, np.ndarray] = {}
    for shared, scale in scales.items():
        shift = None if shifts is None else shifts.get(shared)
        for layer in shared.layers:
            node = graph.nodes[graph.layers[layer]]
            if shift is not None:
                bias = bias_of(node)
                own = found.get(bias, np.float64(0) if node.bias is None else parameters[bias])
                found[bias] = own + parameters[node.weight].astype(np.float64) @ shift
            found[node.weight] = found.get(node.weight, parameters[node.weight]) * scale
        for name, axis in shared.takers or ():
            for one in (name, _fresh_bias(graph, name)):
                if one in found or one in parameters:
                    value = found[one] if one in found else parameters[one]
                    form = [1] * value.ndim
                    form[axis] = len(scale)
                    found[one] = value / scale.reshape(form)
        if shift is not None and shared.takers is not None and shared.shift_taker is not None:
            name, _ = shared.shift_taker
            found[name] = found[name] - (shift / scale).reshape(found[name].shape)
    return {name: value.astype(np.float32) for name, value in found.items()}


def bias_of(node: Node) -> str:
    """The name of a dense layer's bias, also where it has none yet."""
    return node.bias or f"{node.layer}.bias"


def _fresh_bias(graph: NetworkGraph, weight: str) -> str:
    """The name of the bias that a dense layer without one may have got; "" for any other parameter."""
    nodes = (graph.nodes[i] for i in graph.layers.values())
    return next((bias_of(n) for n in nodes if n.attributes.weight == weight and n.bias is None and n.layer), "")


class _Roads:
    def __init__(self, graph: NetworkGraph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.reads = Counter(name for node in graph.nodes for name in node.parameters)

    def found(self) -> tuple[SharedInput, ...]:
        layers: dict[int, list[str]] = {}
        for layer, i in self.graph.layers.items():
            if self.nodes[i].kind == "dense" and len(self.graph.calls(layer)) == 1:
                layers.setdefault(self._root(i), []).append(layer)
        return tuple(self._shared(root, some) for root, some in layers.items())

    def _shared(self, root: int, layers: list[str]) -> SharedInput:
        shape = self.nodes[self.graph.layers[layers[0]]].weight_shape
        assert shape is not None
        readers = {self.graph.layers[layer] for layer in layers}
        alone = root not in self.graph.outputs and self._only_read_by(root, readers)
        takers = self._takers(root, shape[1]) if alone else None
        return SharedInput(tuple(layers), shape[1], takers, self._shift_taker(root, shape[1]) if takers else None)

    def _shift_taker(self, i: int, width: int) -> Taker | None:
        """A number for each channel that is added last; only reshapes may follow."""
        node = self.nodes[i]
        if self._keeps_channels(node):
            return self._shift_taker(node.inputs[0], width)
        if node.kind == "dense" and node.layer is not None:
            return None if node.bias is None else (node.bias, 0)
        vectors = self._vectors(node, width)
        added = vectors[:1] if node.op in SUMS else vectors[1:2] if node.op in NORMS else []
        return (added[0][0], len(added[0][1]) - 1) if added else None

    def _root(self, i: int) -> int:
        """The tensor that a layer reads, before reshapes of it."""
        source = self.nodes[i].inputs[0]
        while self._keeps_channels(self.nodes[source]):
            source = self.nodes[source].inputs[0]
        return source

    def _keeps_channels(self, node: Node) -> bool:
        return node.op == "Reshape" and bool(node.inputs) and node.shape[-1] == self.nodes[node.inputs[0]].shape[-1]

    def _only_read_by(self, i: int, readers: set[int]) -> bool:
        return all(
            reader in readers
            or (
                self._keeps_channels(self.nodes[reader])
                and reader not in self.graph.outputs
                and self._only_read_by(reader, readers)
            )
            for reader in self.graph.consumers[i]
        )

    def _takers(self, i: int, width: int) -> tuple[Taker, ...] | None:
        """What can be divided in the place of node i, whose last axis has ``width`` channels; its readers all agree."""
        node = self.nodes[i]
        if node.shape[-1] != width or any(self.reads[name] > 1 for name in node.parameters):
            return None
        if node.kind == "dense" and node.layer is not None:
            return ((node.weight, 0), *(((node.bias, 0),) if node.bias else ()))
        if node.op in NORMS:
            names = [(name, len(shape) - 1) for name, shape in self._vectors(node, width)]
            return tuple(names) if len(names) == len(node.parameters) > 0 else None
        if node.op in PRODUCTS and self._vectors(node, width):
            (name, shape), *_ = self._vectors(node, width)
            return ((name, len(shape) - 1),)
        if node.op in SUMS and len(node.inputs) == 1 and self._vectors(node, width):
            (name, shape), *_ = self._vectors(node, width)
            before = self._before(node.inputs[0], width)
            return None if before is None else ((name, len(shape) - 1), *before)
        return self._through(node, width)

    def _through(self, node: Node, width: int) -> tuple[Taker, ...] | None:
        if self._keeps_channels(node) or node.op in HOMOGENEOUS:
            return self._before(node.inputs[0], width)
        if node.op in PRODUCTS and len(set(node.inputs)) == 2:  # either factor may take it
            return next((found for i in node.inputs if (found := self._before(i, width)) is not None), None)
        return None

    def _before(self, i: int, width: int) -> tuple[Taker, ...] | None:
        """Of a node that must have one reader."""
        alone = len(self.graph.consumers[i]) == 1 and i not in self.graph.outputs
        return self._takers(i, width) if alone else None

    def _vectors(self, node: Node, width: int) -> list[tuple[str, tuple[int, ...]]]:
        """The parameters of a node with one number for each channel, and their shapes."""
        pairs = zip(node.parameters, node.attributes.parameter_shapes, strict=True)
        return [(name, shape) for name, shape in pairs if shape and shape[-1] == width == math.prod(shape)]
