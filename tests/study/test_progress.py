from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.problem.pareto import hypervolume
from autocomp.problem.record import Record
from autocomp.search_spaces import Plan
from autocomp.study.executors import executor
from autocomp.study.progress import Growth, RunningFront, SearchProgress
from autocomp.study.study import Study
from tests.toy import toy

SPACE, EVALUATOR, COSTS = toy(2)
RECORD = Study(SPACE, executor(EVALUATOR), COSTS, trials=1).run()[0]
FLOAT = RECORD.cost


def record(accuracy: float, share: float, violation: float = 0.0) -> Record:
    cost = replace(FLOAT, latency_ms=FLOAT.latency_ms * share, size_mb=FLOAT.size_mb * share)
    return Record(Plan(), (), replace(RECORD.measurement, accuracy=accuracy), cost, violation)


def front(records: Sequence[Record], objectives: tuple[str, ...] = ("latency",), **settings: bool) -> RunningFront:
    found = RunningFront(objectives, FLOAT, **settings)
    for one in records:
        found.add(one)
    return found


def test_hypervolume_by_hand() -> None:
    assert front([]).volume == 0
    assert front([record(0.8, 0.5)]).volume == pytest.approx(0.8 * 0.5)
    both = [record(0.8, 0.5), record(0.6, 0.25)]
    assert front(both).volume == pytest.approx(0.4 + 0.6 * 0.25)
    assert front(both, ("latency", "size")).volume == pytest.approx(0.8 * 0.25 + 0.6 * (0.75**2 - 0.25))
    assert front([record(0.9, 1.5)]).volume == 0
    assert front([*both, record(0.9, 0.1, violation=0.2)]).volume == front(both).volume


points = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=10)


@given(points)
def test_kept_up_to_date_it_is_what_all_together_span(found: list[tuple[int, int]]) -> None:
    records = [record(accuracy / 4, share / 4) for accuracy, share in found]
    running = RunningFront(("latency", "size"), FLOAT)
    for one in records:
        running.add(one)
        assert running.volume >= 0
    array = np.array([[1 - a / 4, s / 4, s / 4] for a, s in found]).reshape(-1, 3)
    assert running.volume == pytest.approx(hypervolume(array, np.ones(3)))


def test_the_best_is_the_most_accurate_or_under_a_bound_on_the_accuracy_the_cheapest() -> None:
    records = [record(0.9, 0.8), record(0.9, 0.6), record(0.85, 0.3), record(0.95, 0.1, violation=0.1)]
    assert front(records).best is records[1]
    assert front(records, cheapest=True).best is records[2]
    assert front(records[3:]).best is None and front(records[3:]).nearest == 0.1


def test_growth_is_over_after_so_many_batches_without_any() -> None:
    found, growth = RunningFront(("latency",), FLOAT), Growth(2)

    def batch(*records: Record) -> bool:
        for one in records:
            found.add(one)
        growth.add(found)
        return growth.over

    assert not batch(record(0.9, 1.0, 0.5)) and not batch(record(0.9, 1.0, 0.4))
    assert not batch(record(0.9, 1.0, 0.5)), "nearer to the budget than two batches before"
    assert not batch(record(0.8, 0.5))
    assert not batch() and batch(record(0.8001, 0.5)), "a gain of less than a thousandth"
    assert not batch(record(0.8, 0.4))
    endless = Growth(None)
    for _ in range(50):
        endless.add(found)
    assert not endless.over


def line(records: list[Record], capsys: pytest.CaptureFixture[str], shown: bool | None, **settings: float) -> str:
    with SearchProgress("latency", trials=10, shown=shown, **settings) as bar:
        bar.update(len(records), 0, front(records))
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)


@pytest.mark.usefixtures("terminal")
def test_shows_the_best_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    text = line([record(0.9, 1.0, 0.4), record(0.8, 0.5), record(0.7, 0.2)], capsys, shown=True)
    assert "3/10" in text and "best 80.00%" in text and "hypervolume 0.6100" in text and "left" in text


@pytest.mark.usefixtures("terminal")
def test_says_when_nothing_is_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none within the budget yet (nearest 40.0% over it)" in line([record(0.9, 1.0, 0.4)], capsys, shown=True)


@pytest.mark.parametrize("asked", [None, False])
def test_shows_nothing_where_there_is_no_terminal(asked: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert line([record(0.9, 1.0)], capsys, shown=asked) == ""


def test_where_there_is_no_terminal_lines_are_logged_now_and_then(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    with SearchProgress("latency", trials=10, shown=True) as bar:
        for done in range(1, 10):
            bar._logged -= 11.0
            bar.update(done, 0, front([record(0.8, 0.5)]))
        bar.update(10, 0, front([record(0.8, 0.5)]))
    assert capsys.readouterr().err == ""
    lines = [line.message for line in caplog.records]
    assert [line.split(" ")[0] for line in lines] == ["3/10", "6/10", "9/10", "10/10"]
    assert "evaluations, best 80.00% at" in lines[0] and "hypervolume 0.4000" in lines[0] and "left" in lines[0]


@pytest.mark.usefixtures("terminal")
def test_while_plans_are_scored_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress("latency", trials=10, shown=True) as bar:
        bar.scoring(12, 0.5)
    assert "scoring (12 plans)" in capsys.readouterr().err


def test_time_left_is_by_what_was_evaluated_now(capsys: pytest.CaptureFixture[str]) -> None:
    with SearchProgress("latency", trials=10, shown=True) as bar:
        assert bar._left(3, 3) == ""
        bar._start -= 30.0
        bar.scoring(12, 10.0)
        assert bar._left(6, 2) == "0:20 left"
    with SearchProgress("latency", trials=10, time_limit=37.0, shown=False) as bar:
        bar._start -= 30.0
        assert bar._left(6, 2) in ("0:07 left", "0:06 left")
