"""The predicted front: plans with the least sensitivity for their costs, by coordinate descent from many starts at
once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from autocomp.search_spaces import SearchSpace

ROUNDS = 40
FINALISTS, EXCHANGES, PAIRS = 4, 40, 512
SWEPT = np.geomspace(1e-4, 1e4, 49)  # prices, in nats for a cost as high as the float network's
MIXTURES, FINER, SWEPT_FINALISTS = 8, 16, 2
ADDS_UP = 0.05  # relative error that the sum over the knobs may have
PENALTY = 100.0  # nats for a violation of 1, so 1 nat for each percent: more than any sensitivity

Sensitivity = Callable[[np.ndarray], np.ndarray]
Costs = Callable[[np.ndarray], np.ndarray]


class Solver:
    """Minimises ``sensitivity + weights . costs + PENALTY * constraint_violation``, one problem for each row of
    weights.

    Every change of one knob of every plan is evaluated in one call of the cost model. Then three plans are tried: all
    changes that help together, the better half of them, and the best change alone, which always helps. The descent ends
    where no single change helps.

    sensitivity: vectors, (n, knobs) int -> (n,), nats; costs: -> (n, objectives); constraint_violation: -> (n,), 0 or
        less where allowed.
    """

    def __init__(
        self, space: SearchSpace, sensitivity: Sensitivity, costs: Costs, constraint_violation: Sensitivity
    ) -> None:
        self.space, self.sensitivity, self.costs, self.constraint_violation = (
            space,
            sensitivity,
            costs,
            constraint_violation,
        )
        choices = [(k, v) for k, size in enumerate(space.sizes) for v in range(size)]
        self._knobs, self._values = np.array(choices, np.intp).reshape(-1, 2).T
        self._first = np.cumsum(space.sizes) - space.sizes  # a knob's first column among the choices

    def neighbours(self, vectors: np.ndarray) -> np.ndarray:
        """(n, choices, knobs): each plan with one knob set to each of its values in turn; the plan itself is among
        them."""
        changed = np.repeat(vectors[:, None].astype(np.int16), len(self._knobs), axis=1)
        changed[:, np.arange(len(self._knobs)), self._knobs] = self._values
        return changed

    def descend(self, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n, knobs): the ends of the descents from starts (n, knobs), each with its weights (n, objectives)."""
        vectors = vectors.astype(np.int16)
        value = self._value(vectors, weights)
        active = np.arange(len(vectors))
        for _ in range(ROUNDS):
            tried = self._trials(vectors[active], weights[active], value[active])
            found = self._value(tried.reshape(-1, tried.shape[2]), np.repeat(weights[active], tried.shape[1], 0))
            found = found.reshape(tried.shape[:2])
            best = found.argmin(1)
            better = found.min(1) < value[active] - 1e-12
            rows = np.flatnonzero(better)
            vectors[active[rows]] = tried[rows, best[rows]]
            value[active[rows]] = found[rows, best[rows]]
            active = active[rows]
            if not len(active):
                break
        return vectors.astype(np.int64)

    def finalists(self, objectives: int, starts: int = 16, seed: int = 0) -> np.ndarray:
        """(n, knobs), at most four: the plans with the best predictions that meet the bound, the best first. Where none
        meets it: those that violate it least.

        Under a bound a descent ends at the first plan from which every single change is worse. So descents start at
        many prices, and the best results are improved by changing two knobs at once. Where costs and sensitivity are
        sums over the knobs, or nearly so, the best plans at many prices are known without a descent (:meth:`swept`).
        """
        found, adds_up = self.swept(np.random.default_rng(seed), objectives)
        if not adds_up:
            rng = np.random.default_rng(seed)
            plain = np.zeros((1, len(self.space.knobs)), np.int64)
            first = np.concatenate([self.space.random(rng, starts - 1), plain])
            found = self.descend(first, directions(rng, starts, objectives))
        found = np.unique(found, axis=0)
        best = found[self._order(found)[: SWEPT_FINALISTS if adds_up else FINALISTS]]
        improved = np.stack([self.improve(vector) for vector in best])
        return np.asarray(improved[self._order(improved)])

    def swept(self, rng: np.random.Generator, objectives: int) -> tuple[np.ndarray, bool]:
        """(n, knobs): each knob's best value by itself at many prices; and whether these are also about the best
        together.

        They are where sensitivity and costs are sums over the knobs within a few percent, as with formats alone. For
        each mixture of the objectives, the lowest price at which the plan is allowed is then searched.
        """
        plain = np.zeros((1, len(self.space.knobs)), np.int16)
        every = np.concatenate([plain, self.neighbours(plain)[0]])
        sensitivity, costs = self.sensitivity(every), self.costs(every)
        alone = np.column_stack([sensitivity, costs])[1:] - np.append(sensitivity[0], costs[0])
        mixtures = np.concatenate([np.eye(objectives), rng.dirichlet(np.ones(objectives), MIXTURES * (objectives > 1))])
        coarse = self._cheapest(alone, (SWEPT[:, None, None] * mixtures).reshape(-1, objectives))
        expected = np.append(sensitivity[0], costs[0]) + alone[self._first + coarse].sum(1)
        found = np.column_stack([self.sensitivity(coarse), self.costs(coarse)])
        if not np.allclose(found, expected, rtol=ADDS_UP):
            return coarse, False
        allowed = self.constraint_violation(coarse).reshape(len(SWEPT), -1) <= 0
        least = np.where(allowed.any(0), allowed.argmax(0), len(SWEPT) - 1)
        between = np.geomspace(SWEPT[np.maximum(least - 1, 0)], SWEPT[least], FINER)
        fine = self._cheapest(alone, (between[:, :, None] * mixtures).reshape(-1, objectives))
        return np.concatenate([coarse, fine]), True

    def _cheapest(self, alone: np.ndarray, prices: np.ndarray) -> np.ndarray:
        """(n, knobs): the best values at each row of prices (n, objectives); alone: (choices, 1 + objectives), what
        each choice changes."""
        values = alone[:, 0] + prices @ alone[:, 1:].T
        bounds = zip(self._first, self.space.sizes, strict=True)
        return np.stack([values[:, a : a + size].argmin(1) for a, size in bounds], axis=1).astype(np.int16)

    def improve(self, vector: np.ndarray, rounds: int = EXCHANGES) -> np.ndarray:
        """(knobs,): the plan after changes of one or two knobs at a time, as long as they make it better."""
        for _ in range(rounds):
            better = self._exchanged(vector)
            if np.array_equal(better, vector):
                break
            vector = better
        return vector

    def _exchanged(self, vector: np.ndarray) -> np.ndarray:
        """The best plan that one or two changes lead to, among the most promising pairs of changes.

        The effect of two changes is first taken to be the sum of both effects. The pairs that are then allowed and have
        the least sensitivity are evaluated exactly.
        """
        tried = np.concatenate([vector[None].astype(np.int16), self.neighbours(vector[None])[0]])
        harm, over = self.sensitivity(tried), self.constraint_violation(tried)
        one, other = self._pairs
        promised = harm[1 + one] + harm[1 + other] - harm[0]
        constraint_violation = np.maximum(over[1 + one] + over[1 + other] - over[0], 0)
        some = (
            np.lexsort((promised, constraint_violation))[:PAIRS]
            if over[0] > 0
            else _least(promised + PENALTY * constraint_violation, PAIRS)
        )
        pairs = tried[1 + one[some]]
        pairs[np.arange(len(some)), self._knobs[other[some]]] = self._values[other[some]]
        harm, over = np.append(harm, self.sensitivity(pairs)), np.append(over, self.constraint_violation(pairs))
        best = np.lexsort((harm, np.maximum(over, 0)))[0]
        return np.asarray(np.concatenate([tried, pairs])[best], np.int64)

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of choices of different knobs."""
        one, other = np.triu_indices(len(self._knobs), 1)
        different = self._knobs[one] != self._knobs[other]
        return one[different], other[different]

    def best(self, vectors: np.ndarray) -> np.ndarray:
        """(knobs,): the allowed vector with the least sensitivity; where none is allowed, the one with the least
        violation."""
        return np.asarray(vectors[self._order(vectors)[0]], np.int64)

    def _order(self, vectors: np.ndarray) -> np.ndarray:
        over = np.maximum(self.constraint_violation(vectors), 0)
        return np.lexsort((self.sensitivity(vectors), over))

    def _trials(self, vectors: np.ndarray, weights: np.ndarray, value: np.ndarray) -> np.ndarray:
        """(n, 3, knobs): all changes that help; the better half of them; the best change."""
        around = self.neighbours(vectors)
        n, choices, knobs = around.shape
        values = self._value(around.reshape(-1, knobs), np.repeat(weights, choices, 0)).reshape(n, choices)
        gain = value[:, None] - np.minimum.reduceat(values, self._first, axis=1)
        best = np.stack(
            [values[:, a : a + s].argmin(1) for a, s in zip(self._first, self.space.sizes, strict=True)], axis=1
        )
        helps = gain > 1e-12
        rank = (-gain).argsort(1, kind="stable").argsort(1, kind="stable")
        limits = (knobs, -(-helps.sum(1) // 2), 1)
        masks = [helps & (rank < np.reshape(limit, (-1, 1))) for limit in limits]
        return np.stack([np.where(mask, best, vectors) for mask in masks], axis=1).astype(np.int16)

    def _value(self, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        priced = (self.costs(vectors) * weights).sum(1)
        return np.asarray(
            self.sensitivity(vectors) + priced + PENALTY * np.maximum(self.constraint_violation(vectors), 0)
        )


def _least(values: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` smallest values, in no order."""
    return np.argpartition(values, count)[:count] if len(values) > count else np.arange(len(values))


def directions(rng: np.random.Generator, count: int, objectives: int) -> np.ndarray:
    """(count, objectives) weights: mixtures of the objectives, at prices that span four powers of ten."""
    mixtures = rng.dirichlet(np.full(objectives, 0.5), count)
    return np.asarray(mixtures * 10 ** rng.uniform(-2.5, 1.5, (count, 1)))
