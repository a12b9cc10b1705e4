"""The scoring pass of a study is made once and kept where the evaluations are."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.evaluators import Measure, Scores, divergence
from autocomp.problem.budget import Budget
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import SENSITIVITY, ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)


def study(calls: list[int], storage: Path | None = None, fingerprint: str = "toy", sampler: str = "frontier") -> Study:
    def scores(measure: Measure) -> Scores:
        calls.append(1)
        return Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in SPACE.knobs))

    return Study(
        SPACE,
        InProcess(ToyEvaluator(SPACE)),
        partial(toy_costs, SPACE),
        budget=Budget.parse("latency<70%, accuracy>-20%"),
        sampler=sampler,
        trials=26,
        ledger=Ledger(SPACE, storage, fingerprint),
        scores=scores,
    )


def test_scores_are_measured_once_and_stored(tmp_path: Path) -> None:
    calls: list[int] = []
    first = study(calls, tmp_path / "run.db").run()
    again = study(calls, tmp_path / "run.db")
    assert [record.plan for record in again.run()] == [record.plan for record in first]
    assert again.reused == len(first) == 26
    assert len(calls) == 1


def test_scores_of_another_network_are_not_used(tmp_path: Path) -> None:
    calls: list[int] = []
    study(calls, tmp_path / "run.db", "one").run()
    study(calls, tmp_path / "run.db", "other").run()
    assert len(calls) == 2


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_that_need_no_scores_cost_none(sampler: str) -> None:
    calls: list[int] = []
    study(calls, sampler=sampler).run()
    assert not calls


def test_the_budget_reaches_the_sampler() -> None:
    found = study([])
    records = found.run()
    assert found._problem().min_accuracy == pytest.approx(records[0].measurement.accuracy - 0.2)
    assert all(record.cost.latency_ms <= 0.7 * records[0].cost.latency_ms for record in records[1:])
    assert sum(record.violation <= 0 for record in records) > 10


class Scoring(InProcess):
    """Says at once how much a plan diverges, and counts; waits or raises at the nth."""

    def __init__(self, at: int = 0, error: type[BaseException] | None = None, sleep: float = 0.0) -> None:
        super().__init__(ToyEvaluator(SPACE))
        self.at, self.error, self.sleep, self.asked = at, error, sleep, 0

    def ask(self, question: Any, plans: Sequence[Plan]) -> Generator[tuple[int, Any], None, None]:
        if question is not divergence:
            yield from super().ask(question, plans)
            return
        for i in reversed(range(len(plans))):
            self.asked += 1
            time.sleep(self.sleep)
            if self.asked == self.at and self.error is not None:
                raise self.error
            yield i, sum(SENSITIVITY[value] for value in plans[i].values())


def measured(measure: Measure) -> Scores:
    """Every value by itself, a call for each knob."""
    plans = [[Plan({knob.name: value}) for value in knob.values[1:]] for knob in SPACE.knobs]
    return Scores(tuple((0.0, *measure(of_knob)) for of_knob in plans))


def scoring(executor: Scoring, storage: Path | None = None, **settings: Any) -> Study:
    ledger = Ledger(SPACE, storage, "toy")
    return Study(SPACE, executor, partial(toy_costs, SPACE), ledger=ledger, scores=measured, trials=20, **settings)


def test_what_was_measured_comes_back_in_order() -> None:
    search = scoring(Scoring())
    search.run()
    found = Scores.from_json(search.ledger.recall("scores") or "", SPACE)
    assert found == Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in SPACE.knobs))


def test_the_time_limit_holds_while_scores_are_measured(tmp_path: Path) -> None:
    executor = Scoring(sleep=0.05)
    search = scoring(executor, tmp_path / "run.db", time_limit=0.4)
    started = time.monotonic()
    records = search.run()
    assert time.monotonic() - started < 1.5
    assert search.stopped == "the time limit of 0.4 s" and 2 <= executor.asked < 20
    assert [len(set(record.plan.values())) for record in records] == [0, 1, 1, 1, 1], "a format in all layers each"
    again = Scoring()
    assert len(scoring(again, tmp_path / "run.db").run()) == 20
    assert again.asked == 28 - executor.asked, "no plan is scored twice"


def test_ctrl_c_while_scores_are_measured_keeps_what_there_is(tmp_path: Path) -> None:
    search = scoring(Scoring(9, KeyboardInterrupt), tmp_path / "run.db")
    assert len(search.run()) == 5 and search.stopped == "interrupted"
    again = Scoring()
    assert [record.plan for record in scoring(again, tmp_path / "run.db").run()] == [
        record.plan for record in scoring(Scoring()).run()
    ]
    assert again.asked == 28 - 8
