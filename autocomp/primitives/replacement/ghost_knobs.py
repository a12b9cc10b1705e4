"""Knobs for Ghost layers: a convolution, or one with half as many outputs and a depthwise one behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.layer_fits.ghost_fit import SIZE
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import (
    WHOLE,
    Convolution,
    Format,
    Knob,
    LayerChain,
    Narrowing,
    NetworkGraph,
    Node,
    carried_out_by,
)

from .chains import as_last, in_chain, macs, replaceable

GHOST, RATIO = "ghost2", 2


class GhostKnobs:
    """A knob for each convolution with one group, an even number of outputs and images of more than one row.

    The first layer has the kernel and half of the outputs, the second makes two outputs of each by depthwise 3 x 3
    kernels (:mod:`autocomp.primitives.numerics.layer_fits.ghost_fit`). The first and the last layer of a network stay
    whole, and so does a layer whose channels may be cut to an odd number. No weights of it are sparse.
    """

    name = "ghost"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        value = carried_out_by(GHOST, self.name)
        knobs = tuple(
            Knob(f"structure/{layer}", self.name, (layer,), (WHOLE, value), chains={value: ghost_chain(own)})
            for layer, own in ghostable(graph).items()
            if sum(map(macs, ghost_chain(own).nodes)) < macs(own)
        )
        if not knobs:
            raise NoEffectError(f"{self.name} found no convolution that is cheaper with half of its channels computed")
        return knobs


def ghostable(graph: NetworkGraph) -> dict[str, Node]:
    """Layer -> its node, of the convolutions that a Ghost layer may replace."""
    ends = first_and_last(graph)
    nodes = {layer: graph.nodes[graph.layers[layer]] for layer in replaceable(graph) if layer not in ends}
    return {layer: own for layer, own in nodes.items() if _halves(own)}


def _halves(own: Node) -> bool:
    return own.kind == "conv" and len(own.units) % RATIO == 0 and len(own.shape) == 4 and own.shape[2] > 1


def ghost_chain(own: Node) -> LayerChain:
    assert own.weight_shape is not None
    outputs, inputs, *kernel = own.weight_shape
    half, reach = outputs // RATIO, SIZE // 2
    first = in_chain(own, "ghost", f"{GHOST}_primary", half, (half, inputs, *kernel))
    first = replace(first, attributes=replace(first.attributes, narrowing=Narrowing(1 / RATIO)))
    last = in_chain(own, "ghost", f"{GHOST}_cheap", outputs, (outputs, 1, SIZE, SIZE))
    window = Convolution((SIZE, SIZE), (1, 1), (reach, reach, reach, reach), groups=half)
    return LayerChain((first, as_last(last, own, window)), sparse=False, multiple=RATIO)
