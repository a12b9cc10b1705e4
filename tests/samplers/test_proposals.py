from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autocomp.samplers import Outcome, Problem, Proposals, sampler
from autocomp.search_spaces import SearchSpace
from tests.toy import toy_space

SMALL = toy_space(2, formats=("float", "w8", "w4"), ratios=(1.0, 0.5))  # 36 plans
LARGE = toy_space(8)


class Stubborn:
    """Always proposes the same plan, and remembers what it was told."""

    def __init__(self, space: SearchSpace) -> None:
        self.plan = np.ones(len(space.knobs), np.int64)
        self.observed: list[Outcome] = []

    def ask(self, count: int) -> list[np.ndarray]:
        return [self.plan] * count

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self.observed += outcomes


def allow_all(vectors: np.ndarray) -> list[Outcome | None]:
    return [None] * len(vectors)


def forbid_odd(vectors: np.ndarray) -> list[Outcome | None]:
    """The first choice must be even."""
    return [Outcome(tuple(v.tolist()), (0.0, 1.0), (1.0,)) if v[0] % 2 else None for v in vectors]


def origin(space: SearchSpace) -> list[Outcome]:
    return [Outcome((0,) * len(space.knobs), (-0.9, 1.0), (0.0,))]


def test_each_plan_is_proposed_once_until_all_are() -> None:
    proposals = Proposals(SMALL, sampler("random", Problem(SMALL, 2, 99)), allow_all)
    proposals.tell(origin(SMALL))
    found = [vector for _ in range(10) for vector in proposals.batch(8)]
    assert len(found) == len(set(found)) == 35 and (0,) * 4 not in found
    assert proposals.batch(8) == []


def test_forbidden_plans_are_told_and_never_proposed() -> None:
    stubborn = Stubborn(SMALL)
    proposals = Proposals(SMALL, stubborn, forbid_odd)
    proposals.tell(origin(SMALL))
    found = [vector for _ in range(10) for vector in proposals.batch(8)]
    assert len(found) == 36 * 2 // 3 - 1 and all(vector[0] % 2 == 0 for vector in found)
    assert stubborn.observed[1].violations == (1.0,)


def test_proposed_before_is_told_as_to_be_forgotten() -> None:
    stubborn = Stubborn(SMALL)
    proposals = Proposals(SMALL, stubborn, allow_all)
    assert proposals.batch(1) == [(1, 1, 1, 1)]
    assert proposals.batch(1) != [(1, 1, 1, 1)]
    assert stubborn.observed[0] == Outcome((1, 1, 1, 1), None)


def test_a_large_space_is_searched_near_the_best_where_the_sampler_fails() -> None:
    proposals = Proposals(LARGE, Stubborn(LARGE), forbid_odd)
    proposals.tell([*origin(LARGE), Outcome((3,) * 16, (-0.1, 0.1), (5.0,))])
    batch = proposals.batch(8)
    assert len(batch) == len(set(batch)) == 8
    assert all(vector[0] % 2 == 0 for vector in batch)


def test_a_tight_budget_is_met_where_chance_never_does() -> None:
    strongest = LARGE.sizes - 1

    def forbid_mild(vectors: np.ndarray) -> list[Outcome | None]:
        mild = (vectors != strongest).sum(1) > 2
        return [
            Outcome(tuple(v.tolist()), (0.0, 1.0), (1.0,)) if m else None for v, m in zip(vectors, mild, strict=True)
        ]

    proposals = Proposals(LARGE, sampler("random", Problem(LARGE, 2, 99)), forbid_mild)
    proposals.tell(origin(LARGE))
    batch = proposals.batch(8)
    assert len(batch) == len(set(batch)) == 8
    assert ((np.array(batch) != strongest).sum(1) <= 2).all()


def test_a_sampler_that_ends_is_not_made_up_for() -> None:
    proposals = Proposals(SMALL, sampler("uniform", Problem(SMALL, 2, 99)), allow_all)
    proposals.tell(origin(SMALL))
    assert len([vector for _ in range(10) for vector in proposals.batch(8)]) == 3 * 2 - 1


def test_same_seed_same_batches() -> None:
    def batches(seed: int) -> list[list[tuple[int, ...]]]:
        proposals = Proposals(LARGE, Stubborn(LARGE), allow_all, seed)
        proposals.tell(origin(LARGE))
        return [proposals.batch(4) for _ in range(3)]

    assert batches(0) == batches(0) != batches(1)
