"""Changes that are chosen for their values, against planted truths."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from autocomp.results.shrinkage import LEAST, Changes, shrunk

PLANS, SAMPLES = 200, 2000


class Searched:
    """200 plans measured on the same samples.

    truth: (plans,) changes on all samples there are. cost: (plans,), lower for plans that change more. scatter: how
    plans of one divergence differ in truth, relative to their loss.
    """

    def __init__(self, seed: int, samples: int = SAMPLES, scatter: float = 0.3) -> None:
        rng = np.random.default_rng(seed)
        divergence = np.exp(rng.uniform(np.log(1e-3), np.log(0.5), PLANS))
        differing = np.minimum(0.25 * np.sqrt(divergence), 0.5)  # share of samples on which a plan differs
        lost = 0.5 + np.clip(0.15 + 0.3 * np.sqrt(divergence) + scatter * rng.normal(0, 0.2, PLANS), -0.4, 0.45)
        self.truth = differing * (1 - 2 * lost)
        self.cost = -np.log(divergence) + rng.normal(0, 0.3, PLANS)
        doubt = np.sqrt(0.7) * rng.normal(size=(PLANS, samples)) + np.sqrt(0.3) * rng.normal(size=samples)
        moved = doubt < np.array([NormalDist().inv_cdf(share) for share in differing])[:, None]
        change = np.where(rng.random((PLANS, samples)) < lost[:, None], -1, 1) * moved
        self.change = change.mean(1)
        error = np.sqrt((moved.sum(1) + 1) / samples - self.change**2) / np.sqrt(samples)
        seen = divergence * np.exp(rng.normal(0, 0.05, PLANS))
        self.measured = Changes(self.change, error, np.full(PLANS, samples), seen)

    def picked(self, change: np.ndarray) -> list[int]:
        """The cheapest plan within 0.5, 1 and 2 points, the best of those under three costs, and the best of all."""
        found = [int(change.argmax())]
        for least in (-0.005, -0.01, -0.02):
            within = np.flatnonzero(change >= least)
            found += [int(within[self.cost[within].argmin()])] if len(within) else []
        for most in np.quantile(self.cost, (0.2, 0.4, 0.6)):
            cheap = np.flatnonzero(self.cost < most)
            found.append(int(cheap[change[cheap].argmax()]))
        return found

    def flattered(self, change: np.ndarray) -> float:
        """The mean of reported less true change of the picked plans, points."""
        rows = self.picked(change)
        return 100 * float(np.mean(change[rows] - self.truth[rows]))


@pytest.mark.parametrize("scatter", [0.0, 0.3, 1.0])
def test_what_is_picked_is_reported_as_it_is(scatter: float) -> None:
    found = [Searched(seed, scatter=scatter) for seed in range(20)]
    assert abs(np.mean([one.flattered(shrunk(one.measured)) for one in found])) < 0.1
    assert np.mean([one.flattered(one.change) for one in found]) > 0.2


def test_shrunk_changes_are_nearer_to_the_truth() -> None:
    found = [Searched(seed) for seed in range(5)]
    near = np.mean([np.abs(shrunk(one.measured) - one.truth).mean() for one in found])
    assert near < 0.85 * np.mean([np.abs(one.change - one.truth).mean() for one in found])


def test_errors_that_are_small_leave_changes_as_they_are() -> None:
    one = Searched(0, scatter=1.0).measured
    exact = replace(one, error=one.error / 1000)
    np.testing.assert_allclose(shrunk(exact), one.change, atol=2e-4)


def test_few_plans_are_left_as_measured() -> None:
    rows = [(-0.01 * i, 0.01, 2000, 0.1 * (i + 1)) for i in range(LEAST)]
    few = Changes.of(rows[:-1])
    assert shrunk(few).tolist() == few.change.tolist()
    assert shrunk(Changes.of(rows)).tolist() != [row[0] for row in rows]
    assert shrunk(Changes.of([])).tolist() == []


def test_equal_plans_and_many_plans() -> None:
    same = Changes.of([(-0.01, 0.002, 2000, 0.1)] * 20)
    np.testing.assert_allclose(shrunk(same), -0.01)
    one = Searched(3).measured
    many = Changes(*(np.tile(column, 5) for column in (one.change, one.error, one.samples, one.divergence)))
    assert np.isfinite(shrunk(many)).all()
