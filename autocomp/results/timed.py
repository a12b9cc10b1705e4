"""Milliseconds that were measured of a front's points. In a budget they count in place of the predicted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autocomp.hardware_models import Cost
from autocomp.search_spaces import Plan

from .point import Point

FEWEST = 3  # measured points from which those that were not measured are corrected


class Timed:
    """Of plans, the milliseconds of their file and those of the float network's, which ran in turns.

    Runs in turns see the same machine; a share of the float network's latency is formed of these two alone. Points that
    were not measured are expected to be as much slower or faster than predicted as the measured ones in the median.

    measured: by the plan's key: both, and the share that was predicted.
    """

    def __init__(self, measured: Mapping[str, Sequence[float]] | None = None) -> None:
        rows = (measured or {}).items()
        self.measured = {key: (float(own), float(whole), float(share)) for key, (own, whole, share) in rows}

    def __contains__(self, plan: Plan) -> bool:
        return plan.key in self.measured

    def add(self, point: Point, own_ms: float, float_ms: float) -> None:
        self.measured[point.plan.key] = (own_ms, float_ms, point.ratio("latency"))

    @property
    def float_ms(self) -> float:
        return float(np.median([whole for _, whole, _ in self.measured.values()]))

    def costs(self, point: Point, of_float: Point) -> tuple[Cost, Cost]:
        """The costs of the point and of the float network for a budget."""
        if point.plan in self:
            own, whole, _ = self.measured[point.plan.key]
        elif len(self.measured) < FEWEST:
            return point.cost, of_float.cost
        else:
            whole = self.float_ms
            own = whole if point.is_float else whole * point.ratio("latency") * self._slower
        return replace(point.cost, latency_ms=own), replace(of_float.cost, latency_ms=whole)

    @property
    def _slower(self) -> float:
        """How many times as long as predicted the measured points take, as shares of the float network."""
        found = [own / whole / share for own, whole, share in self.measured.values() if share > 0]
        return float(np.median(found)) if found else 1.0
