"""Fits the layers of a plan's network one after the other, with chains in the place of layers and without skipped
blocks.

As in :mod:`autocomp.primitives.verification.refit` the target of each layer is what it gives for the same images in the
whole network; of a chain its last layer moves towards what the replaced layer gave. So each layer takes back what those
before it lost. It is the blockwise distillation of Li et al., "Blockwisely Supervised Neural Architecture Search with
Knowledge Distillation", CVPR 2020, with layers as blocks, where training ends at a least-squares solution that is
computed here directly; unlike there, each layer reads what the smaller network gives it.

The last convolution of a residual block moves towards the block's output: it also takes back what the shortcut has lost
(as He et al., ICCV 2017, do in networks with several branches). A ReLU behind is met by gradient steps, since only what
passes it counts (the nonlinear case of Zhang et al., TPAMI 2016). They are scaled by the least-squares moment, which
bounds the curvature, so that no rate has to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile

import numpy as np

from autocomp.primitives.numerics.patches import narrow_layers
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels
from autocomp.primitives.tracing.weight_layout import groups_left, weight_of
from autocomp.search_spaces import Convolution, NetworkGraph, Node

from .layer_tail import LayerTail
from .refit import Batch, Regression, sampled

STEPS = 3  # behind a ReLU; chosen on training images, with more of them the layers fit the patches alone
PIXEL = Convolution((1, 1), (1, 1))

Inputs = Callable[[CompressedWeights, Batch], Mapping[str, Sequence[np.ndarray]]]
Nodes = Callable[[CompressedWeights, Batch, Collection[int]], Mapping[int, np.ndarray]]


def refitted_plan(
    graph: NetworkGraph,
    parameters: Parameters,
    plain: CompressedWeights,
    compressed: CompressedWeights,
    inputs_of: Inputs,
    batches: Sequence[Batch],
    nodes_of: Nodes | None = None,
) -> CompressedWeights:
    """The same network with other weights and biases, from the first layer that differs on.

    Not fitted: sparse, very wide and transposed layers, those in groups that no chain stands for, and the layers of a
    chain before its last.

    graph, parameters: of the whole network. plain: its weights. compressed: a plan without rounding. inputs_of: gives
    the inputs of layers, for each of their calls. batches: of the network's inputs. nodes_of: gives outputs of nodes;
    where it is None or gives none, a shortcut's loss is not taken back.
    """
    own = compressed.graph or graph
    places = _places(graph, own, compressed)
    wanted = _outputs(graph, parameters, plain, inputs_of, batches, set(places.values()))
    pairs = _tails(graph, own, parameters, plain, compressed, places)
    expected = {layer: whole for layer, (whole, _) in pairs.items()}
    reached = _shortcuts(graph, {places[layer]: tail for layer, tail in expected.items()}, plain, nodes_of, batches)
    layers = dict(compressed.layers)
    for layer, place in places.items():
        node, state, now = own.nodes[own.layers[layer]], layers[layer], replace(compressed, layers=layers)
        calls = [inputs_of(now, batch)[layer] for batch in batches]
        seen = np.concatenate([_patches(own, node, state, some, compressed.kept, i) for i, some in enumerate(calls)])
        target = None
        if layer in pairs:
            whole, tail = pairs[layer]
            known = reached.get(place)
            if known is None or tail.settled:
                shortcut = _shortcuts(own, {layer: tail}, now, nodes_of, batches).get(layer)
            else:  # layers that are fitted later will take back what it has lost
                shortcut = known[:, state.rows]
            target = _target(whole, tail, wanted[place], known, shortcut, state.rows)
        layers[layer] = _fitted(state, seen, wanted[place][:, state.rows], target)
    return replace(compressed, layers=layers)


@dataclass(frozen=True, eq=False)
class _Target:
    """What is wanted behind a layer's tail, before its ReLU, (n, kept out); shortcut: what is added there, or None."""

    tail: LayerTail
    wanted: np.ndarray
    shortcut: np.ndarray | None
    rectified: bool

    def linear(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs of the layer that give ``wanted``, from those that it gives in the whole network."""
        return outputs + self.tail.before(self.wanted - self.tail.behind(outputs, self.shortcut))

    def step(self, outputs: np.ndarray) -> np.ndarray:
        """The outputs, less the gradient of half the squared error behind the ReLU by them, over the largest
        curvature."""
        found = self.tail.behind(outputs, self.shortcut)
        error = np.where(found > 0, found - np.maximum(self.wanted, 0), 0)
        return outputs - self.tail.before(error)


def _target(
    whole: LayerTail,
    tail: LayerTail,
    outputs: np.ndarray,
    reached: np.ndarray | None,
    shortcut: np.ndarray | None,
    rows: np.ndarray,
) -> _Target | None:
    """None where a shortcut is not known. outputs, reached: those of the layer and what is added, in the whole
    network. shortcut: what is added in the smaller one. rows: (out,) bool, the kept outputs."""
    added = whole.shortcut is not None
    if added and (reached is None or shortcut is None or shortcut.shape[1] != rows.sum()):
        return None
    wanted = whole.behind(outputs, reached)[:, rows]
    return _Target(tail, wanted, shortcut, whole.rectified and tail.rectified)


def _tails(
    graph: NetworkGraph,
    own: NetworkGraph,
    parameters: Parameters,
    plain: CompressedWeights,
    compressed: CompressedWeights,
    places: Mapping[str, str],
) -> dict[str, tuple[LayerTail, LayerTail]]:
    """Convolution that runs once -> what stands behind it in the whole and in the smaller network."""
    found = {}
    for layer, place in places.items():
        state, i, before = compressed.layers[layer], own.layers[layer], graph.layers[place]
        if own.nodes[i].kind == "conv" and len(own.calls(layer)) == len(graph.calls(place)) == 1:
            whole = LayerTail.of(graph, before, parameters, plain, len(state.rows))
            tail = LayerTail.of(own, i, parameters, compressed, int(state.rows.sum()))
            if (whole.shortcut is None) == (tail.shortcut is None):
                found[layer] = whole, tail
    return found


def _shortcuts(
    graph: NetworkGraph,
    tails: Mapping[str, LayerTail],
    compressed: CompressedWeights,
    nodes_of: Nodes | None,
    batches: Sequence[Batch],
) -> dict[str, np.ndarray]:
    """(n, channels) of what is added to the outputs of each of these layers, at the places of :func:`_patches`."""
    nodes = {layer: tail.shortcut for layer, tail in tails.items() if tail.shortcut is not None}
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in nodes}
    for i, batch in enumerate(batches if nodes and nodes_of is not None else ()):
        assert nodes_of is not None
        values = nodes_of(compressed, batch, set(nodes.values()))
        for layer, shortcut in nodes.items() if values else ():
            found[layer].append(at_places(graph.nodes[graph.layers[layer]], values[shortcut], i))
    return {layer: np.concatenate(parts) for layer, parts in found.items() if parts}


def at_places(node: Node, values: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, channels): of a tensor with the height and width of a convolution's output, what lies at the places of the
    patches that :func:`~.refit.sampled` takes with this seed. values: (images, channels, height, width)."""
    pixel = replace(node, attributes=replace(node.attributes, convolution=PIXEL))
    return sampled(pixel, [values], seed)[:, 0]


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


def _fitted(state: LayerState, seen: np.ndarray, wanted: np.ndarray, target: _Target | None) -> LayerState:
    """seen: (n, groups, k); wanted: (n, kept out), of the layer itself."""
    groups = seen.shape[1]
    weights = list(state.weight.reshape(groups, len(state.weight) // groups, -1))
    biases: list[np.ndarray | None] = [None] * groups if state.bias is None else [*np.split(state.bias, groups)]
    parts = [Regression.on(some, state.bias is not None) for some in seen.swapaxes(0, 1)]

    def moved(towards: np.ndarray) -> None:
        for g, (part, some) in enumerate(zip(parts, np.split(towards, groups, 1), strict=True)):
            weights[g], biases[g] = part.fitted(some, weights[g], biases[g])

    moved(wanted if target is None else target.linear(wanted))
    for _ in range(STEPS if target is not None and target.rectified else 0):
        assert target is not None
        outputs = [part.outputs(*known) for part, *known in zip(parts, weights, biases, strict=True)]
        moved(target.step(np.concatenate(outputs, 1)))
    bias = None if state.bias is None else np.concatenate([one for one in biases if one is not None])
    return replace(state, weight=np.concatenate(weights).reshape(state.weight.shape), bias=bias)
