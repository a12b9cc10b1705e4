"""A search that is killed is continued; serial and parallel searches find the same."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from autocomp.evaluators import Measurement, PlanEvaluator
from tests.searching import TRIALS, observed, search

ROOT = Path(__file__).resolve().parents[2]
ENOUGH = 6  # evaluations stored before the kill


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    return json.loads(json.dumps(observed(search())))


def start(storage: Path, *arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "tests.searching", str(storage), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=pipe, stderr=pipe, text=True
    )


def finished(storage: Path) -> int:
    """Evaluations that the storage holds."""
    if not storage.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{storage}?mode=ro", uri=True, timeout=1) as database:
            return int(database.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def sent_in_mid_search(number: signal.Signals, storage: Path, *arguments: str) -> subprocess.Popen[str]:
    search = start(storage, *arguments)
    deadline = time.monotonic() + 300
    while finished(storage) < ENOUGH and search.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    search.send_signal(number)
    return search


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGINT, ("2",)), (signal.SIGTERM, ("2",))],
)
def test_ended_search_gives_what_it_found(
    number: signal.Signals, workers: tuple[str, ...], tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    search = sent_in_mid_search(number, tmp_path / "search.db", *workers)
    output, errors = search.communicate(timeout=300)
    assert search.returncode == 0, errors
    found = json.loads(output.splitlines()[-1])
    assert found["stopped"] == "interrupted"
    assert ENOUGH <= len(found["evaluated"]) < TRIALS
    assert all(one in undisturbed["evaluated"] for one in found["evaluated"])


def test_killed_search_goes_on_where_it_was(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    storage = tmp_path / "search.db"
    first = sent_in_mid_search(signal.SIGKILL, storage)
    _, errors = first.communicate()
    assert first.returncode == -signal.SIGKILL, f"it must be killed in mid-search, but it ended before: {errors}"
    kept = finished(storage)
    assert ENOUGH <= kept < TRIALS

    second = start(storage)
    output, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors
    found = json.loads(output.splitlines()[-1])
    assert found.pop("evaluations") == TRIALS - kept
    assert found.pop("stopped") == f"{TRIALS} evaluations"
    assert found == undisturbed
    assert finished(storage) == TRIALS


def test_finished_search_evaluates_nothing_again(
    tmp_path: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "search.db"
    assert json.loads(json.dumps(observed(search(storage=storage)))) == undisturbed

    def evaluate(self: PlanEvaluator, plan: Any) -> Measurement:
        raise AssertionError("nothing is to be evaluated")

    monkeypatch.setattr(PlanEvaluator, "evaluate", evaluate)
    assert json.loads(json.dumps(observed(search(storage=storage)))) == undisturbed


def test_workers_find_the_same(undisturbed: dict[str, Any]) -> None:
    assert json.loads(json.dumps(observed(search(workers=2)))) == undisturbed


def test_workers_share_the_scoring_pass() -> None:
    settings: dict[str, Any] = {"sampler": "auto", "trials": 10}
    assert observed(search(workers=2, **settings)) == observed(search(**settings))


def test_another_seed_finds_something_else(undisturbed: dict[str, Any]) -> None:
    other = json.loads(json.dumps(observed(search(seed=4))))
    assert other["evaluated"][0] == undisturbed["evaluated"][0], "the float network comes first in any case"
    assert other["evaluated"] != undisturbed["evaluated"]
