"""Rounding to nearest (RTN): fewer bits for a layer's weights and inputs, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import NoEffectError
from ..search_spaces import Format, Knob, NetworkGraph
from .reconstruction import Moments


class RTN:
    """A knob for each conv and dense layer: the formats that the device offers.

    Weights per output channel, symmetric; inputs per tensor, asymmetric, with calibrated ranges
    (:mod:`autocomp.primitives.quantizers`).
    """

    name = "rtn"

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        granularity: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        values = tuple(dict.fromkeys(["float", *map(str, formats)]))
        if not graph.layers:
            raise NoEffectError("rtn found no nn.Conv2d and no nn.Dense whose weight it could round")
        return tuple(Knob(f"format/{layer}", self.name, (layer,), values) for layer in graph.layers)
