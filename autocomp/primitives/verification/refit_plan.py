"""Fits the layers of a plan's network one after the other, with chains in the place of layers and without skipped
blocks.

As in :mod:`autocomp.primitives.verification.refit` the target of each layer is what it gives for the same images in the
whole network; of a chain its last layer moves towards what the replaced layer gave. So each layer takes back what those
before it lost. It is the blockwise distillation of Li et al., "Blockwisely Supervised Neural Architecture Search with
Knowledge Distillation", CVPR 2020, with layers as blocks, where training ends at a least-squares solution that is
computed here directly; unlike there, each layer reads what the smaller network gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import dropwhile

import numpy as np

from autocomp.primitives.numerics.patches import narrow_layers
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels
from autocomp.primitives.tracing.weight_layout import groups_left, weight_of
from autocomp.search_spaces import NetworkGraph, Node

from .refit import Batch, fitted_to, sampled

Inputs = Callable[[CompressedWeights, Batch], Mapping[str, Sequence[np.ndarray]]]


def refitted_plan(
    graph: NetworkGraph,
    parameters: Parameters,
    plain: CompressedWeights,
    compressed: CompressedWeights,
    inputs_of: Inputs,
    batches: Sequence[Batch],
) -> CompressedWeights:
    """The same network with other weights and biases, from the first layer that differs on.

    Not fitted: sparse, very wide and transposed layers, those in groups that no chain stands for, and the layers of a
    chain before its last.

    graph, parameters: of the whole network. plain: its weights. compressed: a plan without rounding. inputs_of: gives
    the inputs of layers, for each of their calls. batches: of the network's inputs.
    """
    own = compressed.graph or graph
    places = _places(graph, own, compressed)
    wanted = _outputs(graph, parameters, plain, inputs_of, batches, set(places.values()))
    layers = dict(compressed.layers)
    for layer, place in places.items():
        node, state = own.nodes[own.layers[layer]], layers[layer]
        calls = [inputs_of(replace(compressed, layers=layers), batch)[layer] for batch in batches]
        seen = np.concatenate([_patches(own, node, state, some, compressed.kept, i) for i, some in enumerate(calls)])
        layers[layer] = _fitted(state, seen, wanted[place][:, state.rows])
    return replace(compressed, layers=layers)


def _places(graph: NetworkGraph, own: NetworkGraph, compressed: CompressedWeights) -> dict[str, str]:
    """Layer that is fitted -> the layer of the whole network in whose place it stands, in the order of execution."""
    nodes = {layer: own.nodes[i] for layer, i in own.layers.items()}
    narrow = set(narrow_layers(own, nodes))

    def same(layer: str) -> bool:
        state = compressed.layers[layer]
        return nodes[layer].attributes.replaces is None and bool(state.columns.all())

    def moves(layer: str) -> bool:
        node = nodes[layer]
        in_chain = node.attributes.replaces is not None
        fits = layer in narrow and not compressed.layers[layer].sparse and not node.transposed
        return fits and node.attributes.narrowing is None and (in_chain or node.groups == 1)

    changed = list(nodes) if compressed.skipped or compressed.relus else list(dropwhile(same, nodes))
    return {layer: nodes[layer].attributes.replaces or layer for layer in changed if moves(layer)}


def _outputs(
    graph: NetworkGraph,
    parameters: Parameters,
    plain: CompressedWeights,
    inputs_of: Inputs,
    batches: Sequence[Batch],
    layers: set[str],
) -> dict[str, np.ndarray]:
    """(n, out) of each of these layers in the whole network, at the places of the patches of :func:`_patches`."""
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for i, batch in enumerate(batches):
        seen = inputs_of(plain, batch)
        for layer in layers:
            node = graph.nodes[graph.layers[layer]]
            weight = weight_of(node, parameters)
            outputs = sampled(node, seen[layer], i)[:, 0] @ weight.reshape(len(weight), -1).T
            found[layer].append(outputs if node.bias is None else outputs + parameters[node.bias])
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def _patches(
    graph: NetworkGraph, node: Node, state: LayerState, calls: Sequence[np.ndarray], kept: np.ndarray, seed: int
) -> np.ndarray:
    """(n, groups, k) of what the layer reads; the same seed gives the same places."""
    axis, groups = (1, groups_left(node, len(state.weight))) if node.kind == "conv" else (-1, 1)
    channels = state.weight.shape[1] * groups
    if calls[0].shape[axis] != channels:  # an elastic network has the cut channels, too
        mask = _read(graph, node, kept, channels)
        calls = [np.compress(mask, values, axis) for values in calls]
    if node.kind == "conv":
        window = replace(node.convolution, groups=groups)
        node = replace(node, attributes=replace(node.attributes, convolution=window))
    return sampled(node, calls, seed)


def _read(graph: NetworkGraph, node: Node, kept: np.ndarray, channels: int) -> np.ndarray:
    """(in,) bool: the channels of an elastic network's tensor that the layer reads."""
    units = graph.input_units(node)
    inner = node.attributes.replaces is not None and not graph.starts_chain(graph.layers[str(node.layer)])
    return np.arange(len(units)) < channels if inner else kept_channels(units, kept)


def _fitted(state: LayerState, seen: np.ndarray, wanted: np.ndarray) -> LayerState:
    """seen: (n, groups, k); wanted: (n, kept out)."""
    groups = seen.shape[1]
    rows = state.weight.reshape(groups, len(state.weight) // groups, -1)
    biases = [None] * groups if state.bias is None else np.split(state.bias, groups)
    parts = zip(np.split(wanted, groups, 1), seen.swapaxes(0, 1), rows, biases, strict=True)
    fits = [fitted_to(*part) for part in parts]
    weight = np.concatenate([one for one, _ in fits]).reshape(state.weight.shape)
    return replace(state, weight=weight, bias=None if state.bias is None else np.concatenate([b for _, b in fits]))
