"""The scoring pass of a study is made once and kept where the evaluations are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measure, Scores, divergence
from autocomp.problem.budget import Budget
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.clock import FakeClock
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
    """Says how much a plan diverges, and counts; raises at the nth."""

    def __init__(self, at: int = 0, error: type[BaseException] | None = None) -> None:
        super().__init__(ToyEvaluator(SPACE))
        self.at, self.error, self.asked = at, error, 0
        self.wait: Callable[[], None] = lambda: None

    def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
        if question is not divergence:
            yield from super().ask(question, plans, more)
            return
        for i in reversed(range(len(plans))):
            self.asked += 1
            self.wait()
            if self.asked == self.at and self.error is not None:
                raise self.error
            yield i, sum(SENSITIVITY[value] for value in plans[i].values())


def measured(measure: Measure) -> Scores:
    """Every value by itself, a call for each knob."""
    plans = [[Plan({knob.name: value}) for value in knob.values[1:]] for knob in SPACE.knobs]
    return Scores(tuple((0.0, *np.nan_to_num(measure(of_knob), nan=0.1)) for of_knob in plans))


def scoring(
    executor: Scoring, storage: Path | None = None, measure: Callable[[Measure], Scores] = measured, **settings: Any
) -> Study:
    ledger = Ledger(SPACE, storage, "toy")
    return Study(SPACE, executor, partial(toy_costs, SPACE), ledger=ledger, scores=measure, trials=20, **settings)


def test_what_was_measured_comes_back_in_order() -> None:
    search = scoring(Scoring())
    search.run()
    found = Scores.from_json(search.ledger.recall("scores") or "", SPACE)
    assert found == Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in SPACE.knobs))


def on_clock(clock: FakeClock, seconds: Callable[[int], float]) -> Scoring:
    """Plans take so many seconds of the clock to be scored, the first ``seconds(1)``."""
    executor = Scoring()
    executor.wait = lambda: setattr(clock, "now", clock.now + seconds(executor.asked))
    return executor


def test_the_time_limit_holds_while_scores_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock.install(monkeypatch)
    executor = on_clock(clock, lambda number: 1.0 if number < 8 else 100.0)
    search = scoring(executor, tmp_path / "run.db", time_limit=40)
    records = search.run()
    assert search.stopped == "the time limit of 40 s" and executor.asked == 8
    assert [len(set(record.plan.values())) for record in records] == [0, 1, 1, 1, 1], "a format in all layers each"
    again = Scoring()
    assert len(scoring(again, tmp_path / "run.db").run()) == 20
    assert again.asked == 28 - 8, "no plan is scored twice"


@pytest.mark.parametrize(("limit", "asked"), [(20, 10), (40, 20), (2, 1), (55, 28), (56, 28), (100, 28)])
def test_scoring_ends_at_its_share_and_the_search_goes_on(
    limit: float, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = on_clock(FakeClock.install(monkeypatch), lambda _: 1.0)
    search = scoring(executor, tmp_path / "run.db", time_limit=limit)
    assert len(search.run()) == 20 and search.stopped == "20 evaluations"
    assert executor.asked == asked
    said = f"{asked} of 28 plans were scored within the time limit's share"
    assert (said in " ".join(search.notes)) == (asked < 28)
    assert (search.ledger.recall("scores") is None) == (asked < 28), "scores that were estimated are not stored"
    continued = Scoring()
    unlimited = scoring(continued, tmp_path / "run.db")
    unlimited.run()
    assert continued.asked == 28 - asked and unlimited.notes == ()


def test_no_plan_is_scored_where_preparation_used_the_time_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock.install(monkeypatch)
    deadline = Deadline(60)
    clock.now += 61.4
    executor = Scoring()
    search = scoring(executor, time_limit=60, deadline=deadline)
    assert [record.plan for record in search.run()] == [Plan()]
    assert search.stopped == "the time limit of 60 s" and executor.asked == 0
    assert search.notes == (
        "the time limit of 60 s was over before a plan was evaluated (what stands before the first evaluation took "
        "61 s): give it more",
    )


class Failing(Scoring):
    """Of the plans to be scored these fail, by their number, each with the reason."""

    def __init__(self, fails: Callable[[int], str]) -> None:
        super().__init__()
        self.fails = fails

    def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
        for number, (i, found) in enumerate(super().ask(question, plans, more)):
            reason = self.fails(number) if question is divergence else ""
            yield i, EvaluationError(f"plan {plans[i]} could not be scored: {reason}") if reason else found


def measured_at_once(measure: Measure) -> Scores:
    plans = [Plan({knob.name: value}) for knob in SPACE.knobs for value in knob.values[1:]]
    found = iter(measure(plans))
    return Scores(tuple((0.0, *(next(found) for _ in knob.values[1:])) for knob in SPACE.knobs))


class TestFailures:
    @pytest.mark.parametrize(
        ("fails", "sentence"),
        [
            (lambda _: "no module named mine", "no module named mine"),
            (lambda i: "no such operator" if i % 3 == 0 else "", "no such operator"),
            (lambda i: "no such operator" if i % 2 else f"reason {i}", "no such operator"),
        ],
    )
    def test_many_for_one_reason_end_the_search(self, fails: Callable[[int], str], sentence: str) -> None:
        search = scoring(Failing(fails), measure=measured_at_once)
        assert len(search.run()) == 5, "the float network and a format in all layers each"
        assert search.stopped is not None and search.stopped.startswith("an error: 8 of 28 plans could not be scored: ")
        assert search.stopped.endswith(sentence)
        assert search.notes[0] == f"the search ended after 5 evaluations by {search.stopped}"
        assert "of 28 plans could not be scored" in search.notes[1]

    def test_a_few_calls_of_few_plans_count_together(self) -> None:
        search = scoring(Failing(lambda i: "no such operator" if i == 0 else ""))
        search.run()
        assert search.stopped is not None and search.stopped.startswith("an error: 4 of ")

    @pytest.mark.parametrize(
        "fails", [lambda i: f"reason {i}" if i % 3 == 0 else "", lambda i: "once" if i < 3 else ""]
    )
    def test_others_are_noted(self, fails: Callable[[int], str], tmp_path: Path) -> None:
        search = scoring(Failing(fails), tmp_path / "run.db", measure=measured_at_once)
        assert len(search.run()) == 20 and search.stopped == "20 evaluations"
        assert " of 28 plans could not be scored" in search.notes[0]
        again = Scoring()
        more = scoring(again, tmp_path / "run.db", measure=measured_at_once)
        more.ledger.remember("scores", "")
        more.run()
        assert again.asked == int(search.notes[0].split()[0]), "what failed is scored again"


def test_ctrl_c_while_scores_are_measured_keeps_what_there_is(tmp_path: Path) -> None:
    search = scoring(Scoring(9, KeyboardInterrupt), tmp_path / "run.db")
    assert len(search.run()) == 5 and search.stopped == "interrupted"
    again = Scoring()
    assert [record.plan for record in scoring(again, tmp_path / "run.db").run()] == [
        record.plan for record in scoring(Scoring()).run()
    ]
    assert again.asked == 28 - 8
