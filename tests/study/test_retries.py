"""What may pass is tried again: an evaluation that raises, a score, a storage that cannot be written for a moment."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measure, Measurement, Scores
from autocomp.search_spaces import Plan, SearchSpace
from autocomp.study import answers, retries
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import SENSITIVITY, ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PAUSE_S", 0.0)
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.0, 0.0))


class Passing(ToyEvaluator):
    """Each plan's evaluation raises as often as ``times``, then works; so does its scoring."""

    error: Exception = OSError("no space left on device")
    times = 2

    def __init__(self, space: SearchSpace, broken: tuple[str, ...] = ()) -> None:
        super().__init__(space, broken=broken)
        self.raised: dict[str, int] = {}

    def evaluate(self, plan: Plan) -> Measurement:
        self._raise(plan)
        return super().evaluate(plan)

    def _raise(self, plan: Plan) -> None:
        self.raised[plan.key] = self.raised.get(plan.key, 0) + 1
        if self.raised[plan.key] <= self.times and plan:
            raise self.error


def study(evaluator: ToyEvaluator, storage: Path | None = None, **settings: Any) -> Study:
    given: dict[str, Any] = {"sampler": "nsga2", "trials": 24, "seed": 3} | settings
    costs = partial(toy_costs, SPACE)
    return Study(SPACE, InProcess(evaluator), costs, ledger=Ledger(SPACE, storage, "toy"), **given)


def found(search: Study) -> list[tuple[Plan, float]]:
    return [(record.plan, record.measurement.accuracy) for record in search.run()]


class TestEvaluations:
    def test_what_raises_twice_is_evaluated_the_third_time(self) -> None:
        passing = Passing(SPACE)
        assert found(study(passing)) == found(study(ToyEvaluator(SPACE)))
        assert max(passing.raised.values()) == 3

    def test_after_three_failures_it_is_recorded_with_its_reason(self) -> None:
        passing = Passing(SPACE, broken=())
        passing.times = 3
        (result,) = dict(InProcess(passing).map([Plan({"format/l0": "w8"})])).values()
        assert isinstance(result, EvaluationError)
        assert str(result).endswith("could not be evaluated: OSError: no space left on device")

    def test_what_says_something_of_the_plan_is_not_tried_again(self) -> None:
        passing = Passing(SPACE)
        passing.error = EvaluationError("outputs are not finite")
        dict(InProcess(passing).map([Plan({"format/l0": "w8"})]))
        assert max(passing.raised.values()) == 1


class TestScores:
    """One plan of the scoring pass fails in all its tries, for a reason that passes before the next search."""

    def scores(self, measure: Measure) -> Scores:
        plans = [Plan({knob.name: value}) for knob in SPACE.knobs for value in knob.values[1:]]
        values = iter(measure(plans))
        return Scores(tuple((0.0, *(next(values) for _ in knob.values[1:])) for knob in SPACE.knobs))

    def searched(self, monkeypatch: pytest.MonkeyPatch, storage: Path, reason: str) -> Study:
        def divergence(_: Any, plan: Plan) -> float:
            if reason and plan == Plan({"format/l1": "w8"}):
                raise RuntimeError(reason)
            return sum(SENSITIVITY[value] for value in plan.values())

        monkeypatch.setattr("autocomp.study.scoring.divergence", divergence)
        search = study(ToyEvaluator(SPACE), storage, sampler="frontier", scores=self.scores)
        search.run()
        return search

    def stored(self, search: Study) -> Scores | None:
        return Scores.from_json(search.ledger.recall("scores") or "", SPACE)

    def test_a_passing_failure_is_not_stored(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.searched(monkeypatch, tmp_path / "run.db", "no space left on device")
        assert self.stored(first) is None and len(first.records) == 24
        again = self.stored(self.searched(monkeypatch, tmp_path / "run.db", ""))
        assert again is not None and max(map(max, again.sensitivity)) < 10
        assert again == self.stored(self.searched(monkeypatch, tmp_path / "undisturbed.db", ""))

    def test_a_plan_that_ruins_the_network_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.stored(self.searched(monkeypatch, tmp_path / "run.db", "the outputs are not finite"))
        assert first is not None and max(map(max, first.sensitivity)) == 10


class Storage:
    """Raises at these writes of a ledger; with ``late`` it has written before it raises."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, calls: range, late: bool = False) -> None:
        self.calls, self.late, self.count = calls, late, 0
        self.original = ledger._write
        monkeypatch.setattr(ledger, "_write", self)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.count += 1
        fails = self.count in self.calls
        if fails and not self.late:
            raise sqlite3.OperationalError("database or disk is full")
        result = self.original(*given, **named)
        if fails:
            raise ConnectionResetError("the server closed the connection")
        return result


def rows(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])


class TestStorage:
    @pytest.mark.parametrize("late", [False, True])
    def test_a_moment_without_it_costs_nothing(
        self, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search = study(ToyEvaluator(SPACE), tmp_path / "run.db")
        storage = Storage(search.ledger, monkeypatch, range(5, 8), late)
        assert found(search) == found(study(ToyEvaluator(SPACE)))
        assert storage.count >= 24 and rows(tmp_path / "run.db") == 24

    def test_without_it_the_search_ends_with_what_was_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        search = study(ToyEvaluator(SPACE), tmp_path / "run.db")
        Storage(search.ledger, monkeypatch, range(5, 99))
        assert len(search.run()) == 5
        assert search.stopped == (
            f"an error: storage {str(tmp_path / 'run.db')!r} could not be written in 4 tries over 0 s: "
            "database or disk is full"
        )
        assert search.notes == (f"the search ended after 5 evaluations by {search.stopped}",)

    def test_a_reason_is_one_line_without_sql(self) -> None:
        error = RuntimeError("disk is full\n[SQL: INSERT INTO trials ...]\n(Background on this error at: ...)")
        assert retries.first_sentence(error) == "disk is full"
