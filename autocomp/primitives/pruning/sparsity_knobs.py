"""Knobs for 2:4 sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.numerics.semi_structured import FOUR
from autocomp.search_spaces import DENSE, SPARSE, Format, Knob, NetworkGraph, Node


class SparsityKnobs:
    """A knob for each layer that reads a multiple of four channels: dense, or with two zeros in every four weights.

    The zeros lie along the input channels, as NVIDIA's sparse tensor cores read them. Weights are not trained for them:
    :mod:`autocomp.primitives.numerics.semi_structured` chooses the zeros and moves the weights that stay. A device
    gains from them only where its file says how fast it multiplies them (``sparse_share``).
    """

    name = "sparsity"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        layers = [layer for layer, i in graph.layers.items() if takes_two_of_four(graph.nodes[i])]
        if not layers:
            raise NoEffectError(f"{self.name} found no layer that reads a multiple of {FOUR} channels")
        return tuple(Knob(f"sparsity/{layer}", self.name, (layer,), (DENSE, SPARSE)) for layer in layers)


def takes_two_of_four(node: Node) -> bool:
    return node.weight_shape is not None and not node.transposed and node.weight_shape[1] % FOUR == 0
