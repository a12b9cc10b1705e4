"""What a front claims of its points: shrunk changes with their intervals, and no points near chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import Measurement
from autocomp.problem.budget import Budget
from autocomp.problem.record import Record
from autocomp.results.front import ParetoSet
from autocomp.results.point import Point
from autocomp.search_spaces import Plan
from tests.fronts import FLOAT_ACCURACY, record


def measured(accuracy: float, size: float, name: str = "", error: float | None = 0.004, budget: str = "") -> Record:
    found = record(accuracy, size, size, name=name, budget=budget)
    seen = replace(found.measurement, change_error=error, accuracy_error=0.007, divergence=0.1)
    return replace(found, measurement=seen)


def noisy(budget: str = "", count: int = 40, seed: int = 0) -> list[Record]:
    """All plans lose one point, and were measured with errors of 0.4."""
    values = FLOAT_ACCURACY - 0.01 + 0.004 * np.random.default_rng(seed).normal(size=count)
    rows = [measured(float(v), 0.9 - 0.01 * i, f"layer{i}", budget=budget) for i, v in enumerate(values)]
    return [measured(FLOAT_ACCURACY, 1.0, budget=budget), *rows]


def front(records: list[Record], **settings: Any) -> ParetoSet:
    return ParetoSet(records, device="ascend-310p3", **settings)


def test_the_best_of_equal_plans_is_not_reported_as_better() -> None:
    result = front(noisy(), objectives=["size"])
    best = max(result.evaluated[1:], key=lambda point: point.observed or 0)
    assert best.observed is not None and best.observed - FLOAT_ACCURACY > -0.0045
    assert best.accuracy_change == pytest.approx(-0.01, abs=0.002)
    assert result.float_point.accuracy == FLOAT_ACCURACY


def test_a_budget_is_held_against_what_is_expected() -> None:
    for budget, feasible in (("accuracy>-0.5%, size<95%", False), ("accuracy>-1.5%, size<95%", True)):
        assert any(one.violation <= 0 for one in noisy(budget))  # as they were measured
        assert front(noisy(budget), budget=budget).feasible == feasible


def test_unknown_errors_and_fidelity_are_left_as_measured() -> None:
    records = noisy()
    without = [replace(one, measurement=replace(one.measurement, change_error=None)) for one in records]
    assert all(point.accuracy == point.observed for point in front(without).evaluated)
    fidelity = [replace(one, measurement=replace(one.measurement, metric="fidelity")) for one in records]
    assert all(point.accuracy == point.observed for point in front(fidelity).evaluated)


def test_a_confidence_asks_for_more_than_the_estimate() -> None:
    rows = [measured(FLOAT_ACCURACY, 1.0), measured(0.895, 0.5, "a", 0.001), measured(0.897, 0.4, "b", 0.006)]
    result = front(rows)
    assert result.pick("accuracy>-1%").name == result.pick("accuracy>-1%, size<45%").name
    assert result.pick("accuracy>-1%@95%").plan == Plan({"format/a": "w8a8"})
    assert result.pick("accuracy>-1%@50%").plan == Plan({"format/b": "w8a8"})
    assert result.pick("accuracy>88%@90%").plan == Plan({"format/b": "w8a8"})
    with pytest.raises(ValueError, match="accuracy>89%@99%"):
        result.pick("accuracy>89%@99%")
    assert result.pick("accuracy>-0.1%@95%").is_float


def test_an_unknown_error_meets_no_confidence() -> None:
    rows = [measured(FLOAT_ACCURACY, 1.0), measured(0.899, 0.5, "a", None)]
    assert front(rows).pick("accuracy>-1%@95%").is_float


def test_the_interval_is_that_of_the_difference() -> None:
    rows = [measured(FLOAT_ACCURACY, 1.0), measured(0.895, 0.5, "a", 0.002), measured(0.89, 0.4, "b", None)]
    result = front(rows)
    point = result.evaluated[1]
    assert point.change == "-0.5 ±0.4" and "(-0.5 ±0.4)" in point.summary()
    assert point.change_interval == pytest.approx((-0.005 - 0.00392, -0.005 + 0.00392))
    assert result.evaluated[2].change == "-1.0" and result.evaluated[2].change_interval is None
    assert "change: to the float network, as expected on other samples, ± half its 95 % interval" in " ".join(
        str(result).split()
    )
    assert "-0.5 ±0.4" in str(result) and result.float_point.change == "0.0"


class TestLeastAccuracy:
    ROWS = ((0.89, 0.5, "a"), (0.83, 0.4, "b"), (0.81, 0.3, "c"), (0.2, 0.1, "d"))

    def of(self, budget: str = "", chance: float | None = 0.1) -> ParetoSet:
        rows = [measured(FLOAT_ACCURACY, 1.0), *(measured(*row) for row in self.ROWS)]
        return front(rows, budget=budget, chance=chance)

    def test_points_near_chance_are_not_shown(self) -> None:
        result = self.of()
        assert [point.accuracy for point in result] == [0.9, 0.89, 0.83]
        assert result.min_accuracy == pytest.approx(0.1 + 0.9 * 0.8)
        (note,) = result.notes
        assert note.startswith("2 further points are not shown, since they do not keep accuracy 82.0 %, 90 % of what")
        assert "chance (10.0 %)" in note and "accuracy>0% in the budget" in note

    def test_a_bound_on_the_accuracy_or_unknown_chance_shows_all(self) -> None:
        assert len(self.of("accuracy>0%")) == len(self.of(chance=None)) == 5
        assert self.of("accuracy>0%").notes == ()

    def test_where_no_point_keeps_it_all_are_shown(self) -> None:
        rows = [measured(FLOAT_ACCURACY, 1.0, budget="size<60%"), measured(0.5, 0.5, "a")]
        result = front(rows, budget="size<60%", chance=0.1)
        assert [point.accuracy for point in result] == [0.5]
        assert "no point keeps accuracy 82.0 %" in result.notes[0]

    def test_the_hypervolume_counts_them_and_a_file_keeps_them(self, tmp_path: Path) -> None:
        result = self.of()
        assert result.hypervolume() == self.of(chance=None).hypervolume()
        again = ParetoSet.load(result.save(tmp_path))
        assert list(again) == list(result) and again.notes == result.notes

    def test_half_of_the_fidelity_is_enough(self) -> None:
        rows = [measured(1.0, 1.0), measured(0.6, 0.5, "a"), measured(0.4, 0.4, "b")]
        rows = [replace(one, measurement=replace(one.measurement, metric="fidelity")) for one in rows]
        assert [point.accuracy for point in front(rows, chance=0.0)] == [1.0, 0.6]


def test_a_file_keeps_what_was_observed(tmp_path: Path) -> None:
    result = front(noisy())
    again = ParetoSet.load(result.save(tmp_path))
    assert [point.observed for point in again.evaluated] == [point.observed for point in result.evaluated]
    assert [point.accuracy for point in again.evaluated] == [point.accuracy for point in result.evaluated]


class Elsewhere:
    """A deployer that has measured one plan and the float network on other data."""

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        found = Measurement(0.80, samples=500, fidelity="500 samples", change_error=0.01)
        return found, Measurement(0.85, samples=500, fidelity="500 samples", change_error=0.002)


def test_a_point_is_measured_on_other_data() -> None:
    of_float = Point.of(measured(FLOAT_ACCURACY, 1.0))
    deployer: Any = Elsewhere()
    point = replace(Point.of(measured(0.89, 0.5, "a"), of_float), deployer=deployer)
    found = point.evaluate(np.zeros((500, 1)))
    assert (found.accuracy, found.samples, found.plan, found.cost) == (0.80, 500, point.plan, point.cost)
    assert found.reference is not None and found.reference.accuracy == 0.85
    assert found.change == "-5.0 ±2.0" and point.accuracy == 0.89
    assert Budget.parse("accuracy>-6%@95%").violation(found.cost, 0.8, of_float.cost, 0.85, found.errors)[0] > 0
