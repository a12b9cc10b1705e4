"""A sampler that first solves the front from scores and costs, and then evaluates where that should improve the front
most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autocomp.evaluators import Scores
from autocomp.search_spaces import SearchSpace

from .base import Outcome, Problem
from .frontier_solver import Solver, directions
from .frontier_surrogate import LossDistribution, Surrogate
from .hypervolume_improvement import ExpectedHypervolumeImprovement
from .observations import Observations, below_front, distinct, fit_surrogate, rows
from .registry import register
from .uniform import spread, uniform_plans

ENUMERABLE = 6000  # largest space whose plans are all predicted
STARTS = 24  # descents in the first round; fewer later, since their results are kept
CLIMBS, CLIMBERS = 2, 8  # rounds of search near the most promising plans, and the number of these plans
AROUND = 2048  # about how many neighbours of them are tried
LATE, AROUND_LATE = 1000, 512  # after so many evaluations there is one round, with fewer neighbours
SHORTLIST = 64  # plans among which a batch is chosen
CELLS = 20  # into so many intervals each cost is divided; plans are taken from all of them
FOCUS = 0.05  # largest loss of accuracy for which every other plan counts
ROUNDS = 8  # in which many plans are chosen: from twice as many on, several in each
CLIMBED = 32  # beside one plan in so many that are wanted, neighbours are tried
DRAWN = 4  # where neighbours are few, so many plans are drawn for each that is wanted
EXPLORED = 8  # one plan in so many is chosen with doubled standard deviation


@register("frontier")
class FrontierSampler:
    """Scores add up to a predicted front; evaluations correct it; the next batch are the plans that should add most to
    it.

    In each round it solves the predicted front for random prices of the objectives (:class:`Solver`). It tries the
    neighbours of the best predicted plans and of evaluated ones. Then it chooses plans one after the other, each time
    the plan with the largest expected hypervolume improvement (:class:`ExpectedHypervolumeImprovement`) under its
    surrogate (:class:`Surrogate`), and takes the prediction for each chosen plan as if it were measured. Half of the
    plans are chosen by what they add above the budget's least accuracy; every other plan is chosen by what it adds
    within 5 percentage points below the float network's accuracy, the part of the front that users pick from.

    Without scores it starts from the rank of each value and fits the rest to evaluations.
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
        self._asked = self._wanted = 0
        self._surrogate: Surrogate | None = None
        self._scores: Scores | None = None

    def ask(self, count: int) -> list[np.ndarray]:
        self._asked += 1
        if self._asked == 1 and (formats := self._formats()[:count]):
            return self._proposed(formats)
        rng = np.random.default_rng([self._problem.seed, self._asked])
        surrogate = self._fitted()
        self._wanted = count
        pool = self._pool(rng, surrogate)
        if not len(pool):  # all neighbours of the solutions are known: draw from the whole space
            return [] if self._enumerable else list(self._space.random(rng, count))
        choose = self._choose if count < 2 * ROUNDS else self._choose_many
        return self._proposed([pool[i] for i in choose(pool, surrogate, count)])

    def _proposed(self, chosen: list[np.ndarray]) -> list[np.ndarray]:
        for row, vector in zip(rows(np.array(chosen).reshape(-1, len(self._space.knobs))), chosen, strict=True):
            self._pending[row] = vector
            self._spent.add(row)
        return [np.array(vector, np.int64) for vector in chosen]

    def _formats(self) -> list[np.ndarray]:
        """Each format in all layers, where the budget allows it. They are evaluated first, in case the scores mislead.

        They need no scores: a search that is stopped while the scores are measured has already results.
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
        # A plan that was rejected for its costs was not evaluated, so its accuracy is no observation. The float network
        # was evaluated whatever the budget, and all losses are relative to it.
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
        """(n, objectives - 1): costs as shares of the float network's."""
        assert self._problem.costs is not None
        return np.asarray(self._problem.costs(vectors) / self._of_float)

    def _constraint_violation(self, vectors: np.ndarray) -> np.ndarray:
        return (
            np.zeros(len(vectors))
            if self._problem.constraint_violation is None
            else self._problem.constraint_violation(vectors)
        )

    def _fitted(self) -> Surrogate:
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
        climbers = max(climbers, self._wanted // CLIMBED)
        gains = self._gains()
        for _ in range(1 if late else CLIMBS):
            best = self._promising(pool, surrogate, gains, climbers)
            changed = solver.neighbours(best).reshape(-1, len(self._space.knobs))
            pool = distinct(np.concatenate([pool, changed, _crossed(rng, best)]))
            pool = self._promising(self._new(pool), surrogate, gains, max(SHORTLIST, 2 * self._wanted))
        if len(pool) < 2 * self._wanted:  # late, all of these neighbours are known
            pool = distinct(np.concatenate([pool, self._new(self._near_front(rng, DRAWN * self._wanted))]))
            pool = self._promising(pool, surrogate, gains, max(SHORTLIST, 2 * self._wanted))
        return pool

    def _near_front(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Plans near those that were evaluated on the front or next to it: crossed with each other, and some of their
        knobs drawn again."""
        near = np.argsort(self._observed.below, kind="stable")[: max(SHORTLIST, count)]
        if not len(near):
            return np.empty((0, len(self._space.knobs)), np.int64)
        parents = self._observed.vectors[near[rng.integers(0, len(near), count)]]
        share = np.exp(rng.uniform(np.log(1 / parents.shape[1]), np.log(0.5), (count, 1)))
        anew = np.where(rng.random(parents.shape) < share, self._space.random(rng, count), parents)
        return np.concatenate([anew, _crossed(rng, parents)])

    def _starts(self, rng: np.random.Generator) -> np.ndarray:
        """Uniform, evaluated and random plans; fewer in each round, since earlier solutions are kept."""
        count = STARTS // self._asked or 2 * (self._asked % 16 == 0)
        uniform = spread(uniform_plans(self._space), self._space.sizes)[: count // 4]
        near = np.argsort(self._observed.below, kind="stable")[: 2 * STARTS]
        evaluated = self._observed.vectors[rng.permutation(near)[: count // 2]]
        more = self._space.random(rng, count - len(uniform) - len(evaluated))
        return np.concatenate([uniform, evaluated, more])

    def _promising(
        self, pool: np.ndarray, surrogate: Surrogate, gains: Sequence[ExpectedHypervolumeImprovement], count: int
    ) -> np.ndarray:
        """The ``count`` plans with the largest expected improvement, for each of the two improvements, from all
        intervals of the costs.

        The best plan has many neighbours that are nearly as good; once it is chosen, they add nothing any more.
        """
        costs, accuracies = self._costs(pool), self._accuracies(surrogate.predict(pool))
        cells = self._cells(costs)
        best = [spread_out(gain(costs, accuracies), cells, count) for gain in gains]
        return np.asarray(pool[np.unique(np.concatenate(best))], np.int64)

    def _cells(self, costs: np.ndarray) -> np.ndarray:
        """(n,): the interval of the costs in which each plan lies, as a number."""
        found = np.unique((costs * CELLS).astype(np.int64), axis=0, return_inverse=True)[1]
        return np.asarray(found.reshape(-1))

    def _new(self, pool: np.ndarray) -> np.ndarray:
        """The plans of the pool that were not proposed before and that the budget allows."""
        fresh = np.array([row not in self._spent for row in rows(pool)], bool)
        return pool[fresh][self._constraint_violation(pool[fresh]) <= 0]

    # What is proposed -------------------------------------------------------------------------------------------------

    def _choose(self, pool: np.ndarray, surrogate: Surrogate, count: int) -> list[int]:
        """Positions in the pool, one after the other; plans that were proposed and are not yet observed count as chosen
        before."""
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

    def _choose_many(self, pool: np.ndarray, surrogate: Surrogate, count: int) -> list[int]:
        """Like :meth:`_choose` for many plans: in eight rounds, each with plans from all intervals of the costs."""
        costs, prediction, gains = self._costs(pool), surrogate.predict(pool), self._gains()
        expected = self._accuracies(prediction).mean(1)
        if self._pending:
            pending = np.array(list(self._pending.values()), np.int64)
            self._expect(gains, self._costs(pending), self._accuracies(surrogate.predict(pending)).mean(1))
        cells, left, chosen = self._cells(costs), np.ones(len(pool), bool), list[int]()
        while len(chosen) < min(count, len(pool)):
            worth = self._worth(costs, prediction, gains, left, len(chosen) * ROUNDS // count)
            rows_left = np.flatnonzero(left)
            found = rows_left[spread_out(worth[rows_left], cells[rows_left], -(-count // ROUNDS))]
            found = found[np.argsort(-worth[found], kind="stable")][: count - len(chosen)]
            left[found] = False
            prediction.expect(int(found[0]))
            self._expect(gains, costs[found], expected[found])
            chosen += found.tolist()
        return chosen

    def _expect(
        self, gains: Sequence[ExpectedHypervolumeImprovement], costs: np.ndarray, accuracies: np.ndarray
    ) -> None:
        """Takes plans as evaluated; only those that none of them beats make a difference."""
        for i in np.flatnonzero(below_front(costs, accuracies) <= 0):
            for gain in gains:
                gain.add(costs[i], accuracies[i])

    def _best(
        self,
        costs: np.ndarray,
        prediction: LossDistribution,
        gains: Sequence[ExpectedHypervolumeImprovement],
        left: np.ndarray,
        number: int,
    ) -> int:
        return int(self._worth(costs, prediction, gains, left, number).argmax())

    def _worth(
        self,
        costs: np.ndarray,
        prediction: LossDistribution,
        gains: Sequence[ExpectedHypervolumeImprovement],
        left: np.ndarray,
        number: int,
    ) -> np.ndarray:
        """(n,): what each plan that is left is worth as the next one to choose."""
        spread = 2.0 if number % EXPLORED == EXPLORED - 1 else 1.0
        accuracies = self._accuracies(prediction, spread)
        # Where no plan improves one hypervolume, use the other one; else take the plan that comes nearest to the front.
        for gain in (gains[number % 2], gains[1 - number % 2]):
            worth = np.where(left, gain(costs, accuracies), -np.inf)
            if worth.max() > 0:
                return worth
        return np.where(left, accuracies.mean(1) - costs.mean(1), -np.inf)

    def _accuracies(self, prediction: LossDistribution, spread: float = 1.0) -> np.ndarray:
        """(n, 8): equally likely values of each plan's accuracy."""
        return np.maximum(self._float_accuracy - prediction.losses(spread), 0)

    def _gains(self) -> tuple[ExpectedHypervolumeImprovement, ExpectedHypervolumeImprovement]:
        """Two improvements: above the budget's least accuracy, and above a little less than the float network's
        accuracy."""
        front = self._observed.below <= 0
        costs, accuracies = self._observed.costs[front], self._observed.accuracies[front]
        min_accuracies = (self._min_accuracy, max(self._min_accuracy, self._float_accuracy - FOCUS))
        return ExpectedHypervolumeImprovement(costs, accuracies, min_accuracies[0]), ExpectedHypervolumeImprovement(
            costs, accuracies, min_accuracies[1]
        )


def spread_out(worth: np.ndarray, cells: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` positions: the best of every cell, then the second best of every cell, and so on."""
    order = np.lexsort((-worth, cells))
    first = np.searchsorted(cells[order], cells[order])
    place = np.arange(len(order)) - first  # within the cell
    return order[np.lexsort((-worth[order], place))][:count]


def ranked(space: SearchSpace) -> Scores:
    """Scores for values about which nothing is known: the square of their rank, 0.1 nats for the strongest value of a
    knob."""
    return Scores(tuple(tuple((0.1 * (np.arange(n) / max(n - 1, 1)) ** 2).tolist()) for n in space.sizes))


def _crossed(rng: np.random.Generator, parents: np.ndarray) -> np.ndarray:
    """Each plan crossed with another one: every knob takes the value of one of the two."""
    others = parents[rng.permutation(len(parents))]
    return np.where(rng.random(parents.shape) < 0.5, parents, others)


def _all(space: SearchSpace) -> np.ndarray:
    sizes = tuple(int(size) for size in space.sizes)
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)
