"""Knobs for low rank: a layer, or two of lower rank in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import WHOLE, Format, Knob, LayerChain, Narrowing, NetworkGraph, Node, Value, carried_out_by

from .chains import ONE_BY_ONE, as_last, in_chain, macs, replaceable

SHARES = (0.75, 0.5, 0.25, 0.125)  # of the largest rank


class LowRankKnobs:
    """A knob for each dense layer and convolution with one group: whole, or two layers of a share of its rank.

    The first has the kernel and gives ``share * rank`` channels, the second multiplies each pixel. The largest rank is
    that of the layer as it is pruned: its outputs, or the numbers that it reads where these are fewer.
    :mod:`autocomp.primitives.numerics.layer_fits.factorisation` makes their weights. Offered are shares that save
    multiply-accumulates.
    """

    name = "low-rank"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        found = {layer: dict(self._chains(graph.nodes[graph.layers[layer]])) for layer in replaceable(graph)}
        if not any(found.values()):
            raise NoEffectError(f"{self.name} found no layer that is cheaper as a product of two")
        return tuple(
            Knob(f"structure/{layer}", self.name, (layer,), (WHOLE, *chains), chains=chains)
            for layer, chains in found.items()
            if chains
        )

    def _chains(self, own: Node) -> Iterator[tuple[Value, LayerChain]]:
        for share in SHARES:
            chain = low_rank_chain(own, share)
            if sum(map(macs, chain.nodes)) < macs(own):
                yield carried_out_by(f"rank{share:g}", self.name), chain


def low_rank_chain(own: Node, share: float) -> LayerChain:
    """The two layers with this share of the rank of ``own``."""
    assert own.weight_shape is not None
    outputs, inputs, *kernel = own.weight_shape
    narrowing = Narrowing(share, math.prod(kernel))
    rank, name = int(narrowing.channels(inputs, outputs)), f"rank{share:g}".replace(".", "_")
    first = in_chain(own, "product", f"{name}_first", rank, (rank, inputs, *kernel))
    first = replace(first, attributes=replace(first.attributes, narrowing=narrowing))
    last = in_chain(own, "product", f"{name}_last", outputs, (outputs, rank, *[1] * len(kernel)))
    return LayerChain((first, as_last(last, own, None if own.kind == "dense" else ONE_BY_ONE)))
