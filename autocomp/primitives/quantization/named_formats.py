"""SmoothQuant, AWQ and GPTQ as choices of a search: values that name them, such as ``"w8a8@smooth-quant"``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.divided_inputs import DIVIDING, takes
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.numerics.scale_takers import shared_inputs
from autocomp.search_spaces import Format, Knob, NetworkGraph

from .format_knobs import TrainedFormats, format_knobs


@dataclass(frozen=True)
class NamedFormats(TrainedFormats):
    """An algorithm without training whose formats are values beside those that a search rounds in its own way.

    It is offered the formats that it is made for: SmoothQuant those in integers, AWQ those of weights alone, GPTQ those
    with weights of few bits. The first two divide inputs: they are offered for dense layers that run once.

    settings: of the algorithm, such as SmoothQuant's migration strength.
    """

    trains: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    named: bool = True

    @property
    def divides(self) -> bool:
        """Whether it divides layers' inputs by scales."""
        return self.name in DIVIDING

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        layers = list(graph.layers)
        if self.divides:
            layers = [layer for shared in shared_inputs(graph) for layer in shared.layers]
            if not layers:
                raise NoEffectError(f"{self.name} found no nn.Dense that runs once, whose input it could divide")
        return format_knobs(self.name, layers, [some for some in formats if takes(self.name, some)])

    def algorithm(self, **settings: Any) -> Any:
        return super().algorithm(**dict(self.settings), **settings)
