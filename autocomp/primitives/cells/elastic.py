"""One compiled network for every plan: a plan is a set of parameter values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, kept_channels
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode, to_arrays, to_tensors
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.weight_layout import groups_left, to_out_first_layout, weight_of
from autocomp.search_spaces import Activation, LayerChain, NetworkGraph, Node, ResidualBlock

from .activations import elastic_activations
from .blocks import elastic_blocks
from .chains import ElasticStructure, layer_in_chain
from .layer_pass import inputs_of_calls, with_bias
from .layers import ElasticInput, ElasticRows, ElasticShift, ms, nn


class ElasticNetwork:
    """A copy of the network whose weights, BatchNorm statistics and input quantizers are set by plans.

    A cut channel is a zero in the weights that consume it: that is correct for every activation, and needs no mask. The
    copy compiles at its first call; ``set`` compiles nothing.

    >>> elastic = ElasticNetwork(net, graph)                # net itself is not changed
    >>> elastic.set(compressor(plan))
    >>> (logits,) = elastic((x,))
    """

    def __init__(
        self,
        net: Any,
        graph: NetworkGraph,
        chains: Mapping[str, Sequence[LayerChain]] | None = None,
        blocks: Collection[ResidualBlock] = (),
        by_row: Collection[str] = (),
        activations: Collection[Activation] = (),
        shifted: Collection[str] = (),
    ) -> None:
        """chains: those that plans may put in the place of a layer. blocks: those that plans may skip. by_row: layers
        whose inputs plans may round with a range for each row. activations: those that ReLUs may stand for. shifted:
        dense layers whose inputs plans may shift."""
        self.graph = graph
        self.cell = copy_network(net).set_train(False)
        self.parameters = {p.name: p for p in self.cell.get_parameters()}
        self.floats = {name: np.array(p.asnumpy()) for name, p in self.parameters.items()}
        names = {id(p): name for name, p in self.parameters.items()}
        self.activations = elastic_activations(self.cell, activations)
        self.inputs: dict[str, ElasticInput] = {}
        self.biases: dict[str, Any] = {}  # of layers that have none of their own
        self._tables: dict[str, QuantizedWeight | None] = {}
        for layer in graph.layers:
            bounded_below = not all(graph.never_negative(node.inputs[0]) for node in graph.calls(layer))
            node = graph.nodes[graph.layers[layer]]
            channels = node.weight_shape[1] if node.kind == "dense" and node.weight_shape is not None else None
            kind = ElasticRows if layer in by_row else ElasticInput
            cell = cell_at(self.cell, layer)
            if layer in shifted and node.bias is None:
                cell = with_bias(cell, np.zeros(len(cell.weight), np.float32))
                self.biases[layer] = cell.bias
            self.inputs[layer] = kind(cell, bounded_below or layer in shifted, channels)
        self.shifts = {layer: ElasticShift(self.inputs[layer]) for layer in shifted}
        replace_cells(self.cell, {**self.inputs, **self.shifts})
        self.chains = {layer: [chain.layers for chain in found] for layer, found in (chains or {}).items()}
        self.structures = {layer: self._structure(layer, found, names) for layer, found in (chains or {}).items()}
        replace_cells(self.cell, self.structures)
        norms = {node.layer for node in graph.nodes if node.kind == "batchnorm" and node.layer is not None}
        self.norms = {layer: cell_at(self.cell, layer) for layer in norms}
        self.blocks = elastic_blocks(self.cell, blocks)
        rename_parameters(self.cell, names)
        self.parameters = {p.name: p for p in self.cell.get_parameters()}

    def _structure(self, layer: str, chains: Sequence[LayerChain], names: dict[int, str]) -> ElasticStructure:
        """The cell of a layer and its chains. names: of parameters by id, to which those of the chains are added."""
        whole, cells = self.inputs[layer], []
        for chain in chains:
            for place, node in enumerate(chain.nodes):
                cell = layer_in_chain(node, whole.layer, apart=False)
                named = {node.weight: cell.weight} | ({} if node.bias is None else {node.bias: cell.bias})
                names |= {id(one): name for name, one in named.items()}
                self.floats |= {name: np.array(one.asnumpy()) for name, one in named.items()}
                self.inputs[str(node.layer)] = ElasticInput(cell, place > 0 or whole.bounded_below)
            cells.append(nn.SequentialCell([self.inputs[name] for name in chain.layers]))
        return ElasticStructure(self.shifts.get(layer, whole), cells)

    def set(self, compressed: CompressedWeights) -> None:
        graph = compressed.graph or self.graph
        for layer, structure in self.structures.items():
            places = [i for i, layers in enumerate(self.chains[layer], 1) if layers[0] in compressed.layers]
            structure.set(places[0] if places else 0)
        for path, block in self.blocks.items():
            block.set(path in compressed.skipped)
        for path, activation in self.activations.items():
            activation.set(path in compressed.relus)
        for layer, state in compressed.layers.items():
            node = graph.nodes[graph.layers[layer]]
            if node.attributes.replaces is not None and node.groups > 1:
                state = _apart(node, state, _read_channels(graph, node, compressed))
            weight = _scattered(weight_of(node, self.floats), state)
            self._assign(node.weight, to_out_first_layout(weight, node.groups) if node.transposed else weight)
            if layer in self.shifts:
                self.shifts[layer].set(_whole(state, state.shift, 0))
            if layer in self.biases:
                moved = np.zeros(len(state.rows), np.float32)
                moved[state.rows] = 0 if state.bias is None else state.bias
                self.biases[layer].set_data(ms.Tensor(moved))
            elif state.bias is not None:
                assert node.bias is not None
                bias = np.array(self.floats[node.bias])
                bias[state.rows] = state.bias
                self._assign(node.bias, bias)
            self.inputs[layer].set(state.activation, _whole(state, state.scale, 1))
            if isinstance(self.inputs[layer], ElasticRows):
                self.inputs[layer].set_rows(state.row_bits)
        self._set_tables(compressed)
        for node in self.graph.nodes:
            if node.kind == "batchnorm" and node.layer is not None:
                mean, variance = node.normalization.statistics
                values = compressed.statistics.get(node.layer, (self.floats[mean], self.floats[variance]))
                self._assign(mean, values[0])
                self._assign(variance, values[1])

    def _set_tables(self, compressed: CompressedWeights) -> None:
        """Those of embeddings that differ from the plan before."""
        for path, i in self.graph.embeddings.items():
            table, name = compressed.tables.get(path), self.graph.nodes[i].table
            if table is not self._tables.get(path):
                self._assign(name, self.floats[name] if table is None else table.dequantized())
                self._tables[path] = table

    def _assign(self, name: str, value: np.ndarray) -> None:
        self.parameters[name].set_data(ms.Tensor(value.astype(np.float32)))

    def __call__(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """The outputs for a batch in GRAPH mode; compiles once for each shape of the inputs."""
        with execution_mode(graph=True):
            return to_arrays(self.cell(*to_tensors(inputs)))

    def layer_inputs(
        self, inputs: tuple[np.ndarray, ...], layers: Collection[str] | None = None
    ) -> dict[str, list[np.ndarray]]:
        """The inputs of each layer, or of each of ``layers``: layer -> (n, ...) float32 for each of its calls."""
        chosen = self.inputs if layers is None else {path: self.inputs[path] for path in layers}
        return inputs_of_calls(self.cell, chosen, inputs)

    def batch_statistics(
        self, inputs: tuple[np.ndarray, ...], kept: np.ndarray
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and variance over the batch of each BatchNorm's input, for its kept channels.

        Meanwhile each BatchNorm normalises by the batch, as in a training step. For one that runs several times they
        are averages over its calls. The stored statistics stay the same.
        """
        norms = {node.layer: node for node in self.graph.nodes if node.kind == "batchnorm" and node.layer is not None}
        stored = [name for node in norms.values() for name in node.normalization.statistics]
        before = {name: self.parameters[name].asnumpy() for name in stored}
        try:
            for cell in self.norms.values():
                cell.set_train(True)
            seen = inputs_of_calls(self.cell, self.norms, inputs)
        finally:
            self.cell.set_train(False)
            for name, value in before.items():
                self._assign(name, value)
        return {layer: _moments(calls, kept_channels(norms[layer].units, kept)) for layer, calls in seen.items()}


