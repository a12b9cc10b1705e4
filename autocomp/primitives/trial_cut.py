"""Channel groups tried out before a search relies on them."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..search_spaces import ChannelGroup, NetworkGraph, SearchSpace
from .channels import group_channels
from .convert import convert
from .elastic import ElasticNetwork
from .export import norm_error
from .mindir import first_line
from .platform import execution_mode, forward, to_arrays, to_tensors
from .realise import Parameters, Realisation, Realiser

log = logging.getLogger("autocomp")

TOLERANCE = 1e-3


def keep_what_cuts(
    net: Any, graph: NetworkGraph, parameters: Parameters, inputs: tuple[np.ndarray, ...]
) -> NetworkGraph:
    """The graph without the channel groups whose cut breaks the network, or changes what it computes.

    Half of every group is cut for real and with zeros; both must run and agree. A graph cannot show everything: a
    size that the network's code writes out (``x.reshape(1, 512)``) looks there like one that it computes.
    """
    trial = _Trial(net, graph, parameters, inputs)
    if not graph.channel_groups or trial.fails(graph.channel_groups) is None:
        return graph
    broken = _broken(trial, graph.channel_groups)
    for layer, reason in broken.items():
        log.info("the channels of %s are left whole: cutting them fails (%s)", layer, reason)
    if not broken:
        broken = dict.fromkeys((group.layers[0] for group in graph.channel_groups), TOGETHER)
    return group_channels(graph, broken)


TOGETHER = "groups cannot be cut together"


def _broken(trial: _Trial, groups: Sequence[ChannelGroup]) -> dict[str, str]:
    """First layer of each group that cannot be cut -> why. Layers of repeated blocks mostly share their fate, so they
    are tried together first."""
    alike: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        alike.setdefault(re.sub(r"\d+", "#", group.name), []).append(group)
    broken: dict[str, str] = {}
    for members in alike.values():
        reason = trial.fails(members)
        if reason is not None and len(members) > 1:
            found = {group.layers[0]: why for group in members if (why := trial.fails([group])) is not None}
            broken |= found or dict.fromkeys((group.layers[0] for group in members), TOGETHER)
        elif reason is not None:
            broken[members[0].layers[0]] = reason
    return broken


class _Trial:
    def __init__(self, net: Any, graph: NetworkGraph, parameters: Parameters, inputs: tuple[np.ndarray, ...]) -> None:
        self.net, self.graph, self.parameters, self.inputs = net, graph, parameters, inputs
        self.realiser = Realiser(SearchSpace(graph, ()), parameters)
        self.elastic = ElasticNetwork(net, graph)

    def fails(self, groups: Sequence[ChannelGroup]) -> str | None:
        """Why cutting every other unit of these groups fails; None where it does not."""
        kept = np.ones(self.graph.unit_count, bool)
        for group in groups:
            kept[group.start + 1 : group.stop : 2] = False
        realisation = self.realiser.of(kept, {})
        try:
            cut = forward(convert(self.net, self.graph, self.parameters, realisation), self.inputs, graph=False)
        except Exception as error:  # the network's own code, run with other shapes than it was written for
            return first_line(error)
        zeroed = self._zeroed(realisation)
        worst = max(norm_error(a, b) for a, b in zip(cut, zeroed, strict=True))
        return None if worst <= TOLERANCE else f"the outputs change by {worst:.1g}"

    def _zeroed(self, realisation: Realisation) -> tuple[np.ndarray, ...]:
        self.elastic.set(realisation)
        with execution_mode(graph=False):
            return to_arrays(self.elastic.cell(*to_tensors(self.inputs)))
