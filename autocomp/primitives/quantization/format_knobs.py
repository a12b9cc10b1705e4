"""Knobs for the number formats of layers, for every algorithm that rounds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.search_spaces import FLOAT_BITS, Format, Knob, NetworkGraph

TABLE_BITS = (8, 4)  # in which rows of a table can be read as they are stored
LEAST_BITS = 2  # of a weight whose levels are even steps around zero


@dataclass(frozen=True)
class TrainedFormats:
    """A quantizer as a part of the search space: a knob for each layer, with the formats that it supports.

    One that trains is evaluated first with weights that are rounded without training. This ranks plans;
    ``algorithm`` then trains those that a search chooses, where there are samples to train on.

    name: of the primitive; its module in this package, which is loaded when the algorithm is needed, is ``module`` or
        has the same name, and defines ``class_name``.
    least_bits, most_bits: of a weight. trains: whether it needs training. low_bits: whether it is also offered formats
        of 1 and 2 bits that a device's file does not list, where files store them in as many.
    """

    name: str
    class_name: str
    most_bits: int = 8
    trains: bool = True
    least_bits: int = LEAST_BITS
    low_bits: bool = False
    module: str = ""

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        reached = [f for f in formats if f.weight_bits <= self.most_bits or f.weight_bits == FLOAT_BITS]
        return format_knobs(self.name, list(graph.layers), reached, self.least_bits)

    def algorithm(self, **settings: Any) -> Any:
        """:class:`LSQ` or another quantizer, with its own settings."""
        load_mindspore()  # before a module imports it without its settings
        return getattr(import_module(f".{self.module or self.name}", __package__), self.class_name)(**settings)


def table_knobs(name: str, graph: NetworkGraph, formats: Sequence[Format]) -> tuple[Knob, ...]:
    """A knob for each embedding, with formats of weights alone: it reads positions. Two integers of 4 bits share a
    byte of a row, so that its width must be even."""
    offered = {some.weight_bits for some in formats}
    found = []
    for path, i in graph.embeddings.items():
        _, width = graph.nodes[i].table_shape
        values = [str(Format(bits)) for bits in TABLE_BITS if bits in offered and width * bits % 8 == 0]
        found += [Knob(f"format/{path}", name, (path,), ("float", *values))] if values else []
    return tuple(found)


def format_knobs(
    name: str, layers: Sequence[str], formats: Sequence[Format], least_bits: int = LEAST_BITS
) -> tuple[Knob, ...]:
    """NoEffectError where there is no layer, or no format but float."""
    values = tuple(dict.fromkeys(["float", *(str(some) for some in formats if some.weight_bits >= least_bits)]))
    if not layers:
        raise NoEffectError(f"{name} found no nn.Conv2d and no nn.Dense whose weight it could round")
    if len(values) == 1:
        raise NoEffectError(
            f"{name} found no number format that it can reach and the device offers: leave {name} out of primitives, "
            "or give another device"
        )
    return tuple(Knob(f"format/{layer}", name, (layer,), values) for layer in layers)
