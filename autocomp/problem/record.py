"""The record of one evaluated plan."""

from __future__ import annotations

from dataclasses import dataclass

from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost
from autocomp.search_spaces import Plan


@dataclass(frozen=True)
class Record:
    """An evaluated plan.

    vector: the plan as its search space encodes it. violation: of the budget, 0 or less where all bounds hold.
    """

    plan: Plan
    vector: tuple[int, ...]
    measurement: Measurement
    cost: Cost
    violation: float
