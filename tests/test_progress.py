from __future__ import annotations

from dataclasses import replace

import pytest

from autocomp.executors import executor
from autocomp.progress import SearchProgress, hypervolume
from autocomp.search_spaces import Plan
from autocomp.study import Record, Study
from tests.toy import toy

SPACE, EVALUATOR, COSTS = toy(2)
RECORD = Study(SPACE, executor(EVALUATOR), COSTS, trials=1).run()[0]
FLOAT = RECORD.cost


def record(accuracy: float, share: float, violation: float = 0.0) -> Record:
    cost = replace(FLOAT, latency_ms=FLOAT.latency_ms * share, size_mb=FLOAT.size_mb * share)
    return Record(Plan(), (), replace(RECORD.measurement, accuracy=accuracy), cost, violation)


def test_hypervolume_by_hand() -> None:
    assert hypervolume([], ("latency",), FLOAT) == 0
    assert hypervolume([record(0.8, 0.5)], ("latency",), FLOAT) == pytest.approx(0.8 * 0.5)
    both = [record(0.8, 0.5), record(0.6, 0.25)]
    assert hypervolume(both, ("latency",), FLOAT) == pytest.approx(0.4 + 0.6 * 0.25)
    assert hypervolume(both, ("latency", "size"), FLOAT) == pytest.approx(0.8 * 0.25 + 0.6 * (0.75**2 - 0.25))
    assert hypervolume([record(0.9, 1.5)], ("latency",), FLOAT) == 0


def line(records: list[Record], capsys: pytest.CaptureFixture[str], shown: bool | None) -> str:
    with SearchProgress(("latency",), FLOAT, trials=10, shown=shown) as bar:
        bar.update(len(records), records)
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_shows_the_best_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    text = line([record(0.9, 1.0, 0.4), record(0.8, 0.5), record(0.7, 0.2)], capsys, shown=True)
    assert "3/10" in text and "best 80.00%" in text and "hypervolume 0.6100" in text and "left" in text


def test_says_when_nothing_is_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none within the budget yet (nearest 40.0% over it)" in line([record(0.9, 1.0, 0.4)], capsys, shown=True)


@pytest.mark.parametrize("asked", [None, False])
def test_shows_nothing_where_there_is_no_terminal(asked: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert line([record(0.9, 1.0)], capsys, shown=asked) == ""
