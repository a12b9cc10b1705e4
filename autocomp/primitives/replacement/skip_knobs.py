"""Knobs that leave out a block: depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import SKIPPED, WHOLE, Format, Knob, NetworkGraph, carried_out_by


class SkipKnobs:
    """A knob for each block that the identity can stand for: whole, or left out.

    Residual networks are robust to it (Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow
    Networks", NeurIPS 2016), transformers too (Fan et al., "Reducing Transformer Depth on Demand with Structured
    Dropout", ICLR 2020).
    """

    name = "block-skipping"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        if not graph.blocks:
            raise NoEffectError(f"{self.name} found no cell that leads its input past its layers to an addition")
        values = (WHOLE, carried_out_by(SKIPPED, self.name))
        return tuple(Knob(f"skip/{one.name}", self.name, one.layers, values, block=one) for one in graph.blocks)
