"""Channel pruning in the order of an importance: the same cuts as channel-pruning, other units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import Format, Knob, NetworkGraph

from .channel_pruning import carried_out, keep_step, keep_values
from .importance import OF_WEIGHTS, norms

RATES = {name.replace("_", "-"): measure for name, measure in OF_WEIGHTS.items()} | {"unipruning": norms}


@dataclass(frozen=True)
class RatedPruning:
    """A knob for each channel group: the share of its units that stays, the most important ones by one measure.

    name: registered name: that of a measure in :mod:`autocomp.primitives.pruning.importance`, "scop" or "unipruning".
    importance: (units,), of a measure that needs samples with labels; None before it is measured
        (:func:`autocomp.primitives.pruning.measured_importance.measured_importance`).
    """

    name: str
    importance: np.ndarray | None = None

    @property
    def needs_labels(self) -> bool:
        return self.name not in RATES

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        """NoEffectError where there is no group to cut, or the importance was not measured."""
        if self.needs_labels and self.importance is None:
            raise NoEffectError(
                f"{self.name} rates channels by the loss of labelled samples: give data=autocomp.Data(train=(x, y))"
            )
        importance = self.importance
        if importance is None:
            importance = RATES[self.name](graph, parameters) if graph.channel_groups else np.empty(0)
        knobs = []
        for group in graph.channel_groups:
            step = keep_step(group, channel_divisor)
            values = carried_out(keep_values(group, step), self.name)
            rated = importance[group.start : group.stop]
            if len(values) > 1 and np.isfinite(rated).any():
                order = np.argsort(-rated, kind="stable")
                knobs.append(Knob(f"keep/{group.name}", self.name, group.layers, values, group, order, step))
        if not knobs:
            raise NoEffectError(
                f"{self.name} found no channel group with more than {channel_divisor} channels that it can rate"
            )
        return tuple(knobs)
