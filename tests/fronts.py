"""Records as a study leaves them, with costs that follow the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost
from autocomp.problem.budget import Budget
from autocomp.problem.record import Record
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan

FLOAT = Cost(latency_ms=4.0, memory_mb=40.0, size_mb=1.0, energy_mj=20.0, macs=1e9, params=250_000.0)
FLOAT_ACCURACY = 0.9


def record(
    accuracy: float, latency: float = 1.0, size: float = 1.0, *, name: str = "", budget: str = "", **costs: float
) -> Record:
    """latency and size as shares of the float network's; the plan is named, without a name it is the float network."""
    shares = {"memory_mb": 1.0} | costs
    cost = Cost(4.0 * latency, 40.0 * shares["memory_mb"], 1.0 * size, 20.0 * latency, 1e9 * latency, 250_000.0)
    violation = float(Budget.parse(budget).violation(cost, accuracy, FLOAT, FLOAT_ACCURACY)[0])
    measurement = Measurement(accuracy, "accuracy", 2000, 0.5, 0, "2000 images")
    return Record(Plan({f"format/{name}": "w8a8"} if name else {}), (int(bool(name)),), measurement, cost, violation)


def front(rows: Sequence[Sequence[float]], budget: str = "", **settings: Any) -> ParetoSet:
    """rows: (accuracy, share of latency, share of size) of the plans beside the float network's."""
    records = [record(FLOAT_ACCURACY, budget=budget)]
    records += [record(*row, name=f"layer{i}", budget=budget) for i, row in enumerate(rows, 1)]
    return ParetoSet(records, device=settings.pop("device", "ascend-310p3"), budget=budget, **settings)
