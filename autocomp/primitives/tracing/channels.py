"""Which channels must be cut together: identities of channels, carried from the producing layers through the graph.

Every output channel of a convolution or dense layer gets an identity. Operators pass identities on (an activation),
concatenate them (a concat), repeat them (a flatten), move them to another axis (a transpose) or unify two of them (an
add: union-find). The result are sets of channels that must be cut together; layers that share such sets form a channel
group. Channels that reach an output of the network, an unknown operator, or an operator that mixes channels without a
weight cannot be cut; the reason is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from autocomp.search_spaces import ChannelGroup, NetworkGraph

from .channel_identities import STAYS, Identities
from .channel_rules import RULES

MOST_ROUNDS = 6


def group_channels(
    graph: NetworkGraph, left_whole: Mapping[str, str] | None = None, settled: Collection[str] = ()
) -> NetworkGraph:
    """The graph with its channel groups, and each node's ``units``.

    A reshape of channels into (heads, head size) allows two cuts: the same places of every head, or whole heads. The
    longer axis is tried first. Where a later operator does not allow that cut, all channels are followed again with the
    next axis. A reshape for which no choice allows a cut keeps its first choice.

    left_whole: layers that must not be cut, with reasons. settled: names of reshapes that keep their first choice.
    """
    choices: dict[str, int] = {}
    for _ in range(MOST_ROUNDS):
        state = _followed(graph, left_whole or {}, choices)
        refused = {name: choices.get(name, 0) for name in state.refused() if name not in settled}
        undecided = {name: choice for name, choice in refused.items() if choice + 1 < state.choices_of[name]}
        if not undecided:
            break
        least = min(undecided.values())  # others may be refused only because these do not fit them yet
        choices |= {name: least + 1 for name, choice in undecided.items() if choice == least}
    in_vain = {name for name in state.refused() if choices.get(name)}
    if in_vain:
        state = _followed(graph, left_whole or {}, {name: n for name, n in choices.items() if name not in in_vain})
    return _grouped(state)


def left_whole(graph: NetworkGraph, whole: Mapping[str, str]) -> NetworkGraph:
    """The graph with these layers, for these reasons, among those whose channels are not cut."""
    missing = {layer: why for layer, why in whole.items() if layer not in graph.whole}
    return group_channels(graph, missing) if missing else graph


def _followed(graph: NetworkGraph, left_whole: Mapping[str, str], choices: Mapping[str, int]) -> Identities:
    state = Identities(graph, choices)
    for node in graph.nodes:
        followed = any(carried.free for carried in state.inputs(node)) or node.weight_shape is not None
        rule = RULES.get(node.op) or RULES.get(node.kind) or Identities.unknown
        carried = rule(state, node) if followed else state.stays(node)
        fits = carried.axis < len(node.shape) and len(carried.ids) == node.shape[carried.axis]
        state.carried.append(carried if fits else state.unknown(node))
    for output in graph.outputs:
        state.freeze(state.carried[output].ids, "it is an output of the network")
    for layer, reason in left_whole.items():
        if layer in state.produced:
            state.freeze(state.produced[layer], reason)
    return state


def _grouped(state: Identities) -> NetworkGraph:
    root_of = np.array([state.root(i) for i in range(len(state.parent))] + [STAYS])  # the last for STAYS
    roots = {layer: root_of[ids] for layer, ids in state.produced.items() if (ids != STAYS).all()}
    unit_of = np.full(len(root_of), STAYS)
    groups: dict[str, ChannelGroup] = {}
    start = 0
    for layers, members in _components(state, roots):
        unit_of[members] = np.arange(start, start + len(members))
        name = _name(layers, groups)
        groups[name] = ChannelGroup(name, layers, start, start + len(members))
        start += len(members)
    unit_of = unit_of[root_of]
    nodes = []
    for node, carried in zip(state.graph.nodes, state.carried, strict=True):
        found = replace(node.attributes, axis=carried.axis, heads=state.choices.get(node.name, 0) > 0)
        nodes.append(replace(node, units=unit_of[carried.ids], attributes=found))
    whole = {
        layer: state.reasons[int(rows[0])]
        for layer, rows in roots.items()
        if all(root in state.reasons for root in rows.tolist())
    }
    return replace(state.graph, nodes=tuple(nodes), channel_groups=tuple(groups.values()), whole=whole)


def _components(state: Identities, roots: dict[str, np.ndarray]) -> list[tuple[tuple[str, ...], list[int]]]:
    """Sets of channels, by the layers that they pass through; only where a layer has two or more that may be cut.

    Channels of a concat that are read by one later layer (a depthwise one, or one added to it) belong to several
    groups: each group keeps some of them, and so does every layer.
    """
    layers_of: dict[int, list[str]] = {}
    for layer, rows in roots.items():  # in execution order
        for root in dict.fromkeys(rows.tolist()):
            if root not in state.reasons:
                layers_of.setdefault(root, []).append(layer)
    members: dict[tuple[str, ...], list[int]] = {}
    for root, layers in sorted(layers_of.items()):
        members.setdefault(tuple(layers), []).append(root)
    order = {layer: i for i, layer in enumerate(roots)}
    found = sorted(members.items(), key=lambda item: [order[layer] for layer in item[0]])
    return [(layers, units) for layers, units in found if len(units) > 1]


def _name(layers: tuple[str, ...], taken: Collection[str]) -> str:
    """The first of the group's layers whose name is not yet the name of another group."""
    return next((layer for layer in layers if layer not in taken), f"{layers[0]}@{len(taken)}")
