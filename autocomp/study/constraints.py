"""Compares plans with the budget: by their costs alone, and with their accuracy once they are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from autocomp.problem.budget import ACCURACY, Budget, Errors
from autocomp.problem.metrics import METRICS
from autocomp.samplers import Outcome, Vector

if TYPE_CHECKING:
    from autocomp.evaluators import Measurement
    from autocomp.hardware_models import Cost


class ConstraintEvaluator:
    """The budget's constraints and the objectives of one search, for its plans.

    costs: gives the costs of vectors, (n, knobs) int. objectives: names of the costs to minimise.
    float_accuracy: the float network's accuracy, None until it is evaluated.
    """

    def __init__(
        self, costs: Callable[[np.ndarray], Cost], knobs: int, objectives: Sequence[str], budget: Budget
    ) -> None:
        self._costs, self.budget = costs, budget
        self._attributes = [METRICS[name].attribute for name in objectives]
        self.float_cost = costs(np.zeros((1, knobs), np.int64))[0]
        self.float_accuracy: float | None = None

    @property
    def min_accuracy(self) -> float | None:
        """The least accuracy that the budget allows; None where it bounds no accuracy."""
        bounds = [bound for bound in self.budget.bounds if bound.metric == ACCURACY]
        return max((bound.limit(self.float_cost, self.float_accuracy) for bound in bounds), default=None)

    def objective_costs(self, vectors: np.ndarray) -> np.ndarray:
        """(n, objectives): the costs to minimise."""
        costs = self._costs(vectors)
        return np.stack([getattr(costs, name) for name in self._attributes], axis=1)

    def constraint_violation(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): how far the costs exceed the budget; 0 or less where they meet it."""
        return self.budget.violation(self._costs(vectors), None, self.float_cost, self.float_accuracy)

    def violations(self, cost: Cost, found: Measurement) -> tuple[float, ...]:
        """The violation of each bound; the float network's own accuracy is its reference."""
        known = found.accuracy if self.float_accuracy is None else self.float_accuracy
        change_error = 0.0 if self.float_accuracy is None else found.change_error
        errors = Errors.of(change_error, found.accuracy_error)
        return tuple(self.budget.violations(cost, found.accuracy, self.float_cost, known, errors)[0].tolist())

    def outcome(self, vector: Vector, cost: Cost, found: Measurement) -> Outcome:
        return Outcome(vector, (-found.accuracy, *self._values(cost)), self.violations(cost, found))

    def screen(self, vectors: np.ndarray) -> list[Outcome | None]:
        """The outcome of each plan that the budget rejects for its cost alone, else None."""
        costs = self._costs(vectors)
        known = self.budget.violations(costs, None, self.float_cost, self.float_accuracy)
        # Its accuracy is unknown. If it were assumed to meet the bounds, a plan slightly too costly would seem better
        # than an evaluated plan that lost too much accuracy, and samplers would propose more such plans.
        worst = self.budget.violations(costs, np.zeros(len(vectors)), self.float_cost, self.float_accuracy)
        outcomes: list[Outcome | None] = [None] * len(vectors)
        for i in np.flatnonzero((known > 0).any(axis=1)):
            vector = tuple(int(choice) for choice in vectors[i])
            outcomes[i] = Outcome(vector, (0.0, *self._values(costs[i])), tuple(worst[i].tolist()))
        return outcomes

    def _values(self, cost: Cost) -> tuple[float, ...]:
        return tuple(float(getattr(cost, name)) for name in self._attributes)
