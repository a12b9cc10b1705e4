"""Finds the best plan for a budget from the scores and the evaluated plans; it needs no further evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from autocomp.errors import BudgetError, EvaluationError
from autocomp.evaluators import Evaluator, Scores
from autocomp.hardware_models import Cost, Device
from autocomp.problem.budget import Budget, check_reachable
from autocomp.problem.cheapest_plans import Costs, cheapest
from autocomp.problem.metrics import METRICS
from autocomp.problem.record import Record
from autocomp.process.blas_threads import one_blas_thread
from autocomp.results.point import NO_SAMPLES, Point
from autocomp.results.prediction import Prediction
from autocomp.samplers import Observations, Solver, fit_surrogate
from autocomp.search_spaces import Plan, SearchSpace
from autocomp.study.ledger import SCORES, Ledger

PRICES = np.geomspace(1e-3, 30.0, 24)  # nats for a cost as high as the float network's
PROBED = 64  # random plans for which a cost must equal the sum over the knobs
ROUNDS = 12  # of improving a plan with the surrogate


class ScoreResolver:
    """A :class:`autocomp.results.prediction.Resolver` for one search.

    scores: measures the scores where the ledger has none.
    evaluator: None where the samples of the search are not at hand.
    ledger: stores new scores and evaluations.
    """

    def __init__(
        self,
        space: SearchSpace,
        costs: Costs,
        device: Device,
        scores: Callable[[], Scores],
        evaluator: Evaluator | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.space, self.costs, self.device = space, costs, device
        self._measure, self._evaluator = scores, evaluator
        self._ledger = ledger if ledger is not None else Ledger(space)

    @cached_property
    def added(self) -> AddedCosts:
        return AddedCosts(self.space, self.costs)

    @cached_property
    def scores(self) -> Scores:
        return self._ledger.scores(self._measure)

    def stored(self) -> Mapping[str, Any]:
        return {"scores": self._ledger.recall(SCORES), "device": self.device.data}

    @one_blas_thread()
    def solve(self, budget: Budget, objective: str, evaluated: Sequence[Point]) -> Prediction:
        """The best predicted plan. BudgetError names the nearest plan, where no plan meets the costs or none is
        predicted to keep the accuracy.

        budget: where it has a confidence, the errors of this device apply.
        """
        question = _Question(self, budget, objective, evaluated)
        of_float = question.of_float.cost
        check_reachable(budget, cheapest(self.space, question.costs, budget, of_float), of_float, self.device.name)
        vector = question.answer()
        found = question.prediction(vector)
        if question.over(vector[None])[0] > 0:
            metrics = tuple(dict.fromkeys((*budget.metrics, objective)))
            raise BudgetError(f"no plan is predicted to meet {budget}: the nearest is {found.summary(metrics)}")
        return found

    def evaluate(self, plan: Plan) -> Record:
        """ValueError where the samples are not at hand, EvaluationError where the plan cannot be evaluated."""
        vector = self.space.encode(plan)
        cost = self.costs(vector[None])[0]
        found = self._ledger.get(plan)
        if found is None:
            if self._evaluator is None:
                raise ValueError(NO_SAMPLES)
            found = self._evaluator.evaluate(plan)
            if math.isnan(found.accuracy):
                raise EvaluationError(f"plan {plan} could not be evaluated: its accuracy is NaN")
            self._ledger.add(plan, found, cost, {})
        return Record(plan, tuple(vector.tolist()), found, cost, 0.0)


def _each(costs: Cost, attribute: str) -> np.ndarray:
    """(n,): one number may stand for all plans."""
    return np.broadcast_to(np.asarray(getattr(costs, attribute), np.float64), (len(costs),))


class AddedCosts:
    """Costs of plans as sums over their knobs, for those costs that are such sums: with formats alone the size is.

    The costs of a few plans then take a small part of the time of the cost model.
    """

    def __init__(self, space: SearchSpace, costs: Costs) -> None:
        self._first = np.cumsum(space.sizes) - space.sizes
        alone = np.zeros((int(space.sizes.sum()), len(space.knobs)), np.int64)
        for k, (first, size) in enumerate(zip(self._first, space.sizes, strict=True)):
            alone[first : first + size, k] = np.arange(size)
        some = space.random(np.random.default_rng(0), PROBED)
        probed = costs(np.concatenate([alone, some]))
        self._plain = costs(np.zeros((1, len(space.knobs)), np.int64))[0]
        self._steps = {
            metric.attribute: _each(probed, metric.attribute)[: len(alone)] - getattr(self._plain, metric.attribute)
            for metric in METRICS.values()
        }
        sums, rest = self(some), slice(len(alone), None)
        pairs = {
            name: (getattr(sums, metric.attribute), _each(probed, metric.attribute)[rest])
            for name, metric in METRICS.items()
        }
        self.metrics = frozenset(name for name, pair in pairs.items() if np.allclose(*pair, rtol=1e-9, atol=0))

    def __call__(self, vectors: np.ndarray) -> Cost:
        """The costs of the plans; those named in ``metrics`` are exact for every plan."""
        rows = self._first + vectors
        return Cost(**{name: getattr(self._plain, name) + step[rows].sum(1) for name, step in self._steps.items()})


class _Question:
    """One budget, with the observations and the surrogate for it."""

    def __init__(self, asked: ScoreResolver, budget: Budget, objective: str, evaluated: Sequence[Point]) -> None:
        self.asked, self.budget, self.objective = asked, budget, objective
        self.of_float = next(point for point in evaluated if point.is_float)
        self.vectors = np.array([point.vector for point in evaluated], np.int64)
        self.accuracies = np.array([point.accuracy for point in evaluated])
        self.measured = dict(zip(map(bytes, self.vectors.astype(np.int16)), self.accuracies, strict=True))
        added = set(self.metrics) <= asked.added.metrics
        self.costs: Costs = asked.added if added else asked.costs
        observed = Observations.of(self.vectors, self.shares(self.vectors), self.accuracies)
        self.surrogate = fit_surrogate(asked.scores, observed, self.of_float.accuracy)

    def answer(self) -> np.ndarray:
        """(knobs,): with a bound on the accuracy the cheapest plan, else the most accurate one.

        Plans are solved for with the scores; the surrogate chooses among them and improves the choice.
        """
        space, scores = self.asked.space, self.asked.scores
        solver = Solver(space, scores, self.shares, self.constraint_violation)
        if self.budget.bounds_accuracy:
            starts = np.zeros((len(PRICES), len(space.knobs)), np.int64)
            weights = np.zeros((len(PRICES), len(self.metrics)))
            weights[:, self.metrics.index(self.objective)] = PRICES
            solved = solver.descend(starts, weights)
            final = Solver(space, self.objective_share, self.shares, self.over)
        else:
            solved = solver.finalists(len(self.metrics))
            final = Solver(space, self.losses, self.shares, self.constraint_violation)
        return final.improve(final.best(np.concatenate([solved, self.vectors])), ROUNDS)

    def prediction(self, vector: np.ndarray) -> Prediction:
        accuracy, of_float = float(self.expected(vector[None])[0]), self.of_float.accuracy
        low = high = accuracy
        if vector.astype(np.int16).tobytes() not in self.measured:
            least, most = self.surrogate.predict(vector[None]).interval()
            low, high = (float(np.clip(of_float - loss[0], 0, 1)) for loss in (most, least))
        cost = self.asked.costs(vector[None])[0]
        return Prediction(self.asked.space.decode(vector), accuracy, low, high, cost, self.of_float)

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The costs in the solver's objective: the bounded ones and, where the accuracy is bounded, the objective."""
        bounded = self.budget.metrics
        return tuple(dict.fromkeys((*bounded, self.objective))) if self.budget.bounds_accuracy else bounded

    def shares(self, vectors: np.ndarray) -> np.ndarray:
        """(n, metrics): costs as shares of the float network's."""
        costs = self.costs(vectors)
        whole = [max(self.of_float.value(name), 1e-12) for name in self.metrics]
        columns = [getattr(costs, METRICS[name].attribute) for name in self.metrics]
        return np.stack([column / most for column, most in zip(columns, whole, strict=True)], axis=1)

    def objective_share(self, vectors: np.ndarray) -> np.ndarray:
        return self.shares(vectors)[:, self.metrics.index(self.objective)]

    def constraint_violation(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): the violation of the bounds on costs."""
        return self.budget.violation(self.costs(vectors), None, self.of_float.cost, self.of_float.accuracy)

    def over(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): the violation of all bounds, with the expected accuracy."""
        expected, of_float = self.expected(vectors), self.of_float
        return self.budget.violation(self.costs(vectors), expected, of_float.cost, of_float.accuracy)

    def losses(self, vectors: np.ndarray) -> np.ndarray:
        return self.of_float.accuracy - self.expected(vectors)

    def expected(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): accuracies, measured ones where the plan was evaluated, otherwise predicted."""
        losses = self.surrogate.predict(vectors).losses().mean(1)
        found = np.clip(self.of_float.accuracy - losses, 0, 1)
        for i, row in enumerate(np.ascontiguousarray(vectors, np.int16)):
            found[i] = self.measured.get(row.tobytes(), found[i])
        return found
