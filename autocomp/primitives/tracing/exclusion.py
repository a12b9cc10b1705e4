"""Layers that stay as they are: those that the user names, and those whose weights are frozen."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from autocomp.search_spaces import ChannelGroup, NetworkGraph

from .channels import group_channels

log = logging.getLogger("autocomp")

Patterns = str | Iterable[str]
EXCLUDED = "is excluded"


def excluded_layers(net: Any, graph: NetworkGraph, patterns: Patterns = ()) -> frozenset[str]:
    """The graph's layers that stay as they are.

    patterns: names of cells, which stand for all that is inside them, or patterns such as ``"head.*"``. Layers whose
    weight has ``requires_grad=False`` are among them, unless all weights are frozen, as in a network that is only run.

    Raises:
        ValueError: a pattern fits no cell; it names the nearest.
    """
    wanted = cells_named(net, (patterns,) if isinstance(patterns, str) else tuple(patterns))
    named = graph.places_within(wanted)
    frozen = _frozen(net, graph)
    if frozen - named:
        log.info("layers with frozen weights stay as they are: %s", ", ".join(sorted(frozen - named)))
    return frozenset(named | frozen)


def leave_whole(graph: NetworkGraph, layers: Iterable[str]) -> NetworkGraph:
    """Without the channel groups whose cut would change these layers' weights: those they make, those they read."""
    wanted = frozenset(layers)
    left = {
        layer: f"{layer if layer in wanted else _reader(graph, group, wanted)} {EXCLUDED}"
        for group in graph.channel_groups
        if wanted.intersection(group.layers) or _reader(graph, group, wanted)
        for layer in group.layers
    }
    known = {layer: reason for layer, reason in graph.whole.items() if layer in graph.layers}
    return group_channels(graph, {**known, **left}) if left else graph


def _reader(graph: NetworkGraph, group: ChannelGroup, layers: Iterable[str]) -> str:
    """The first of the layers that reads units of the group; "" for none."""
    for layer in sorted(layers):
        for node in graph.calls(layer):
            units = graph.input_units(node)
            if ((units >= group.start) & (units < group.stop)).any():
                return layer
    return ""


def cells_named(net: Any, patterns: tuple[str, ...], argument: str = "exclude") -> set[str]:
    """The cells that the names or patterns fit, and all cells inside them. ValueError for one that fits none."""
    names = [name for name, _ in net.cells_and_names() if name]
    found: set[str] = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument} must be names or patterns of layers, but got {type(pattern).__name__}")
        fits = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not fits:
            near = get_close_matches(pattern, names, 3, 0.4) or names[:3]
            raise ValueError(f"{argument} must name layers, but none fits {pattern!r}; the nearest: {', '.join(near)}")
        found |= {name for name in names if any(name == cell or name.startswith(f"{cell}.") for cell in fits)}
    return found


def _frozen(net: Any, graph: NetworkGraph) -> set[str]:
    trains = {parameter.name: parameter.requires_grad for parameter in net.get_parameters()}
    weights = {layer: graph.nodes[i].weight for layer, i in graph.layers.items()}
    weights |= {path: graph.nodes[i].table for path, i in graph.embeddings.items()}
    frozen = {layer for layer, weight in weights.items() if not trains.get(weight, True)}
    return frozen if len(frozen) < len(weights) else set()
