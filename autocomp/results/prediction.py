"""A predicted plan, which was solved for and not evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autocomp.hardware_models import Cost
from autocomp.problem.arguments import RULES
from autocomp.problem.budget import Budget
from autocomp.problem.metrics import METRICS, shown, shown_change
from autocomp.problem.record import Record
from autocomp.rules import checked
from autocomp.search_spaces import Plan

from .point import ExportReport, Point
from .wording import share, short

NO_NETWORK = "another budget needs the network that was searched: use autocomp.load(folder, net)"


@dataclass(frozen=True)
class Prediction:
    """The best predicted plan for a budget. It is no point of a front, since it was not evaluated.

    accuracy: expected, 0 to 1; according to the surrogate it lies between ``low`` and ``high`` with 90 % probability.
        Where the best plan is an evaluated one, all three are the measured accuracy.
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
        """The difference to the float network's accuracy; -0.01 is one percentage point lost."""
        return self.accuracy - self.reference.accuracy

    @checked(RULES["value"])
    def value(self, metric: str) -> float:
        """The predicted cost in the unit of Cost; ``metric`` is its name in budgets."""
        return float(getattr(self.cost, METRICS[metric].attribute))

    @checked(RULES["value"])
    def ratio(self, metric: str) -> float:
        """The predicted cost as a share of the float network's; 1 where the float network's is 0."""
        whole = self.reference.value(metric)
        return self.value(metric) / whole if whole > 0 else 1.0

    @property
    def net(self) -> Any:
        """The network as a Cell of its own: pruned channels are removed, weights are integers."""
        return self.reference.applied_by.net(self.plan)

    @checked(RULES["export"])
    def export(self, path: str | Path, form: str | None = None, check_accuracy: bool = True) -> ExportReport:
        """Write the network to ``path`` (.mindir or .onnx), load it again and compare; form: as of a point.

        check_accuracy: whether an ONNX file's accuracy is measured, where the samples of the search have labels.
        """
        return self.reference.applied_by.export(self.plan, path, form, check_accuracy)

    @checked(RULES["summary"])
    def summary(self, metrics: Sequence[str] = ("latency", "size")) -> str:
        """One line.

        >>> prediction.summary()
        'w8a8 x12: accuracy 91.2 % predicted (-0.4; 90.6 % to 91.7 %), latency 2.31 ms (46 %), size 310 KB (25 %)'
        """
        scale = self.reference.scale
        low, high = sorted((self.low, self.high), reverse=scale > 0)
        change = f"{shown_change(self.accuracy_change, scale)}; {shown(low, scale)} to {shown(high, scale)}"
        accuracy = f"{self.reference.metric} {shown(self.accuracy, scale)} predicted ({change})"
        costs = [f"{name} {METRICS[name].format(self.value(name))} ({share(self.ratio(name))})" for name in metrics]
        return f"{short(self.plan)}: {', '.join([accuracy, *costs])}"


class Resolver(Protocol):
    """Finds the best predicted plan for a budget without an evaluation, and evaluates a plan.

    >>> found = resolver.solve(Budget.parse("latency<3ms"), "latency", front.evaluated)
    >>> resolver.evaluate(found.plan)      # a record, from which the front makes a point
    """

    def solve(self, budget: Budget, objective: str, evaluated: Sequence[Point]) -> Prediction:
        """evaluated: includes the float network. objective: the cost to minimise where the accuracy is bounded."""
        ...

    def evaluate(self, plan: Plan) -> Record: ...

    def stored(self) -> Mapping[str, Any]:
        """For JSON: everything that is needed to solve again."""
        ...


class StoredResolver:
    """The stored data of a resolver, for a front without its network: it can only be saved again."""

    def __init__(self, saved: Mapping[str, Any]) -> None:
        self._saved = saved

    def solve(self, budget: Budget, objective: str, evaluated: Sequence[Point]) -> Prediction:
        raise ValueError(NO_NETWORK)

    def evaluate(self, plan: Plan) -> Record:
        raise ValueError(NO_NETWORK)

    def stored(self) -> Mapping[str, Any]:
        return self._saved
