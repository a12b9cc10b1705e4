"""A search's time limit: everything from the call on counts, and what there is then is returned."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from autocomp.evaluators import PlanEvaluator
from autocomp.problem import jobs
from autocomp.search_spaces import Plan
from tests.clock import FakeClock
from tests.searching import search


def test_time_limit_ends_it_with_what_there_is() -> None:
    found = search(time_limit=1e-3)
    assert len(found.evaluated) == 1 and "time limit" in found.settings["stopped"]
    assert "the time limit of 0.001 s was over before a plan was evaluated" in " ".join(found.notes)
    assert any("layers are not pruned: the time limit left no time to try the cut" in note for note in found.notes)


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
