"""The loss of Ray's own processes, killed for real: Ray is started again, or the search goes on without it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from autocomp.evaluators import Measurement
from autocomp.study.cluster import ray_workers
from autocomp.study.cluster.broker import Settings
from autocomp.study.cluster.broker_link import BrokerLink, BrokerLostError
from autocomp.study.cluster.ray_workers import RayWorkers
from tests.toy import ToyEvaluator, toy_space

SPACE = toy_space(4)
PLANS = [SPACE.decode((i % 5, i % 4, i % 3, 1, 0, 0, 0, 0)) for i in range(12)]


def expected() -> dict[int, Measurement]:
    return {i: ToyEvaluator(SPACE, sleep=0.2).evaluate(plan) for i, plan in enumerate(PLANS)}


def children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *children(int(child))]
    return found


def kill(name: str) -> None:
    """Kills a process of the Ray that this process has started, through its broker."""
    named = [one for one in children(os.getpid()) if Path(f"/proc/{one}/comm").read_text().strip() == name]
    os.kill(named[0], signal.SIGKILL)


def test_a_lost_raylet_and_a_lost_head_cost_no_plan(caplog: pytest.LogCaptureFixture) -> None:
    with RayWorkers(ToyEvaluator(SPACE, sleep=0.2), 2) as workers:
        for name in ("raylet", "gcs_server"):
            running = workers.map(PLANS)
            found = [next(running)]
            kill(name)
            found += list(running)
            assert sorted(i for i, _ in found) == list(range(len(PLANS)))
            assert dict(found) == expected()
            assert f"Ray's {name} has ended" in caplog.text
    assert caplog.text.count("it is started again in 0 s") == 2
    assert not [one for one in children(os.getpid()) if "ray" in Path(f"/proc/{one}/cmdline").read_text()]


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster that this process is not connected to, with two processors."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "3")
    monkeypatch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


def test_a_cluster_that_stays_lost_is_given_up(
    head: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ray_workers, "PAUSES_S", (0.0, 0.1))
    with RayWorkers(ToyEvaluator(SPACE, sleep=0.2), "auto") as workers:
        assert workers.width == 2
        running = workers.map(PLANS)
        found = [next(running)]
        head.head_node.kill_gcs_server()
        head.head_node.kill_raylet()
        found += list(running)
        assert sorted(i for i, _ in found) == list(range(len(PLANS)))
        assert dict(found) == expected()
        assert "the search goes on in this process" in caplog.text
        assert dict(workers.map(PLANS[:2])) == {i: expected()[i] for i in (0, 1)}


def test_folders_that_hide_modules_of_python_do_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore's mixed precision puts such a folder before all others, after Python's own modules were imported."""
    for name in ("queue", "subprocess", "dataclasses"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not that of Python')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with RayWorkers(ToyEvaluator(SPACE), 1) as workers:
        found = dict(workers.map(PLANS[:2]))
    assert found == {i: ToyEvaluator(SPACE).evaluate(PLANS[i]) for i in range(2)}


def test_what_ends_it_is_said() -> None:
    with pytest.raises(BrokerLostError, match=r"it has ended: ModuleNotFoundError: No module named 'autocomp'"):
        BrokerLink(Settings(None, 1, "search", paths=[], buffers=1), [bytes(10_000_000)])
