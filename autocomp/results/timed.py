"""Milliseconds that were measured of a front's points. In a budget they count in place of the predicted ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

    measured: by the plan's key.
    """

    def __init__(self, measured: Mapping[str, Sequence[float]] | None = None) -> None:
        self.measured = {key: (float(own), float(whole)) for key, (own, whole) in (measured or {}).items()}

    def __contains__(self, plan: Plan) -> bool:
        return plan.key in self.measured

    def add(self, plan: Plan, own_ms: float, float_ms: float) -> None:
        self.measured[plan.key] = (own_ms, float_ms)

    @property
    def float_ms(self) -> float:
        return float(np.median([whole for _, whole in self.measured.values()]))

    def costs(self, point: Point, of_float: Point, points: Iterable[Point]) -> tuple[Cost, Cost]:
        """The costs of the point and of the float network for a budget. points: all that may have been measured."""
        if point.plan in self:
            own, whole = self.measured[point.plan.key]
        elif len(self.measured) < FEWEST:
            return point.cost, of_float.cost
        else:
            whole = self.float_ms
            own = whole if point.is_float else whole * point.ratio("latency") * self._slower(points)
        return replace(point.cost, latency_ms=own), replace(of_float.cost, latency_ms=whole)

    def _slower(self, points: Iterable[Point]) -> float:
        """How many times as long as predicted the measured points take, as shares of the float network."""
        shares = {point.plan.key: point.ratio("latency") for point in points if point.plan in self}
        pairs = ((self.measured[key], share) for key, share in shares.items() if share > 0)
        found = [own / whole / share for (own, whole), share in pairs]
        return float(np.median(found)) if found else 1.0
