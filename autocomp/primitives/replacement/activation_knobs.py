"""Knobs that put a ReLU in the place of another activation, since runtimes compute it within the layer before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import KEPT, RELU, Format, Knob, NetworkGraph, carried_out_by, replaceable_activations


class ActivationKnobs:
    """A knob for each activation that a ReLU can stand for: kept, or the ReLU.

    MobileNetV3 has the slower function in its deep half alone, since it pays there more than before (Howard et al.,
    "Searching for MobileNetV3", ICCV 2019, section 5.2): where it pays is a question for a search.
    """

    name = "activations"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        values = (KEPT, carried_out_by(RELU, self.name))
        found = tuple(
            Knob(f"activation/{one.name}", self.name, one.layers, values, activation=one)
            for one in replaceable_activations(graph)
        )
        if not found:
            raise NoEffectError(
                f"{self.name} found no HSwish, SiLU, GELU, Mish, Softplus, ELU or LeakyReLU, a cell that runs once "
                "behind a layer"
            )
        return found
