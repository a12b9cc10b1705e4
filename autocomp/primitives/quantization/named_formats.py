"""SmoothQuant, outlier suppression, AWQ and GPTQ as choices of a search: values such as ``"w8a8@smooth-quant"``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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

    It is offered the formats that it is made for: SmoothQuant and outlier suppression those in integers, AWQ those of
    weights alone, GPTQ those with weights of few bits. All but GPTQ divide inputs: they are offered for dense layers
    that run once.

    settings: of the algorithm, such as SmoothQuant's migration strength. in_groups: whether it is also offered the
        device's formats with a scale for each group of inputs, for dense layers that have a multiple of so many.
    """

    trains: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    named: bool = True
    in_groups: bool = False

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
        able = [some for some in formats if takes(self.name, some)]
        found = format_knobs(self.name, layers, able)
        return tuple(one for knob in found if (one := _whole_groups(graph, knob)) is not None)

    def algorithm(self, **settings: Any) -> Any:
        return super().algorithm(**dict(self.settings), **settings)


def _whole_groups(graph: NetworkGraph, knob: Knob) -> Knob | None:
    """The knob without groups that do not divide the layer's inputs; None where only float is left."""
    node = graph.nodes[graph.layers[knob.layers[0]]]
    inputs = node.weight_shape[1] if node.kind == "dense" and node.weight_shape is not None else 0
    fits = [not some.group or (inputs > some.group and inputs % some.group == 0) for some in knob.formats]
    values = tuple(value for value, fit in zip(knob.values, fits, strict=True) if fit)
    return replace(knob, values=values) if len(values) > 1 else None
