"""A plan that was solved for and not evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autocomp.hardware_models import Cost
from autocomp.problem.metrics import METRICS
from autocomp.search_spaces import Plan

from .point import ExportReport, Point, percent, points, share, short

if TYPE_CHECKING:
    from autocomp.problem.budget import Budget

    from .stored import StoredRecord

NO_NETWORK = "another budget needs the network that was searched: use autocomp.load(folder, net)"


@dataclass(frozen=True)
class Prediction:
    """What should be the best plan for a budget. It is no point of a front, since nobody has evaluated it.

    accuracy: expected, 0 to 1; it lies between ``low`` and ``high`` with 90 % probability, as far as the evaluations
        tell. Where the best plan is one that was evaluated, all three are what was measured.
    cost: predicted. reference: the float network's point.
    """

    plan: Plan
    accuracy: float
    low: float
    high: float
    cost: Cost = field(hash=False)
    reference: Point = field(compare=False, repr=False)

    @property
    def accuracy_change(self) -> float:
        """Against the float network; -0.01 is one percentage point lost."""
        return self.accuracy - self.reference.accuracy

    def value(self, metric: str) -> float:
        """The predicted cost, by the name that budgets use, in the unit of Cost."""
        return float(getattr(self.cost, METRICS[metric].attribute))

    def ratio(self, metric: str) -> float:
        """The predicted cost as a share of the float network's; 1 where that has none of it."""
        whole = self.reference.value(metric)
        return self.value(metric) / whole if whole > 0 else 1.0

    @property
    def net(self) -> Any:
        """The network as a Cell of its own: channels really gone, weights really in integers."""
        return self.reference.carried_out_by.net(self.plan)

    def export(self, path: str | Path) -> ExportReport:
        """Write the network to ``path`` (.mindir or .onnx), load it again and compare."""
        return self.reference.carried_out_by.export(self.plan, path)

    def summary(self, metrics: Sequence[str] = ("latency", "size")) -> str:
        """One line.

        >>> prediction.summary()
        'w8a8 x12: accuracy 91.2 % predicted (-0.4; 90.6 % to 91.7 %), latency 2.31 ms (46 %), size 310 KB (25 %)'
        """
        change = f"{points(self.accuracy_change)}; {percent(self.low)} to {percent(self.high)}"
        accuracy = f"{self.reference.metric} {percent(self.accuracy)} predicted ({change})"
        costs = [f"{name} {METRICS[name].format(self.value(name))} ({share(self.ratio(name))})" for name in metrics]
        return f"{short(self.plan)}: {', '.join([accuracy, *costs])}"


class Resolver(Protocol):
    """Finds the best plan for a budget without evaluating any; and evaluates one that was found.

    >>> found = resolver.solve(Budget.parse("latency<3ms"), "latency", front.evaluated)
    >>> resolver.evaluate(found.plan, front.float_point)      # what a front makes a point of
    """

    def solve(self, budget: Budget, objective: str, evaluated: Sequence[Point]) -> Prediction:
        """evaluated: the float network among them. objective: the cost to minimise where the accuracy is bounded."""
        ...

    def evaluate(self, plan: Plan) -> StoredRecord: ...

    def stored(self) -> Mapping[str, Any]:
        """For JSON: what it takes to solve again."""
        ...


class StoredResolver:
    """What a front was saved with, where its network is not at hand: it can only be saved again."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self._saved = saved

    def solve(self, budget: Budget, objective: str, evaluated: Sequence[Point]) -> Prediction:
        raise ValueError(NO_NETWORK)

    def evaluate(self, plan: Plan) -> StoredRecord:
        raise ValueError(NO_NETWORK)

    def stored(self) -> Mapping[str, Any]:
        return self._saved
