"""How far a search is, as others read it from its storage: while it runs, when it has ended, and after kill -9."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

from autocomp.evaluators import Measurement
from autocomp.study import announcing
from autocomp.study.executors import InProcess
from autocomp.study.lease import KEY as DRIVER
from autocomp.study.ledger import Ledger
from autocomp.study.status import SearchStatus, Snapshot, searches
from autocomp.study.storages import backend_of, url_of
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)
PLANS = [SPACE.decode(vector) for vector in ((1, 0, 0, 0, 0, 0, 0, 0), (2, 0, 1, 0, 0, 0, 0, 0))]


class Failing(ToyEvaluator):
    """The fifth and the ninth plan fail."""

    calls = 0

    def evaluate(self, plan: Any) -> Measurement:
        self.calls += 1
        if self.calls in (5, 9):
            self.broken = (plan.key,)
        return super().evaluate(plan)


def study(storage: str, **settings: Any) -> Study:
    given: dict[str, Any] = {"sampler": "nsga2", "trials": 24, "seed": 3} | settings
    ledger = Ledger(SPACE, storage, "toy")
    return Study(SPACE, InProcess(Failing(SPACE)), partial(toy_costs, SPACE), ledger=ledger, **given)


@pytest.fixture(params=["", "journal:///"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}{tmp_path / 'search.log'}"


def test_while_it_runs_and_when_it_has_ended(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcing, "EVERY_S", 0.0)
    seen: list[SearchStatus] = []
    search = study(storage, on_evaluation=lambda _: seen.extend(searches(storage)))
    search.run()
    running, failed = seen[-1], len(search.failures)
    assert running.state == "running" and running.driver == f"process {os.getpid()} on {socket.gethostname()}"
    assert running.sign_of_life_s is not None and running.sign_of_life_s < 60
    progress = running.progress
    assert progress is not None and progress.stopped is None and 0 < progress.done < 24 == progress.trials
    assert progress.rate is not None and progress.rate > 0 and progress.left_s is not None
    (ended,) = searches(storage)
    assert ended.state == "ended" and ended.driver is None
    assert ended.progress is not None and ended.progress.stopped == "24 evaluations"
    assert ended.progress.hypervolume == search.front.volume > 0
    assert failed == 2 and ended.failed == failed and ended.stored == 24 - failed
    assert ended.reasons == {"the toy is broken": failed}
    assert f"failed {failed} times: the toy is broken" in str(ended)


def test_a_search_whose_driver_was_killed_is_stopped(storage: str) -> None:
    study(storage).run()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    holder = {"id": "a", "pid": ended.pid, "host": f"{socket.gethostname()} {boot}", "beat": time.time()}
    backend = backend_of(url_of(storage))
    number = backend.get_all_studies()[0]._study_id
    backend.set_study_user_attr(number, DRIVER, json.dumps(holder))
    half = Snapshot(24, 12, 0, 0, 0.3, "best 90 %", 12.0, 60.0, 8, time.time(), time.time())
    backend.set_study_user_attr(number, "status", half.to_json())
    (found,) = searches(storage)
    assert found.state == "stopped" and found.driver == f"process {ended.pid} on {socket.gethostname()}"
    assert "12 of 24 evaluations" in str(found) and "12.0 a minute, 0:01:00 left" in str(found)


def test_a_dashboard_shows_named_parameters_values_and_why_trials_failed(storage: str) -> None:
    study(storage).run()
    (stored,) = optuna.get_all_study_summaries(backend_of(url_of(storage)))
    loaded = optuna.load_study(study_name=stored.study_name, storage=backend_of(url_of(storage)))
    assert loaded.metric_names == ["accuracy", "latency_ms", "size_mb"]
    for trial in loaded.trials:
        assert set(trial.params) == {knob.name for knob in SPACE.knobs}
        if trial.state == optuna.trial.TrialState.FAIL:
            assert trial.user_attrs["error"].endswith("the toy is broken")
        else:
            assert len(trial.values) == 3
