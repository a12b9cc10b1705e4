"""Tries channel groups out before a search uses them."""

from __future__ import annotations

import logging
import pathlib
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters, PlanCompressor
from autocomp.primitives.tracing.channels import group_channels
from autocomp.primitives.tracing.dead_layers import dead_layers
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import forward_in_any_mode
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import ChannelGroup, NetworkGraph, SearchSpace

log = logging.getLogger("autocomp")

TOLERANCE = 1e-3
PROBES = 3  # groups that are tried of many similar ones


def verify_channel_groups(
    net: Any,
    graph: NetworkGraph,
    parameters: Parameters,
    inputs: tuple[np.ndarray, ...],
    deadline: Deadline | None = None,
) -> NetworkGraph:
    """The graph without the channel groups whose cut breaks the network, or changes its outputs.

    Half of every group is cut by removing channels and by zeros; both networks must run and agree. The graph alone is
    not enough: a size that the network's code contains as a number (``x.reshape(1, 512)``) looks in the graph like a
    computed one.

    deadline: groups that were not tried until then are left whole, too.
    """
    if dead := dead_layers(net, graph):
        log.info("no output depends on %s: they stay as they are, and hold no channels whole", ", ".join(sorted(dead)))
    trial = _Trial(net, graph, parameters, inputs, deadline)
    left: dict[str, str] = {}
    reasons: dict[str, str] = {}
    settled: set[str] = set()
    ran: set[tuple[str, ...]] = set()  # layers of the groups whose cut did not raise
    while (failure := trial.fails(trial.graph.channel_groups)) is not None:
        compares = failure.place == OUTPUTS
        suspects = [group for group in trial.graph.channel_groups if compares or group.layers not in ran]
        broken = _broken(trial, suspects or trial.graph.channel_groups, compares)
        ran |= {group.layers for group in trial.graph.channel_groups if group not in broken}
        for group, reason in broken.items():
            heads = _heads(trial.graph, group)
            reason = HEADS + reason if heads and reason != LATE else reason
            left[group.name if group.name in group.layers else group.layers[0]] = reason
            reasons = dict.fromkeys(group.layers, reason) | reasons
            settled |= heads
            said = "the channels of %s are left whole: %s" if reason == LATE else UNCUT
            log.info(said, group.name, reason)
        trial.graph = group_channels(graph, left, settled)
    if not left:
        return graph
    return replace(trial.graph, whole={layer: reasons.get(layer, why) for layer, why in trial.graph.whole.items()})


OUTPUTS = "outputs"
UNCUT = "the channels of %s are left whole: cutting them fails (%s)"
TOGETHER = "groups cannot be cut together"
LATE = "the time limit left no time to try the cut"
HEADS = "its heads can only be cut where the code computes their number: "


def _heads(graph: NetworkGraph, group: ChannelGroup) -> set[str]:
    """Names of the reshapes that split the group's units into heads."""
    return {
        node.name
        for node in graph.nodes
        if node.attributes.heads and ((node.units >= group.start) & (node.units < group.stop)).any()
    }


@dataclass(frozen=True)
class Failure:
    """place: the line of the network's code that raised, or OUTPUTS."""

    reason: str
    place: str


def _broken(trial: _Trial, groups: Sequence[ChannelGroup], compares: bool) -> dict[ChannelGroup, str]:
    """Each group that cannot be cut -> the reason.

    Layers of repeated blocks mostly fail or pass together, so they are tried together. A cut that raises is found by
    running it, without a comparison.
    """
    alike: dict[str, list[ChannelGroup]] = {}
    for group in groups:
        alike.setdefault(re.sub(r"\d+", "#", group.name), []).append(group)
    broken: dict[ChannelGroup, str] = {}
    for members, failure in _halved(trial, list(alike.values()), compares):
        broken |= _broken_of_alike(trial, members, failure, compares)
    return broken or dict.fromkeys(groups, TOGETHER)


Family = Sequence[ChannelGroup]


def _halved(trial: _Trial, families: Sequence[Family], compares: bool) -> list[tuple[Family, Failure]]:
    """The families that fail, found by halving."""
    failure = trial.fails([group for members in families for group in members], compares)
    if failure is None:
        return []
    if len(families) == 1:
        return [(families[0], failure)]
    half = len(families) // 2
    return _halved(trial, families[:half], compares) + _halved(trial, families[half:], compares)


def _broken_of_alike(trial: _Trial, members: Family, failure: Failure, compares: bool) -> dict[ChannelGroup, str]:
    """The groups that fail among similar ones.

    Where the first, the middle and the last of many fail at the same line, all are assumed to fail: not cutting a group
    by mistake costs less than a trial for each.
    """
    if len(members) == 1:
        return {members[0]: failure.reason}
    probes = members if len(members) <= PROBES else [members[0], members[len(members) // 2], members[-1]]
    failures = {group: trial.fails([group], compares) for group in probes}
    found = {group: failure for group, failure in failures.items() if failure is not None}
    if len(found) == PROBES and len({failure.place for failure in found.values()}) == 1:
        return dict.fromkeys(members, found[members[0]].reason)
    rest = [[group] for group in members if group not in failures]
    broken = {group: failure.reason for group, failure in found.items()}
    broken |= {group: failure.reason for (group,), failure in _halved(trial, rest, compares)}
    return broken or dict.fromkeys(members, TOGETHER)


def _place(error: BaseException) -> str:
    """The innermost line that is neither MindSpore's nor autocomp's."""
    ours = str(pathlib.Path(__file__).parents[1])  # all of autocomp.primitives
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    outside = [frame for frame in frames if "mindspore" not in pathlib.Path(frame.filename).parts]
    return f"{outside[-1].filename}:{outside[-1].lineno}" if outside else type(error).__name__


class _Trial:
    def __init__(
        self,
        net: Any,
        graph: NetworkGraph,
        parameters: Parameters,
        inputs: tuple[np.ndarray, ...],
        deadline: Deadline | None = None,
    ) -> None:
        self.net, self.graph, self.parameters, self.inputs, self._whole = net, graph, parameters, inputs, graph
        self.deadline = Deadline() if deadline is None else deadline

    @cached_property
    def elastic(self) -> ElasticNetwork:
        return ElasticNetwork(self.net, self._whole)

    def fails(self, groups: Sequence[ChannelGroup], compares: bool = True) -> Failure | None:
        """Why cutting every other unit of these groups fails; None where it does not.

        compares: whether the outputs must equal those with zeros, or the cut need only run.
        """
        if not groups:
            return None
        if self.deadline.passed:
            return Failure(LATE, LATE)
        kept = np.ones(self.graph.unit_count, bool)
        for group in groups:
            kept[group.start + 1 : group.stop : 2] = False
        compressed = PlanCompressor(SearchSpace(self.graph, ()), self.parameters).of(kept, {})
        try:
            cut = forward_in_any_mode(convert(self.net, self.graph, self.parameters, compressed), self.inputs)
        except Exception as error:  # the network's own code, run with other shapes than before
            return Failure(first_line(error), _place(error))
        if not compares:
            return None
        zeroed = self._zeroed(compressed)
        worst = max(norm_error(a, b) for a, b in zip(cut, zeroed, strict=True))
        return None if worst <= TOLERANCE else Failure(f"the outputs change by {worst:.1g}", OUTPUTS)

    def _zeroed(self, compressed: CompressedWeights) -> tuple[np.ndarray, ...]:
        self.elastic.set(compressed)
        return forward_in_any_mode(self.elastic.cell, self.inputs)
