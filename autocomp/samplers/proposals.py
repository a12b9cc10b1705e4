"""Selects those of a sampler's proposals that are worth an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from autocomp.process.blas_threads import one_blas_thread
from autocomp.search_spaces import SearchSpace

from .base import Outcome, Sampler, Vector

ENUMERABLE = 100_000  # largest space that is enumerated
PATIENCE = 8  # how often a sampler is asked again to fill a batch
FEWEST_ORIGINS = 8
CANDIDATES = 2048  # plans that are drawn at once where the sampler proposes none

Screen = Callable[[np.ndarray], list[Outcome | None]]


class Proposals:
    """Rejects plans that were proposed before and plans that are too costly for the budget, and asks for others.

    screen: vectors, (n, knobs) int -> for each plan that the budget rejects for its cost alone its outcome, else None.
    """

    def __init__(self, space: SearchSpace, sampler: Sampler, screen: Screen, seed: int = 0) -> None:
        self._space = space
        self._sampler = sampler
        self._screen = screen
        self._seed = seed
        self._seen: dict[Vector, None] = {}
        self._evaluated: list[Outcome] = []
        self._batches = 0

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self._seen.update(dict.fromkeys(outcome.vector for outcome in outcomes))
        self._evaluated += [outcome for outcome in outcomes if outcome.values is not None]
        self._sampler.tell(outcomes)

    @one_blas_thread()
    def batch(self, count: int) -> list[Vector]:
        """At most ``count`` plans that are new and cheap enough; an empty list when there are no more."""
        self._batches += 1
        chosen: list[Vector] = []
        for _ in range(PATIENCE):
            asked = self._sampler.ask(count - len(chosen))
            if not asked:
                return chosen
            wanted = count - len(chosen)
            chosen += self._sift([_vector(plan) for plan in asked])
            # A sampler that proposes fewer than it was asked for needs the outcomes of these first.
            if len(chosen) == count or (chosen and len(asked) < wanted):
                return chosen
        return chosen + self._find(count - len(chosen))

    def _sift(self, asked: list[Vector]) -> list[Vector]:
        kept, observed = [], []
        for vector, rejection in zip(asked, self._screen(np.array(asked, np.int64)), strict=True):
            if vector in self._seen:
                observed.append(Outcome(vector, None))
            elif rejection is not None:
                observed.append(rejection)
            else:
                kept.append(vector)
            self._seen[vector] = None
        self._sampler.tell(observed)
        return kept

    def _find(self, count: int) -> list[Vector]:
        """New plans where the sampler proposes none: from the whole space where it is small, else at random."""
        rng = np.random.default_rng([self._seed, self._batches])
        size = 10**self._space.log10_size
        pool = self._allowed(self._all() if size <= ENUMERABLE else self._near(rng))
        if not len(pool) and size > ENUMERABLE:
            pool = self._allowed(self._strong(rng))
        found: dict[Vector, None] = {}
        for plan in rng.permutation(pool):
            vector = _vector(plan)
            if vector not in self._seen:
                found[vector] = None
            if len(found) == count:
                break
        self._seen.update(found)
        return list(found)

    def _allowed(self, pool: np.ndarray) -> np.ndarray:
        return pool[[rejection is None for rejection in self._screen(pool)]]

    def _strong(self, rng: np.random.Generator) -> np.ndarray:
        """Some or all knobs at their strongest value, the others at random: plans that a tight budget allows."""
        strongest = rng.random((CANDIDATES, len(self._space.knobs))) < rng.random((CANDIDATES, 1))
        return np.where(strongest, self._space.sizes - 1, self._space.random(rng, CANDIDATES))

    def _all(self) -> np.ndarray:
        sizes = tuple(int(size) for size in self._space.sizes)
        return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)

    def _near(self, rng: np.random.Generator) -> np.ndarray:
        """The best evaluated plans, with the values of one to all knobs drawn again."""
        if not self._evaluated:
            return self._space.random(rng, CANDIDATES)
        ranked = sorted(self._evaluated, key=_constraint_violation)
        feasible = sum(_constraint_violation(outcome) == 0 for outcome in ranked)
        best = np.array([outcome.vector for outcome in ranked[: max(feasible, FEWEST_ORIGINS)]], np.int64)
        origin = best[rng.integers(0, len(best), CANDIDATES)]
        share = np.exp(rng.uniform(np.log(1 / len(self._space.knobs)), 0, (CANDIDATES, 1)))
        anew = rng.random(origin.shape) < share
        return np.where(anew, self._space.random(rng, CANDIDATES), origin)


def _constraint_violation(outcome: Outcome) -> float:
    return sum(max(violation, 0.0) for violation in outcome.violations)


def _vector(plan: Iterable[int]) -> Vector:
    return tuple(int(i) for i in plan)
