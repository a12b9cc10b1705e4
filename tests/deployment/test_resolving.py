"""Plans solved for another budget, against all plans of a small space; and what becomes of them when evaluated."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.deployment.resolving import AddedCosts, ScoreResolver
from autocomp.errors import BudgetError
from autocomp.evaluators import Scores
from autocomp.hardware_models import CostTables, device
from autocomp.problem.budget import Budget
from autocomp.problem.metrics import METRICS
from autocomp.results.front import ParetoSet, Point, Prediction
from autocomp.search_spaces import Knob, Plan, SearchSpace
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.conftest import Subject
from tests.toy import SENSITIVITY, ToyEvaluator, toy_accuracy, toy_costs, toy_space

CONTEXT = {"tpot", "cache"}  # without one they are 0
SMALL, LARGE = toy_space(2), toy_space(6)


def scores_of(space: Any) -> Scores:
    return Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in space.knobs))


def searched(space: Any, trials: int, evaluator: bool = True, budget: str = "") -> ParetoSet:
    """A front on the toy; scores lack the weights that its knobs have, and their interactions."""
    toy, costs, ledger = ToyEvaluator(space), partial(toy_costs, space), Ledger(space)
    scores, bounds = scores_of(space), Budget.parse(budget)
    study = Study(space, InProcess(toy), costs, trials=trials, scores=lambda _: scores, ledger=ledger, budget=bounds)
    chip = device("cpu")
    resolver = ScoreResolver(space, costs, chip, lambda: scores, toy if evaluator else None, ledger)
    return ParetoSet(study.run(), device=chip.name, budget=budget, objectives=study.objectives, resolver=resolver)


@pytest.fixture(scope="module")
def small() -> ParetoSet:
    return searched(SMALL, 41)


@cache
def records() -> ParetoSet:
    return searched(LARGE, 65)


@pytest.fixture
def large() -> ParetoSet:
    """Of each test its own, since evaluating adds to it."""
    return copy(records())


def best(budget: str) -> float:
    """The highest accuracy that any plan of the small space has under the bound."""
    every = np.array(list(np.ndindex(*SMALL.sizes)))
    of_float = toy_costs(SMALL, every[:1])[0]
    allowed = Budget.parse(budget).violation(toy_costs(SMALL, every), None, of_float, 1.0) <= 0
    return max(toy_accuracy(SMALL, SMALL.decode(vector)) for vector in every[allowed])


class TestAddedCosts:
    def test_formats_alone_add_up(self) -> None:
        space = toy_space(6, ratios=(1.0,))
        added = AddedCosts(space, partial(toy_costs, space))
        plans = space.random(np.random.default_rng(5), 200)
        found, expected = added(plans), toy_costs(space, plans)
        assert added.metrics == set(METRICS)
        for metric in METRICS.values():
            np.testing.assert_allclose(getattr(found, metric.attribute), getattr(expected, metric.attribute))

    def test_what_does_not_is_left_out(self) -> None:
        found = AddedCosts(LARGE, partial(toy_costs, LARGE))
        assert found.metrics == CONTEXT  # a layer's inputs are another's channels

    @pytest.mark.parametrize(
        ("name", "metrics"),
        [
            (
                "ascend-310p3",
                {"latency", "size", "memory", "energy", "macs", "params", "bops", "weight_bytes", *CONTEXT},
            ),
            # What a layer stores, and which tensors a file rounds, depends on the formats of its readers.
            ("nvidia-t4", {"macs", "params", "bops", "weight_bytes"} | CONTEXT),
        ],
    )
    def test_costs_of_a_network_do(self, name: str, metrics: set[str], named_subject: Callable[[str], Subject]) -> None:
        graph, chip = named_subject("residual").evaluator.space.graph, device(name)
        formats = tuple(map(str, chip.formats))
        space = SearchSpace(graph, tuple(Knob(f"format/{layer}", "rtn", (layer,), formats) for layer in graph.layers))
        assert metrics == AddedCosts(space, CostTables(chip, space, 8)).metrics


class TestAnswer:
    @pytest.mark.parametrize("budget", ["latency<80%", "latency<55%", "size<40%", "latency<60%, size<30%"])
    def test_is_nearly_the_best_plan_there_is(self, small: ParetoSet, budget: str) -> None:
        found = small.resolve(budget)
        truth = toy_accuracy(SMALL, found.plan)
        assert small._constraint_violation(Budget.parse(budget), Point(found.plan, truth, "accuracy", found.cost)) <= 0
        assert truth >= best(budget) - 0.01
        assert found.low - 0.02 <= truth <= found.high + 0.02

    @pytest.mark.parametrize("budget", ["latency<50%", "size<20%", "memory<60%, size<30%"])
    def test_is_no_worse_than_what_was_evaluated(self, large: ParetoSet, budget: str) -> None:
        assert toy_accuracy(LARGE, large.resolve(budget).plan) >= large.pick(budget).accuracy - 0.01

    def test_a_bound_on_the_accuracy_gives_the_cheapest(self, large: ParetoSet) -> None:
        found = large.resolve("accuracy>-5%")
        assert found.accuracy >= large.float_point.accuracy - 0.05
        assert found.value("latency") <= large.pick("accuracy>-5%").value("latency")
        both = large.resolve("accuracy>-5%, size<30%")
        assert both.ratio("size") <= 0.3 and both.accuracy_change >= -0.05
        assert both.value("latency") >= found.value("latency") - 1e-9

    def test_of_an_evaluated_plan_what_was_measured(self, small: ParetoSet) -> None:
        found = small.resolve("latency<100%, size<100%")
        assert not found.plan
        assert found.low == found.accuracy == found.high == small.float_point.accuracy

    def test_the_same_again(self, large: ParetoSet) -> None:
        assert large.resolve("size<25%") == large.resolve("size<25%")

    def test_says_that_it_is_a_prediction(self, large: ParetoSet) -> None:
        text = large.resolve("size<25%").summary(("size",))
        assert " % predicted (" in text and " to " in text and ", size " in text

    def test_needs_no_evaluation(self, large: ParetoSet) -> None:
        before = large.evaluated
        assert isinstance(large.resolve("latency<40%"), Prediction)
        assert large.evaluated is before


class TestEvaluated:
    def test_becomes_a_point_and_joins_the_front(self, large: ParetoSet) -> None:
        before, knee = len(large.evaluated), large.knee
        wanted = large.resolve("latency<37%, size<31%").plan
        point = large.resolve("latency<37%, size<31%", evaluate=True)
        assert isinstance(point, Point) and point.plan == wanted
        assert point.accuracy == toy_accuracy(LARGE, wanted) and point.feasible
        assert len(large.evaluated) == before + 1 and large.evaluated[-1] is point
        assert (point in list(large)) == all(
            other.accuracy < point.accuracy or any(other.ratio(name) > point.ratio(name) for name in large.objectives)
            for other in large.evaluated[:-1]
        )
        assert large.knee in list(large) and knee in large.evaluated
        assert large.evaluate(wanted) is point and len(large.evaluated) == before + 1

    def test_over_the_fronts_own_budget_it_is_evaluated_but_not_on_it(self) -> None:
        front = searched(LARGE, 33, budget="latency<50%")
        point = front.resolve("latency<75%", evaluate=True)
        assert not point.feasible and point in front.evaluated and point not in list(front)

    def test_is_kept_with_the_other_evaluations(self, large: ParetoSet) -> None:
        point = large.resolve("latency<37%", evaluate=True)
        resolver = large.resolver
        assert isinstance(resolver, ScoreResolver)
        found = resolver._ledger.get(point.plan)
        assert found is not None and found.accuracy == point.accuracy


class TestRefused:
    def test_what_no_plan_costs(self, large: ParetoSet) -> None:
        with pytest.raises(BudgetError, match="latency<1% cannot be reached on cpu: the nearest is"):
            large.resolve("latency<1%")

    def test_what_no_plan_is_predicted_to_keep(self, large: ParetoSet) -> None:
        with pytest.raises(BudgetError, match=r"no plan is predicted to meet accuracy>-1%, size<8%: the nearest is"):
            large.resolve("accuracy>-1%, size<8%")

    def test_no_bound(self, large: ParetoSet) -> None:
        with pytest.raises(ValueError, match="at least one bound"):
            large.resolve("")

    def test_a_front_without_its_network(self, large: ParetoSet, tmp_path: Path) -> None:
        loaded = ParetoSet.load(large.save(tmp_path))
        for ask in (lambda: loaded.resolve("size<25%"), lambda: loaded.evaluate(Plan({"format/l0": "w8"}))):
            with pytest.raises(ValueError, match=r"another budget needs the network .*autocomp\.load\(folder, net\)"):
                ask()

    def test_a_front_without_scores(self, large: ParetoSet) -> None:
        large.resolver = None
        with pytest.raises(ValueError, match=r"needs the scores of the search, but this front has none"):
            large.resolve("size<25%")

    def test_evaluating_without_the_samples(self) -> None:
        front = searched(LARGE, 17, evaluator=False)
        with pytest.raises(ValueError, match=r"needs the data of the search: use autocomp\.load\(folder, net, data\)"):
            front.resolve("latency<37%, size<31%", evaluate=True)
