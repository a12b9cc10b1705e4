"""The frontier sampler: its solver against brute force, its gains against hypervolumes, what it finds."""

from __future__ import annotations

from itertools import product

import moocore
import numpy as np
import pytest

from autocomp.evaluators import Scores
from autocomp.samplers import FrontierSampler, Outcome, Problem, Proposals, observations, sampler
from autocomp.samplers.frontier import CELLS, ranked, spread_out
from autocomp.samplers.frontier_solver import Solver, directions
from autocomp.samplers.frontier_surrogate import RESOLUTION, Surrogate
from autocomp.samplers.hypervolume_improvement import ExpectedHypervolumeImprovement
from autocomp.samplers.observations import distinct
from autocomp.search_spaces import SearchSpace
from tests.toy import SENSITIVITY, toy_accuracy, toy_costs, toy_space

SMALL, LARGE = toy_space(2), toy_space(6)


def costs_of(space: SearchSpace, vectors: np.ndarray) -> np.ndarray:
    costs = toy_costs(space, vectors)
    return np.stack([costs.latency_ms, costs.size_mb], axis=1)


def scores_of(space: SearchSpace) -> Scores:
    """Without the weights that the toy's knobs have: what a scoring pass on a few samples might say."""
    return Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in space.knobs))


def problem(space: SearchSpace, trials: int = 60, seed: int = 0, **more: object) -> Problem:
    given = {"costs": lambda v: costs_of(space, v), "scores": lambda: scores_of(space)} | more
    return Problem(space, 3, trials, seed, **given)  # type: ignore[arg-type]


def outcomes(space: SearchSpace, vectors: list[np.ndarray]) -> list[Outcome]:
    costs = costs_of(space, np.array(vectors))
    accuracies = [toy_accuracy(space, space.decode(vector)) for vector in vectors]
    return [
        Outcome(tuple(vector.tolist()), (-accuracy, *cost))
        for vector, accuracy, cost in zip(vectors, accuracies, costs.tolist(), strict=True)
    ]


def searched(given: Problem, name: str = "frontier", batch: int = 8) -> list[Outcome]:
    space, chosen = given.space, sampler(name, given)
    found = outcomes(space, [np.zeros(len(space.knobs), np.int64)])
    chosen.tell(found)
    while len(found) < given.trials and (asked := chosen.ask(batch)):
        observed = outcomes(space, asked)
        chosen.tell(observed)
        found += observed
    return found


def volume(found: list[Outcome]) -> float:
    points = np.array([outcome.values for outcome in found]) / np.abs(np.array(found[0].values))
    return float(moocore.hypervolume(points, ref=[0, 1, 1]))