def _moments(calls: Sequence[np.ndarray], kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = tuple(axis for axis in range(calls[0].ndim) if axis != 1)
    mean, variance = np.mean([(x.mean(axes), x.var(axes)) for x in calls], 0)
    return mean[kept], variance[kept]


def _read_channels(graph: NetworkGraph, node: Node, compressed: CompressedWeights) -> np.ndarray:
    """(in,) bool: the channels that a layer of a chain in groups reads."""
    if graph.starts_chain(graph.layers[str(node.layer)]):
        return kept_channels(graph.input_units(node), compressed.kept)
    weight = compressed.layers[str(node.layer)].weight
    assert node.weight_shape is not None
    return np.arange(node.weight_shape[1] * node.groups) < weight.shape[1] * groups_left(node, len(weight))


def _apart(node: Node, state: LayerState, columns: np.ndarray) -> LayerState:
    """A layer of a chain in groups, as a layer with one group: plans differ in groups. columns: what it reads."""
    outputs, inputs, groups = *state.weight.shape[:2], groups_left(node, len(state.weight))
    weight = np.zeros((outputs, groups * inputs, *state.weight.shape[2:]), np.float32)
    own = (np.arange(outputs) * groups // outputs * inputs)[:, None] + np.arange(inputs)
    weight[np.arange(outputs)[:, None], own] = state.weight
    return replace(state, weight=weight, columns=columns)


def _whole(state: LayerState, values: np.ndarray | None, cut: float) -> np.ndarray | None:
    """(in,): the numbers of the channels of the layer's input; that of those that are cut."""
    if values is None:
        return None
    found = np.full(len(state.columns), cut, np.float32)
    found[state.columns] = values
    return found


def _scattered(weight: np.ndarray, state: LayerState) -> np.ndarray:
    """The layer's weight in its full shape: kept entries as in the plan, cut inputs zero."""
    full = np.array(weight)
    full[:, ~state.columns] = 0
    full[np.ix_(state.rows, state.columns)] = state.weight
    return full
