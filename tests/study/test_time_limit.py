"""A search's time limit: everything from the call on counts, and what there is then is returned."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import autocomp
from autocomp.evaluators import OnnxEngine, PlanEvaluator
from autocomp.problem import jobs
from autocomp.search_spaces import Plan
from autocomp.study.limits import usual_bounds
from tests.clock import FakeClock
from tests.searching import network, search


def test_time_limit_ends_it_with_what_there_is() -> None:
    found = search(time_limit=1e-3)
    assert len(found.evaluated) == 1 and "time limit" in found.settings["stopped"]
    assert "the time limit of 0.001 s was over before a plan was evaluated" in " ".join(found.notes)
    assert any("layers are not pruned: the time limit left no time to try the cut" in note for note in found.notes)


def test_a_front_of_few_calibration_samples_is_loaded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without data the plans are evaluated on as few: the front then stores them."""
    clock = FakeClock.install(monkeypatch)

    class Slow(OnnxEngine):
        def layer_inputs(self, compressed: Any, inputs: Any) -> Any:
            clock.now += 5.0 * len(inputs[0])
            return super().layer_inputs(compressed, inputs)

    monkeypatch.setattr("autocomp.evaluators.engines.OnnxEngine", Slow)
    found = search(data=None, inputs=(1, 3, 12, 12), time_limit=600, trials=2)
    assert found.float_point.samples == 8
    assert any(note.startswith("8 of 64 calibration samples were used") for note in found.notes)
    again = autocomp.load(found.save(tmp_path / "front"), network())
    assert list(again) == list(found) and again.evaluate(again.evaluated[1].plan) == again.evaluated[1]


@pytest.mark.parametrize("slow", ["trace", "evaluator_of", "calibrated_on"])
def test_what_stands_before_the_first_evaluation_counts(
    slow: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, step, plans = FakeClock.install(monkeypatch), getattr(jobs, slow), []
    evaluate = PlanEvaluator.evaluate

    def slowly(*arguments: Any, **settings: Any) -> Any:
        clock.now += 60
        return step(*arguments, **settings)

    def counted(self: PlanEvaluator, plan: Plan) -> Any:
        plans.append(plan)
        return evaluate(self, plan)

    monkeypatch.setattr(jobs, slow, slowly)
    monkeypatch.setattr(PlanEvaluator, "evaluate", counted)
    with caplog.at_level(logging.INFO, logger="autocomp"):
        found = search(time_limit=50)
    assert plans == [Plan()] and found.float_point.accuracy > 0 and len(found.evaluated) == 1
    assert "the time limit of 50 s was over before a plan was evaluated" in " ".join(found.notes)
    assert "preparing: tracing the network" in caplog.text and "prepared in 60.0 s: " in caplog.text


class TestUsualLimit:
    """Half an hour where neither trials nor a time limit are given and nothing is trained."""

    def test_it_ends_a_search_that_takes_longer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, evaluate = FakeClock.install(monkeypatch), PlanEvaluator.evaluate

        def slowly(self: PlanEvaluator, plan: Plan) -> Any:
            clock.now += 400
            return evaluate(self, plan)

        monkeypatch.setattr(PlanEvaluator, "evaluate", slowly)
        found = search(trials=None)
        assert found.settings["stopped"] == "the time limit of 1800 s" and found.settings["trials"] == 200
        assert 1 < len(found.evaluated) < 20
        said = f"the usual time limit of 30 minutes ended the search after {len(found.evaluated)} of 200 evaluations: "
        assert any(note.startswith(said) for note in found.notes)

    @pytest.mark.parametrize(
        ("trials", "time_limit", "trains", "bounds"),
        [
            (None, None, False, (200, 1800.0, True)),
            (None, None, True, (200, None, False)),
            (40, None, False, (40, None, False)),
            (None, 60.0, False, (200, 60.0, False)),
            (40, 60.0, True, (40, 60.0, False)),
        ],
    )
    def test_what_is_given_lifts_it(
        self, trials: int | None, time_limit: float | None, trains: bool, bounds: tuple[int, float | None, bool]
    ) -> None:
        assert usual_bounds(trials, time_limit, trains) == bounds
