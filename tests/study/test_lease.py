"""Two drivers on one storage: the second is refused while the first lives, and continues a dead one's search."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.study import lease
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)


def study(path: Path, sleep: float = 0.0) -> Study:
    costs = partial(toy_costs, SPACE)
    running = InProcess(ToyEvaluator(SPACE, sleep=sleep))
    return Study(SPACE, running, costs, ledger=Ledger(SPACE, path, "toy"), trials=16, sampler="nsga2")


def holder(ledger: Ledger) -> dict[str, Any]:
    assert ledger._study is not None
    return dict(json.loads(ledger._study.user_attrs[lease.KEY]))


def held_by(path: Path, **changed: Any) -> None:
    """The storage as a driver leaves it that is killed in mid-search, or still runs."""
    ledger = Ledger(SPACE, path, "toy")
    assert ledger._study is not None
    mine = {"id": "other", "pid": 1, "host": lease._host(), "beat": time.time()} | changed
    ledger._study._storage.set_study_user_attr(ledger._study._study_id, lease.KEY, json.dumps(mine))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_a_second_driver_is_refused_while_the_first_searches(path: Path) -> None:
    first, began = study(path, 0.2), threading.Event()
    first.on_evaluation = lambda _: began.set()
    thread = threading.Thread(target=first.run)
    thread.start()
    began.wait(60)
    second = study(path)
    with pytest.raises(OSError, match=r"run\.db' is in use: the same search runs in process \d+ on .* \(last sign of"):
        second.run()
    thread.join()
    assert first.stopped == "16 evaluations" and not second.records
    assert len(study(path).run()) == 16, "a search that has ended holds nothing"


def test_a_driver_of_another_machine_lives_as_long_as_it_beats(path: Path) -> None:
    held_by(path, host="elsewhere boot")
    with pytest.raises(OSError, match=r"runs in process 1 on elsewhere \(last sign of life \d s ago\)"):
        study(path).run()
    held_by(path, host="elsewhere boot", beat=time.time() - lease.STALE_S - 1)
    assert len(study(path).run()) == 16


def test_a_killed_driver_of_this_machine_holds_nothing(path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held_by(path, pid=ended.pid)
    assert len(study(path).run()) == 16


def test_one_that_is_killed_but_not_yet_collected_holds_nothing(path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "import os; os._exit(3)"], stdout=subprocess.PIPE)
    assert ended.stdout is not None and ended.stdout.read() == b""
    while lease._runs(ended.pid):
        time.sleep(0.01)
    held_by(path, pid=ended.pid)
    assert len(study(path).run()) == 16
    ended.wait()


def test_it_beats_while_a_plan_is_evaluated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "BEAT_S", 0.02)
    ledger = Ledger(SPACE, path, "toy")
    with ledger.held():
        first = holder(ledger)["beat"]
        end = time.monotonic() + 60
        while holder(ledger)["beat"] == first and time.monotonic() < end:
            time.sleep(0.02)
        assert holder(ledger)["beat"] > first
    assert holder(ledger) == {}


def test_of_two_that_begin_at_the_same_time_one_searches(path: Path) -> None:
    ledgers = [Ledger(SPACE, path, "toy") for _ in range(2)]
    said: list[str] = []
    barrier, done = threading.Barrier(2), threading.Event()

    def begin(ledger: Ledger) -> None:
        barrier.wait()
        try:
            with ledger.held():
                said.append("held")
                done.wait(60)
        except OSError as error:
            said.append("refused" if "is in use" in str(error) else str(error))
            done.set()

    threads = [threading.Thread(target=begin, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["held", "refused"]


def test_what_is_no_driver_is_taken_as_none(path: Path) -> None:
    ledger = Ledger(SPACE, path, "toy")
    assert ledger._study is not None
    for text in ("nonsense", "[]", '{"pid": 1}'):
        ledger._study._storage.set_study_user_attr(ledger._study._study_id, lease.KEY, text)
        with ledger.held():
            pass
