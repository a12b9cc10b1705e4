"""The front is solved first, from scores and costs; evaluations are spent where they are expected to move it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autocomp.evaluators import Scores
from autocomp.search_spaces import SearchSpace

from .base import Outcome, Problem
from .frontier_solver import Solver, directions
from .frontier_surrogate import Prediction, Surrogate
from .hypervolume_improvement import ExpectedHypervolumeImprovement
from .observations import Observations, distinct, fit_surrogate, rows
from .registry import register
from .uniform import spread, uniform_plans

ENUMERABLE = 6000  # plans of a space that is looked at as a whole
STARTS = 24  # descents the first time, fewer from then on: what they found stays
CLIMBS, CLIMBERS = 2, 8  # rounds of looking around the most promising plans, and how many
AROUND = 2048  # plans around those, about
LATE, AROUND_LATE = 1000, 512  # evaluations after which there is one round, and fewer plans around
SHORTLIST = 64  # plans among which a batch is chosen
CELLS = 20  # of each cost of the float network, from all of which plans come into question
FOCUS = 0.05  # accuracy lost, within which every other plan must lie
EXPLORED = 8  # one plan in so many is chosen with doubled doubt


@register("frontier")
class FrontierSampler:
    """Additive scores give the front; what was evaluated corrects them; the next batch is what should add most to it.

    In each round it solves the predicted front for random prices of the objectives (:class:`Solver`), looks around
    its best plans and those evaluated, and takes one after the other the plan with the largest expected hypervolume
    improvement (:class:`Gain`) under its surrogate (:class:`Surrogate`), believing what it predicts for the plans
    that it has taken. A plan counts what it adds above the budget's least accuracy, every other one only what it adds
    less than 5 points below the float network: there the front is used.

    Without scores it starts from the rank of each value and learns the rest.
    """

    def __init__(self, problem: Problem) -> None:
        if problem.costs is None:
            raise ValueError("the sampler 'frontier' needs the costs of plans, but the problem has none")
        self._problem, self._space = problem, problem.space
        self._of_float = np.maximum(problem.costs(np.zeros((1, len(self._space.knobs)), np.int64))[0], 1e-12)
        self._observed = Observations(len(self._space.knobs), len(self._of_float))
        self._pending: dict[bytes, np.ndarray] = {}
        self._spent: set[bytes] = set()  # proposed or known: not proposed again
        self._solved = np.empty((0, len(self._space.knobs)), np.int64)
        self._asked = 0
        self._surrogate: Surrogate | None = None
        self._scores: Scores | None = None

    def ask(self, count: int) -> list[np.ndarray]:
        self._asked += 1
        if self._asked == 1 and (formats := self._formats()[:count]):
            return self._proposed(formats)
        rng = np.random.default_rng([self._problem.seed, self._asked])
        surrogate = self._learn()
        pool = self._pool(rng, surrogate)
        if not len(pool):  # all around what was solved is known: what is left lies anywhere, or nowhere
            return [] if self._enumerable else list(self._space.random(rng, count))
        return self._proposed([pool[i] for i in self._choose(pool, surrogate, count)])

    def _proposed(self, chosen: list[np.ndarray]) -> list[np.ndarray]:
        for row, vector in zip(rows(np.array(chosen).reshape(-1, len(self._space.knobs))), chosen, strict=True):
            self._pending[row] = vector
            self._spent.add(row)
        return [np.array(vector, np.int64) for vector in chosen]

    def _formats(self) -> list[np.ndarray]:
        """Each format in all layers, where the budget allows it: evaluated first, in case scores mislead.

        They need no scores: a search that is stopped while these are measured has found something.
        """
        plans = []
        knobs = self._space.knobs
        for value in dict.fromkeys(value for knob in knobs if knob.kind == "format" for value in knob.values[1:]):
            plan = [knob.index(value) if knob.kind == "format" and value in knob.values else 0 for knob in knobs]
            vector = np.array(plan, np.int64)
            if rows(vector[None])[0] not in self._spent and self._constraint_violation(vector[None])[0] <= 0:
                plans.append(vector)
        return plans

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        vectors = np.array([outcome.vector for outcome in outcomes], np.int64)
        for row in rows(vectors):
            self._pending.pop(row, None)
            self._spent.add(row)
        # What was turned down for its costs was not evaluated: its accuracy is no observation. The float network was,
        # whatever the budget, and all losses are counted from it.
        found = {i: -outcome.values[0] for i, outcome in enumerate(outcomes) if outcome.values is not None}
        seen = [i for i in np.flatnonzero((self._constraint_violation(vectors) <= 0) | ~vectors.any(1)) if i in found]
        if seen:
            self._observed.add(vectors[seen], self._costs(vectors[seen]), np.array([found[i] for i in seen]))

    # What is known ----------------------------------------------------------------------------------------------------

    @property
    def scores(self) -> Scores:
        if self._scores is None:
            given = self._problem.scores
            self._scores = given() if given is not None else ranked(self._space)
        return self._scores

    @property
    def _float_accuracy(self) -> float:
        found = self._observed.of_float
        return float(self._observed.accuracies.max(initial=0.0) or 1.0) if found is None else found

    @property
    def _min_accuracy(self) -> float:
        return min(max(self._problem.min_accuracy or 0.0, 0.0), self._float_accuracy)

    @property
    def _enumerable(self) -> bool:
        return 10**self._space.log10_size <= ENUMERABLE

    def _costs(self, vectors: np.ndarray) -> np.ndarray:
        """(n, objectives) as shares of the float network's."""
        assert self._problem.costs is not None
        return np.asarray(self._problem.costs(vectors) / self._of_float)

    def _constraint_violation(self, vectors: np.ndarray) -> np.ndarray:
        return (
            np.zeros(len(vectors))
            if self._problem.constraint_violation is None
            else self._problem.constraint_violation(vectors)
        )

    def _learn(self) -> Surrogate:
        if not len(self._observed):
            return Surrogate(self.scores)
        self._surrogate = fit_surrogate(self.scores, self._observed, self._float_accuracy, self._surrogate)
        return self._surrogate

    # What could be proposed -------------------------------------------------------------------------------------------

    def _pool(self, rng: np.random.Generator, surrogate: Surrogate) -> np.ndarray:
        if self._enumerable:
            return self._new(_all(self._space))
        solver = Solver(self._space, self.scores, self._costs, self._constraint_violation)
        starts = self._starts(rng)
        if len(starts):
            solved = solver.descend(starts, directions(rng, len(starts), self._problem.objectives - 1))
            self._solved = distinct(np.concatenate([self._solved, solved]))
        pool = self._solved
        late = len(self._observed) >= LATE
        climbers = int(np.clip((AROUND_LATE if late else AROUND) // self._space.sizes.sum(), 1, CLIMBERS))
        gains = self._gains()
        for _ in range(1 if late else CLIMBS):
            best = self._promising(pool, surrogate, gains, climbers)
            changed = solver.neighbours(best).reshape(-1, len(self._space.knobs))
            pool = distinct(np.concatenate([pool, changed, _crossed(rng, best)]))
            pool = self._promising(self._new(pool), surrogate, gains, SHORTLIST)
        return pool

    def _starts(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform plans, evaluated ones, random ones; fewer each time, since what was solved stays."""
        count = STARTS // self._asked or 2 * (self._asked % 16 == 0)
        uniform = spread(uniform_plans(self._space), self._space.sizes)[: count // 4]
        near = np.argsort(self._observed.below, kind="stable")[: 2 * STARTS]
        evaluated = self._observed.vectors[rng.permutation(near)[: count // 2]]
        more = self._space.random(rng, count - len(uniform) - len(evaluated))
        return np.concatenate([uniform, evaluated, more])

    def _promising(
        self, pool: np.ndarray, surrogate: Surrogate, gains: Sequence[ExpectedHypervolumeImprovement], count: int
    ) -> np.ndarray:
        """The plans with the largest gains, ``count`` for each kind of gain, from all over the costs.

        Around the best plan are many nearly as good, and when one of them is taken the others add nothing any more.
        """
        costs, accuracies = self._costs(pool), self._accuracies(surrogate.predict(pool))
        cells = np.unique((costs * CELLS).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
        best = [spread_out(gain(costs, accuracies), cells, count) for gain in gains]
        return np.asarray(pool[np.unique(np.concatenate(best))], np.int64)

    def _new(self, pool: np.ndarray) -> np.ndarray:
        """Those that were not proposed and are allowed."""
        fresh = np.array([row not in self._spent for row in rows(pool)], bool)
        return pool[fresh][self._constraint_violation(pool[fresh]) <= 0]

    # What is proposed -------------------------------------------------------------------------------------------------

    def _choose(self, pool: np.ndarray, surrogate: Surrogate, count: int) -> list[int]:
        """Positions in the pool, one after the other; what was asked for and not yet told counts as chosen before."""
        pending = np.array(list(self._pending.values()), np.int64).reshape(-1, pool.shape[1])
        pool = np.concatenate([pool, pending])
        costs, prediction = self._costs(pool), surrogate.predict(pool)
        expected = self._accuracies(prediction).mean(1)
        left, gains = np.ones(len(pool), bool), self._gains()
        chosen: list[int] = []
        for number in range(min(count + len(pending), len(pool))):
            if number < len(pending):
                best = len(pool) - len(pending) + number
            else:
                best = self._best(costs, prediction, gains, left, len(self._spent) + len(chosen))
                chosen.append(best)
            left[best] = False
            prediction.expect(best)
            for gain in gains:
                gain.add(costs[best], expected[best])
        return chosen

    def _best(
        self,
        costs: np.ndarray,
        prediction: Prediction,
        gains: Sequence[ExpectedHypervolumeImprovement],
        left: np.ndarray,
        number: int,
    ) -> int:
        spread = 2.0 if number % EXPLORED == EXPLORED - 1 else 1.0
        accuracies = self._accuracies(prediction, spread)
        # Where nothing is expected to add to this gain, to the other; else what comes nearest to the front.
        for gain in (gains[number % 2], gains[1 - number % 2]):
            worth = np.where(left, gain(costs, accuracies), -np.inf)
            if worth.max() > 0:
                return int(worth.argmax())
        return int(np.where(left, accuracies.mean(1) - costs.mean(1), -np.inf).argmax())

    def _accuracies(self, prediction: Prediction, spread: float = 1.0) -> np.ndarray:
        """(n, 8): equally likely."""
        return np.maximum(self._float_accuracy - prediction.losses(spread), 0)

    def _gains(self) -> tuple[ExpectedHypervolumeImprovement, ExpectedHypervolumeImprovement]:
        """Counted from the budget's floor, and from a little below the float network's accuracy."""
        front = self._observed.below <= 0
        costs, accuracies = self._observed.costs[front], self._observed.accuracies[front]
        min_accuracies = (self._min_accuracy, max(self._min_accuracy, self._float_accuracy - FOCUS))
        return ExpectedHypervolumeImprovement(costs, accuracies, min_accuracies[0]), ExpectedHypervolumeImprovement(
            costs, accuracies, min_accuracies[1]
        )


def spread_out(worth: np.ndarray, cells: np.ndarray, count: int) -> np.ndarray:
    """Positions, at most ``count``, of the best of every cell, then of every second best, and so on."""
    order = np.lexsort((-worth, cells))
    first = np.searchsorted(cells[order], cells[order])
    place = np.arange(len(order)) - first  # within the cell
    return order[np.lexsort((-worth[order], place))][:count]


def ranked(space: SearchSpace) -> Scores:
    """Where nothing is known of the values: the square of their rank, the strongest of a knob 0.1 nats."""
    return Scores(tuple(tuple((0.1 * (np.arange(n) / max(n - 1, 1)) ** 2).tolist()) for n in space.sizes))


def _crossed(rng: np.random.Generator, parents: np.ndarray) -> np.ndarray:
    """Each with another, every knob from one of the two."""
    others = parents[rng.permutation(len(parents))]
    return np.where(rng.random(parents.shape) < 0.5, parents, others)


def _all(space: SearchSpace) -> np.ndarray:
    sizes = tuple(int(size) for size in space.sizes)
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