class TestSolver:
    def solver(self, space: SearchSpace, limit: float = np.inf) -> Solver:
        def constraint_violation(vectors: np.ndarray) -> np.ndarray:
            return costs_of(space, vectors)[:, 0] / limit - 1

        return Solver(space, scores_of(space), lambda v: costs_of(space, v), constraint_violation)

    def test_finds_the_best_plan_of_an_enumerable_space(self) -> None:
        space = toy_space(3, formats=("float", "w8a8", "w4a8"))
        every = np.array(list(np.ndindex(*space.sizes)))
        solver = self.solver(space)
        for price in directions(np.random.default_rng(0), 12, 2):
            found = solver.descend(space.random(np.random.default_rng(1), 8), np.tile(price, (8, 1)))
            best = solver._value(every, np.tile(price, (len(every), 1))).min()
            assert solver._value(found, np.tile(price, (8, 1))).min() == pytest.approx(best, abs=1e-9)

    @pytest.mark.parametrize("limit", [3.0, 2.0, 1.5, 1.2])
    def test_finds_the_best_plan_under_a_bound(self, limit: float) -> None:
        space = toy_space(3)
        every = np.array(list(np.ndindex(*space.sizes)))
        solver = self.solver(space, limit)
        found = solver.finalists(objectives=2)[0]
        allowed = every[solver.constraint_violation(every) <= 0]
        assert solver.constraint_violation(found[None])[0] <= 0
        assert solver.sensitivity(found[None])[0] <= 1.02 * solver.sensitivity(allowed).min() + 1e-3

    @pytest.mark.parametrize("limit", [11.0, 10.0, 9.0, 8.0])
    def test_formats_alone_are_solved_without_a_descent(self, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
        space = toy_space(6, ratios=(1.0,))
        every = np.array(list(np.ndindex(*space.sizes)))
        sensitivities = np.random.default_rng(3).gamma(0.5, size=space.sizes.sum())
        scores = Scores(
            tuple(tuple(np.sort(d) - d.min()) for d in np.split(sensitivities, np.cumsum(space.sizes)[:-1]))
        )
        solver = self.solver(space, limit)
        solver.sensitivity = scores
        monkeypatch.setattr(solver, "descend", None)
        found = solver.finalists(objectives=2)[0]
        allowed = every[solver.constraint_violation(every) <= 0]
        assert 0 < len(allowed) < len(every) and solver.constraint_violation(found[None])[0] <= 0
        assert solver.sensitivity(found[None])[0] == pytest.approx(solver.sensitivity(allowed).min(), rel=0.03)

    def test_what_does_not_add_up_is_noticed(self) -> None:
        rng = np.random.default_rng(0)
        assert self.solver(toy_space(6, ratios=(1.0,))).swept(rng, 2)[1]
        assert not self.solver(LARGE).swept(rng, 2)[1]

    def test_a_bound_that_nothing_meets_gives_what_comes_nearest(self) -> None:
        solver = self.solver(SMALL, 0.01)
        every = np.array(list(np.ndindex(*SMALL.sizes)))
        found = solver.finalists(objectives=2)[0]
        assert solver.constraint_violation(found[None])[0] == pytest.approx(solver.constraint_violation(every).min())

    def test_no_single_change_of_its_answer_helps(self) -> None:
        solver, weights = self.solver(LARGE), directions(np.random.default_rng(2), 6, 2)
        found = solver.descend(LARGE.random(np.random.default_rng(3), 6), weights)
        for vector, price in zip(found, weights, strict=True):
            around = solver.neighbours(vector[None])[0]
            assert solver._value(around, np.tile(price, (len(around), 1))).min() >= (
                solver._value(vector[None], price[None])[0] - 1e-9
            )

    def test_neighbours_are_all_single_changes(self) -> None:
        around = self.solver(SMALL).neighbours(np.array([[1, 1, 1, 1]]))[0]
        assert len(around) == SMALL.sizes.sum()
        assert ((around != 1).sum(1) <= 1).all()
        assert len(np.unique(around, axis=0)) == SMALL.sizes.sum() - len(SMALL.sizes) + 1


@pytest.mark.parametrize("cells", [1, 40, observations.CELLS])  # each with each, a few rows at a time, all at once
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_below_the_front_is_by_how_much_a_cheaper_plan_is_better(
    objectives: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observations, "CELLS", cells)
    rng = np.random.default_rng(objectives)
    costs = rng.random((200, objectives)).round(2)
    accuracies = (costs.sum(1) + rng.random(200) / 5).round(2)
    cheaper = (costs[None] <= costs[:, None]).all(2)
    best = np.where(cheaper, accuracies, -np.inf).max(1)
    np.testing.assert_array_equal(observations.below_front(costs, accuracies), best - accuracies)


class TestGain:
    @pytest.mark.parametrize("objectives", [1, 2, 3])
    def test_is_what_a_plan_adds_to_the_hypervolume(self, objectives: int) -> None:
        rng = np.random.default_rng(objectives)
        costs, accuracies = rng.random((6, objectives)), rng.random(6)
        candidates, reached = rng.random((20, objectives)), rng.random(20)
        gain = ExpectedHypervolumeImprovement(costs, accuracies, min_accuracy=0.3)
        before = self.volume(costs, accuracies, 0.3)
        for cost, accuracy, found in zip(candidates, reached, gain(candidates, reached[:, None]), strict=True):
            after = self.volume(np.vstack([costs, cost]), np.append(accuracies, accuracy), 0.3)
            assert found == pytest.approx(after - before, abs=1e-9)

    def test_after_a_plan_was_added(self) -> None:
        rng = np.random.default_rng(9)
        costs, accuracies = rng.random((8, 2)), rng.random(8)
        stepwise = ExpectedHypervolumeImprovement(costs[:3], accuracies[:3], min_accuracy=0.0)
        for cost, accuracy in zip(costs[3:], accuracies[3:], strict=True):
            stepwise.add(cost, accuracy)
        candidates, reached = rng.random((30, 2)), rng.random((30, 4))
        np.testing.assert_allclose(
            stepwise(candidates, reached), ExpectedHypervolumeImprovement(costs, accuracies, 0.0)(candidates, reached)
        )

    def test_is_the_mean_over_the_accuracies(self) -> None:
        gain = ExpectedHypervolumeImprovement(np.array([[0.5, 0.5]]), np.array([0.8]), min_accuracy=0.0)
        both = gain(np.array([[0.4, 0.4]]), np.array([[0.7, 0.9]]))
        apart = gain(np.array([[0.4, 0.4]] * 2), np.array([[0.7], [0.9]]))
        assert both[0] == pytest.approx(apart.mean())

    def test_costs_above_the_float_networks_add_nothing(self) -> None:
        gain = ExpectedHypervolumeImprovement(np.empty((0, 2)), np.empty(0), min_accuracy=0.0)
        assert gain(np.array([[1.2, 0.1], [0.5, 0.5]]), np.array([[0.9], [0.9]])).tolist() == [0, pytest.approx(0.225)]

    def test_many_points_make_coarser_cells_not_wrong_ones(self) -> None:
        rng = np.random.default_rng(4)
        angle = rng.uniform(0, np.pi / 2, 300)
        costs = np.stack([1 - np.sin(angle), 1 - np.cos(angle), rng.random(300)], axis=1)
        gain = ExpectedHypervolumeImprovement(costs, rng.random(300), min_accuracy=0.0)
        assert (gain(rng.random((50, 3)), rng.random((50, 2))) >= 0).all()

    @staticmethod
    def volume(costs: np.ndarray, accuracies: np.ndarray, min_accuracy: float) -> float:
        points = np.column_stack([-accuracies, costs])
        return float(moocore.hypervolume(points, ref=[-min_accuracy, *[1.0] * costs.shape[1]]))


class TestSurrogate:
    def test_learns_a_loss_that_interacts(self) -> None:
        """The toy's sensitivity has weights that the scores lack, and neighbours that hurt more together."""
        vectors = LARGE.random(np.random.default_rng(0), 300)
        losses = np.array([0.92 - toy_accuracy(LARGE, LARGE.decode(vector)) for vector in vectors])
        errors = []
        for count in (0, 100):
            surrogate = Surrogate(scores_of(LARGE))
            if count:
                surrogate.fit(vectors[:count], losses[:count])
            mean = surrogate.predict(vectors[200:]).mean
            errors.append(np.abs(mean - np.log(RESOLUTION + losses[200:])).mean())
        assert errors[1] < errors[0] / 4

    def test_is_sure_of_what_it_knows_and_less_of_the_rest(self) -> None:
        vectors = LARGE.random(np.random.default_rng(0), 40)
        losses = np.array([0.92 - toy_accuracy(LARGE, LARGE.decode(vector)) for vector in vectors])
        surrogate = Surrogate(scores_of(LARGE))
        surrogate.fit(vectors[:20], losses[:20])
        near, far = (surrogate.predict(part).deviation for part in (vectors[:20], vectors[20:]))
        assert near.mean() < far.mean()

    def test_quantiles_rise_and_spread(self) -> None:
        surrogate = Surrogate(scores_of(LARGE))
        prediction = surrogate.predict(LARGE.random(np.random.default_rng(0), 5))
        usual, doubtful = (prediction.losses(spread) for spread in (1.0, 2.0))
        assert (np.diff(usual, axis=1) > 0).all()
        assert (doubtful[:, -1] > usual[:, -1]).all() and (doubtful[:, 0] < usual[:, 0]).all()

    @pytest.mark.parametrize("fit_surrogate", [0, 20])
    def test_expecting_a_plan_is_learning_what_was_predicted(self, fit_surrogate: int) -> None:
        vectors = LARGE.random(np.random.default_rng(0), 40)
        losses = np.array([0.92 - toy_accuracy(LARGE, LARGE.decode(vector)) for vector in vectors])
        surrogate = Surrogate(scores_of(LARGE))
        if fit_surrogate:
            surrogate.fit(vectors[:fit_surrogate], losses[:fit_surrogate])
        prediction = surrogate.predict(vectors[20:])
        before = prediction.deviation
        prediction.expect(3)
        assert (prediction.deviation <= before + 1e-9).all()
        assert prediction.deviation[3] < 0.3 * before[3]
        twin = surrogate.predict(np.concatenate([vectors[20:], vectors[23:24]]))
        twin.expect(3)
        assert twin.deviation[-1] == pytest.approx(twin.deviation[3], abs=1e-6)


class TestFrontierSampler:
    def test_needs_costs(self) -> None:
        with pytest.raises(ValueError, match="needs the costs of plans"):
            sampler("frontier", Problem(LARGE, 3, 60))

    def test_auto_is_it_where_costs_are_known(self) -> None:
        assert isinstance(sampler("auto", problem(LARGE)), FrontierSampler)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_beats_the_others_with_a_quarter_of_the_evaluations(self, seed: int) -> None:
        mine = volume(searched(problem(LARGE, trials=33, seed=seed)))
        for other in ("nsga2", "random"):
            assert mine > volume(searched(problem(LARGE, trials=129, seed=seed), other))

    def test_learns_without_scores(self) -> None:
        mine = volume(searched(problem(LARGE, trials=65, scores=None)))
        assert mine > volume(searched(problem(LARGE, trials=65), "nsga2"))

    def test_an_enumerable_space_gives_each_plan_once_and_ends(self) -> None:
        space = toy_space(1)
        found = searched(problem(space, trials=999))
        assert len(found) == np.prod(space.sizes) == len({outcome.vector for outcome in found})

    def test_finds_the_true_front_of_a_small_space(self) -> None:
        every = [np.array(vector) for vector in product(*(range(size) for size in SMALL.sizes))]
        best = volume(outcomes(SMALL, every))
        assert volume(searched(problem(SMALL, trials=41))) > 0.98 * best

    def test_proposes_what_the_budget_allows(self) -> None:
        limit = 0.6 * costs_of(LARGE, np.zeros((1, 12), np.int64))[0, 0]
        given = problem(LARGE, constraint_violation=lambda v: costs_of(LARGE, v)[:, 0] / limit - 1)
        assert all(outcome.values[1] <= limit for outcome in searched(given)[1:] if outcome.values)

    def test_a_floor_draws_evaluations_above_it(self) -> None:
        def above(found: list[Outcome]) -> int:
            return sum(outcome.values is not None and -outcome.values[0] >= 0.85 for outcome in found)

        assert above(searched(problem(LARGE, min_accuracy=0.85))) > above(searched(problem(LARGE))) > 10

    def test_accuracies_of_rejected_plans_are_not_believed(self) -> None:
        given = problem(LARGE, constraint_violation=lambda v: costs_of(LARGE, v)[:, 0] - 2.0)
        chosen, vector = FrontierSampler(given), np.eye(1, 12, dtype=np.int64)
        chosen.tell([Outcome(tuple(vector[0].tolist()), (0.0, *costs_of(LARGE, vector)[0]), (1.0,))])
        assert not len(chosen._observed)

    @pytest.mark.parametrize("share", [0.3, 2.0])
    def test_losses_are_counted_from_the_float_network_whatever_the_budget(self, share: float) -> None:
        of_float = costs_of(LARGE, np.zeros((1, 12), np.int64))[0]
        chosen = FrontierSampler(
            problem(LARGE, constraint_violation=lambda v: costs_of(LARGE, v)[:, 0] / of_float[0] - share)
        )
        chosen.tell([Outcome((0,) * 12, (-0.91, *of_float), (1 - share,))])
        assert chosen._float_accuracy == 0.91

    def test_a_tight_budget_is_searched_to_its_last_plan(self) -> None:
        space = toy_space(3)
        every = np.array(list(product(*(range(size) for size in space.sizes))))
        least, most = np.sort(costs_of(space, every)[:, 0])[[0, 60]]

        def constraint_violation(vectors: np.ndarray) -> np.ndarray:
            return costs_of(space, vectors)[:, 0] / most - 1

        def screen(vectors: np.ndarray) -> list[Outcome | None]:
            return [
                Outcome(tuple(v.tolist()), None) if x > 0 else None
                for v, x in zip(vectors, constraint_violation(vectors), strict=True)
            ]

        proposals = Proposals(
            space, sampler("frontier", problem(space, trials=999, constraint_violation=constraint_violation)), screen
        )
        proposals.tell(outcomes(space, [np.zeros(6, np.int64)]))
        found = set()
        while batch := proposals.batch(8):
            found |= set(batch)
            proposals.tell(outcomes(space, [np.array(vector) for vector in batch]))
        assert least < most
        assert len(found) == int((constraint_violation(every) <= 0).sum())

    def test_asks_again_before_it_is_told(self) -> None:
        chosen = FrontierSampler(problem(LARGE))
        asked = [tuple(vector.tolist()) for _ in range(3) for vector in chosen.ask(5)]
        assert len(asked) == len(set(asked)) == 14, "first the four formats"

    def test_plans_from_all_over_the_costs_come_into_question(self) -> None:
        chosen = FrontierSampler(problem(LARGE))
        chosen.tell(outcomes(LARGE, [np.zeros(12, np.int64)]))
        pool = LARGE.random(np.random.default_rng(0), 2000)
        best = chosen._promising(pool, chosen._fitted(), chosen._gains(), 12)

        def cells(vectors: np.ndarray) -> set[tuple[int, ...]]:
            return {tuple(row) for row in (CELLS * chosen._costs(vectors)).astype(int).tolist()}

        assert len(cells(pool)) > 12 and 12 <= len(best) <= 24
        assert len(cells(best)) >= 12, "one of each cell before a second of any"

    def test_asking_stays_quick_after_thousands_of_trials(self) -> None:
        """What is learned from is bounded."""
        chosen = FrontierSampler(problem(LARGE, trials=5000))
        chosen.tell(outcomes(LARGE, list(np.unique(LARGE.random(np.random.default_rng(0), 3000), axis=0))))
        surrogate = chosen._fitted()
        assert len(surrogate._features) <= 300
        assert [len(chosen.ask(8)) for _ in range(2)] == [4, 8], "first the four formats"


def test_spread_out_is_the_best_of_every_cell_then_the_second_best() -> None:
    worth, cells = np.array([9.0, 8.0, 7.0, 1.0, 6.0, 2.0]), np.array([0, 0, 0, 1, 2, 2])
    assert spread_out(worth, cells, 5).tolist() == [0, 4, 3, 1, 5]
    assert spread_out(worth, cells, 99).tolist() == [0, 4, 3, 1, 5, 2]


def test_each_vector_once_where_it_first_stands() -> None:
    vectors = np.array([[2, 1], [0, 3], [2, 1], [1, 1], [0, 3]])
    assert distinct(vectors).tolist() == [[2, 1], [0, 3], [1, 1]]


def test_ranked_scores_rise_with_the_values() -> None:
    sensitivity = ranked(LARGE).sensitivity
    assert [len(values) for values in sensitivity] == LARGE.sizes.tolist()
    assert all(values[0] == 0 and list(values) == sorted(values) for values in sensitivity)
