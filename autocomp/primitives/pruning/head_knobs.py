"""Attention heads as choices of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import ChannelGroup, Format, Knob, NetworkGraph

from .channel_pruning import ChannelPruning, carried_out


class HeadKnobs:
    """A knob for each attention whose heads can be cut: how many of them stay, in steps of an eighth.

    Those go first that the layers behind can do without, as in :class:`ChannelPruning`, which offers the same cuts
    among those of all channels: take this one where heads alone are to be cut.
    """

    name = "head-pruning"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        if not any(is_of_heads(graph, group) for group in graph.channel_groups):
            raise NoEffectError(f"{self.name} found no heads to remove: {reasons(graph)}")
        every = ChannelPruning().knobs(graph, parameters, formats, channel_divisor, moments)
        return tuple(
            replace(knob, primitive=self.name, values=carried_out(knob.values, self.name))
            for knob in every
            if knob.group is not None and is_of_heads(graph, knob.group)
        )


def is_of_heads(graph: NetworkGraph, group: ChannelGroup) -> bool:
    """Whether a product of activations runs once for each of the group's units."""
    return any(
        node.kind == "matmul"
        and node.channel_axis < len(node.shape) - 2
        and ((node.units >= group.start) & (node.units < group.stop)).any()
        for node in graph.nodes
    )


def reasons(graph: NetworkGraph) -> str:
    """Why no attention of the network can lose heads."""
    return "; ".join(sorted({why for why in graph.whole.values() if "heads" in why})) or (
        "it has no attention whose code computes the number of heads (autocomp.primitives.open_attention makes such of "
        "nn.MultiheadAttention)"
    )
