"""Faults of a cluster of several nodes: what is lost is made again elsewhere, and nothing waits for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import types
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.evaluators import Measurement
from autocomp.search_spaces import Plan
from autocomp.study.cluster.ray_workers import RayWorkers
from autocomp.study.executors import InProcess, executor
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy, toy_costs

SPACE = toy(4)[0]
PLANS = [SPACE.decode((i % 5, i % 4, i % 3, 1, 0, 0, 0, 0)) for i in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, which the driver is on, and a node of one processor."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    import ray

    ray.init(address=started.address, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> Iterator[list[Any]]:
    """Two nodes of one processor each."""
    added = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield added
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)


def expected() -> dict[int, Measurement]:
    return {i: ToyEvaluator(SPACE, sleep=0.3).evaluate(plan) for i, plan in enumerate(PLANS)}


class TestNodes:
    def test_a_lost_node_costs_nothing_and_one_that_joins_is_used(
        self, cluster: Any, nodes: list[Any], tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        evaluator = ToyEvaluator(SPACE, sleep=0.3, log=str(log))
        with RayWorkers(evaluator, 2) as workers:
            assert len(dict(workers.map(PLANS))) == len(PLANS)
            assert len(processes(log)) == 2
            running = workers.map(PLANS)
            found = dict([next(running)])
            cluster.remove_node(nodes[0], allow_graceful=False)
            found |= dict(running)
            assert found == expected()
            before = processes(log)
            cluster.add_node(num_cpus=1)
            start = time.monotonic()
            while len(processes(log)) == len(before):
                assert time.monotonic() - start < 30, "the node that joined is not used"
                dict(workers.map(PLANS[:4]))

    def test_a_worker_that_cannot_load_eats_no_plans(self, nodes: list[Any], tmp_path: Path) -> None:
        evaluator = LoadedElsewhere(SPACE, sleep=0.1, log=str(tmp_path / "log"))
        with RayWorkers(evaluator, 2) as workers:
            found = dict(workers.map([*PLANS, *PLANS]))
        assert all(isinstance(one, Measurement) for one in found.values()) and len(found) == 24
        assert len(processes(tmp_path / "log")) == 1


class LoadedElsewhere(ToyEvaluator):
    """Only the first worker can load it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        assert self.log is not None
        os.close(os.open(f"{self.log}.lock", os.O_CREAT | os.O_EXCL))


@dataclass
class Fragile(ToyEvaluator):
    """Each sixth plan or so kills the first worker that evaluates it; the folder remembers which did."""

    folder: Path = Path()

    def evaluate(self, plan: Plan) -> Measurement:
        if zlib.crc32(plan.key.encode()) % 6 == 0:
            first = self.folder / f"{zlib.crc32(plan.key.encode())}"
            if not first.exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(plan)


def processes(log: Path) -> set[str]:
    return {line.split()[0] for line in log.read_text().splitlines()}


class Stopping(ToyEvaluator):
    """The first worker that finds the file stops for good, as on a machine that swaps or in a metric that waits."""

    def evaluate(self, plan: Plan) -> Measurement:
        if self.killer is not None and os.path.exists(self.killer):
            os.remove(self.killer)
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().evaluate(plan)


class Hanging(ToyEvaluator):
    """Hangs for one plan."""

    def evaluate(self, plan: Plan) -> Measurement:
        if plan == PLANS[3]:
            time.sleep(1000)
        return super().evaluate(plan)


@pytest.mark.usefixtures("nodes")
class TestLimit:
    def test_a_worker_that_stands_still_is_replaced_and_its_plan_made_again(self, tmp_path: Path) -> None:
        killer = tmp_path / "killer"
        with RayWorkers(Stopping(SPACE, killer=str(killer)), 1) as workers:
            dict(workers.map(PLANS[:1]))
            workers.evaluation_limit = 2.0
            killer.touch()
            assert dict(workers.map(PLANS)) == {i: ToyEvaluator(SPACE).evaluate(plan) for i, plan in enumerate(PLANS)}

    def test_a_plan_that_hangs_costs_its_limits_and_no_more(self) -> None:
        with RayWorkers(Hanging(SPACE), 2) as workers:
            workers.evaluation_limit = 1.5
            found = dict(workers.map(PLANS))
        assert str(found.pop(3)).endswith("it took longer than the limit of 1.5 s, 2 times")
        assert all(isinstance(one, Measurement) for one in found.values())


def in_memory(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(source, module.__dict__)
    return module


@pytest.mark.usefixtures("nodes")
def test_an_evaluator_of_a_module_that_only_this_process_has() -> None:
    source = (
        "from autocomp.evaluators import Measurement\n"
        "half = 0.5\n"
        "class Mine:\n"
        "    key = 'mine'\n"
        "    measure = staticmethod(lambda plan: half)\n"
        "    def evaluate(self, plan):\n"
        "        return Measurement(self.measure(plan))\n"
    )
    mine = in_memory("cluster_subject", source).Mine
    del sys.modules["cluster_subject"].__dict__["__builtins__"]
    with executor(mine(), 1) as workers:
        assert dict(workers.map(PLANS[:2])) == {0: Measurement(0.5), 1: Measurement(0.5)}
    del sys.modules["cluster_subject"]


@pytest.mark.usefixtures("cluster")
def test_no_processor_at_all_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    with RayWorkers(ToyEvaluator(SPACE), 2, start_s=2.0) as workers:
        assert len(dict(workers.map(PLANS))) == len(PLANS)
    assert "the search goes on in this process" in caplog.text


@pytest.mark.usefixtures("nodes")
def test_the_same_front_where_workers_die_again_and_again(tmp_path: Path) -> None:
    def records(running: Any) -> list[tuple[Plan, float]]:
        costs = partial(toy_costs, SPACE)
        study = Study(SPACE, running, costs, sampler="nsga2", trials=24, seed=3)
        return [(record.plan, record.measurement.accuracy) for record in study.run()]

    assert records(RayWorkers(Fragile(SPACE, folder=tmp_path), 2)) == records(InProcess(ToyEvaluator(SPACE)))
    assert len(list(tmp_path.iterdir())) >= 2


def test_an_error_names_what_cannot_travel() -> None:
    evaluator = ToyEvaluator(SPACE)
    evaluator.helper = types.SimpleNamespace(lock=threading.Lock())  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"must be picklable, but got evaluator\.helper\.lock \(a lock\): "):
        RayWorkers(evaluator, 2)


def test_a_metric_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def guarded() -> bool:
        return lock.locked()

    evaluator = ToyEvaluator(SPACE)
    evaluator.metric = guarded  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=r"must be picklable, but got evaluator\.metric\.lock \(a lock\): "):
        RayWorkers(evaluator, 2)
