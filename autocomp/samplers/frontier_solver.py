"""The predicted front: plans with the least sensitivity for their costs, by coordinate descent from many starts at
once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from autocomp.search_spaces import SearchSpace

ROUNDS = 40
FINALISTS, EXCHANGES, PAIRS = 4, 40, 512
SWEPT = np.geomspace(1e-4, 1e4, 49)  # prices, in nats for all of the float network's costs
MIXTURES, FINER, SWEPT_FINALISTS = 8, 16, 2
ADDS_UP = 0.05  # of a cost: how far the sum over the knobs may be from it
PENALTY = 100.0  # a nat for each percent of constraint_violation: dearer than any sensitivity

Sensitivity = Callable[[np.ndarray], np.ndarray]
Costs = Callable[[np.ndarray], np.ndarray]


class Solver:
    """Minimises ``sensitivity + weights . costs + PENALTY * excess``, a problem for each row of weights.

    Every one-knob change of every plan is looked at in one call of the cost model; all changes that help are tried
    together, the better half of them, and the best alone, which always helps. It ends where no single change does.

    sensitivity: vectors, (n, knobs) int -> (n,); costs: -> (n, objectives); constraint_violation: -> (n,), 0 or less
    where allowed.
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
        """(n, choices, knobs): each choice of each knob in turn, the plan's own among them."""
        changed = np.repeat(vectors[:, None].astype(np.int16), len(self._knobs), axis=1)
        changed[:, np.arange(len(self._knobs)), self._knobs] = self._values
        return changed

    def descend(self, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(n, knobs) from starts (n, knobs), each with its weights (n, objectives)."""
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
        """(n, knobs), at most four: the predicted best plans that were found under the bound, the best first; where
        there were none, those that exceed it least.

        Under a bound a descent ends at the first plan from which every single change is worse; so it is begun at many
        prices, and the best of its ends are improved by changing two knobs at once. Where costs and sensitivity add up
        over the knobs, or nearly so, the best plans at many prices are known without a descent (:meth:`swept`).
        """
        found, adds_up = self.swept(np.random.default_rng(seed), objectives)
        if not adds_up:
            rng = np.random.default_rng(seed)
            plain = np.zeros((1, len(self.space.knobs)), np.int64)
            first = np.concatenate([self.space.random(rng, starts - 1), plain])
            found = self.descend(first, directions(rng, starts, objectives))
        found = np.unique(found, axis=0)
        best = found[self._order(found)[: SWEPT_FINALISTS if adds_up else FINALISTS]]
        ends = np.stack([self.improve(vector) for vector in best])
        return np.asarray(ends[self._order(ends)])

    def swept(self, rng: np.random.Generator, objectives: int) -> tuple[np.ndarray, bool]:
        """(n, knobs): each knob's best value by itself at many prices; and whether that is about what is best jointly.

        It is where sensitivity and costs are sums over the knobs but for a few percent, as with formats alone. Of each
        mixture of the objectives the least price is then looked for at which the plan is allowed.
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
        """(n, knobs) at each row of prices (n, objectives); alone: (choices, 1 + objectives), what each choice does."""
        values = alone[:, 0] + prices @ alone[:, 1:].T
        bounds = zip(self._first, self.space.sizes, strict=True)
        return np.stack([values[:, a : a + size].argmin(1) for a, size in bounds], axis=1).astype(np.int16)

    def improve(self, vector: np.ndarray, rounds: int = EXCHANGES) -> np.ndarray:
        """(knobs,): changed in one or two knobs at a time for as long as that makes it better."""
        for _ in range(rounds):
            better = self._exchanged(vector)
            if np.array_equal(better, vector):
                break
            vector = better
        return vector

    def _exchanged(self, vector: np.ndarray) -> np.ndarray:
        """The best plan that one or two choices lead to, among the pairs that promise most.

        What two changes do is taken to be the sum of what each does; the pairs that then are allowed and hurt least
        are looked at in truth.
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
        apart = self._knobs[one] != self._knobs[other]
        return one[apart], other[apart]

    def best(self, vectors: np.ndarray) -> np.ndarray:
        """(knobs,): of those that are allowed the one with the least sensitivity; else the one that exceeds least."""
        return np.asarray(vectors[self._order(vectors)[0]], np.int64)

    def _order(self, vectors: np.ndarray) -> np.ndarray:
        over = np.maximum(self.constraint_violation(vectors), 0)
        return np.lexsort((self.sensitivity(vectors), over))

    def _trials(self, vectors: np.ndarray, weights: np.ndarray, value: np.ndarray) -> np.ndarray:
        """(n, 3, knobs): all changes that help, the better half of them, the best."""
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
    """Positions of the smallest, in no order."""
    return np.argpartition(values, count)[:count] if len(values) > count else np.arange(len(values))


def directions(rng: np.random.Generator, count: int, objectives: int) -> np.ndarray:
    """(count, objectives) weights: mixtures of the objectives at prices that differ by four powers of ten."""
    mixtures = rng.dirichlet(np.full(objectives, 0.5), count)
    return np.asarray(mixtures * 10 ** rng.uniform(-2.5, 1.5, (count, 1)))
