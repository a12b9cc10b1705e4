from __future__ import annotations

import builtins
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator, Measurement
from autocomp.search_spaces import Plan
from autocomp.study.cluster.ray_workers import RayWorkers
from autocomp.study.executors import Executor, executor
from tests.toy import ToyEvaluator, toy

SPACE = toy(4)[0]
PLANS = [SPACE.decode((i % 5, i % 4, 0, 1, 0, 0, 0, 0)) for i in range(6)]


def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands first: Ray, once connected, is used whatever address is asked for."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("RAY_gcs_rpc_server_connect_timeout_s", "1")
    evaluate = executor(ToyEvaluator(SPACE), "auto")
    with pytest.raises(ConnectionError, match="no Ray cluster answers at workers='auto'"):
        evaluate.__enter__()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray that is there already, which an executor must use and leave as it is."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


def executor_of(evaluator: Evaluator, workers: int | str | None) -> Executor:
    if workers == "threads":
        evaluator.at_once, workers = 3, None  # type: ignore[attr-defined]
    return executor(evaluator, workers)


def results(evaluator: Evaluator, workers: int | str | None) -> dict[int, Measurement | EvaluationError]:
    with executor_of(evaluator, workers) as evaluate:
        return dict(evaluate.map(PLANS))


@pytest.mark.parametrize("workers", [None, "threads", 2])
@pytest.mark.usefixtures("cluster")
class TestEveryExecutor:
    def test_measures_every_plan(self, workers: int | str | None) -> None:
        evaluator = ToyEvaluator(SPACE)
        assert results(evaluator, workers) == {i: evaluator.evaluate(plan) for i, plan in enumerate(PLANS)}

    def test_errors_are_values_that_name_their_plan(self, workers: int | str | None) -> None:
        found = results(ToyEvaluator(SPACE, broken=(PLANS[3].key,)), workers)
        assert isinstance(found[3], EvaluationError)
        assert str(found[3]) == f"plan {PLANS[3]} could not be evaluated: the toy is broken"
        assert all(isinstance(found[i], Measurement) for i in (0, 1, 2, 4, 5))

    def test_any_error_of_an_evaluator_is_a_value(self, workers: int | str | None) -> None:
        found = results(Wrong(), workers)
        assert str(found[0]) == f"plan {PLANS[0]} could not be evaluated: Unpicklable: no such layer"

    def test_asks_whatever_can_be_asked(self, workers: int | str | None) -> None:
        with executor_of(ToyEvaluator(SPACE), workers) as evaluate:
            found = dict(evaluate.ask(length, [*PLANS[:2], Plan()]))
        assert [found[0], found[1]] == [len(PLANS[0]), len(PLANS[1])]
        assert str(found[2]) == "plan {} could not be evaluated: ValueError: empty"

    def test_maps_nothing_and_maps_twice(self, workers: int | str | None) -> None:
        with executor_of(ToyEvaluator(SPACE), workers) as evaluate:
            assert list(evaluate.map([])) == []
            assert dict(evaluate.map(PLANS[:2])) == dict(evaluate.map(PLANS[:2]))

    def test_what_is_finished_comes_before_the_rest_is(self, workers: int | str | None) -> None:
        with executor_of(ToyEvaluator(SPACE, sleep=0.3), workers) as evaluate:
            list(evaluate.map(PLANS[:2]))
            start = time.monotonic()
            running = evaluate.map(PLANS)
            next(running)
            assert time.monotonic() - start < 0.8
            running.close()


def test_threads_measure_plans_at_the_same_time_and_stop_when_the_rest_is_not_wanted() -> None:
    evaluator = Counting()
    with executor(evaluator) as evaluate:
        running = evaluate.map([*PLANS, *PLANS])
        next(running)
        running.close()
        evaluator.wanted.set()
    assert evaluator.most == evaluator.at_once == 3
    assert evaluator.begun <= 2 * evaluator.at_once


class Counting:
    """Waits until as many plans are measured at the same time as may be; those after them wait to be let through."""

    key, at_once = "counting", 3

    def __init__(self) -> None:
        self.begun, self.running, self.most = 0, 0, 0
        self.wanted = threading.Event()
        self._lock, self._full = threading.Lock(), threading.Barrier(self.at_once)

    def evaluate(self, plan: Plan) -> Measurement:
        with self._lock:
            self.begun += 1
            self.running += 1
            self.most, mine = max(self.most, self.running), self.begun
        if mine <= self.at_once:
            self._full.wait(timeout=60)
        else:
            self.wanted.wait(timeout=60)
        with self._lock:
            self.running -= 1
        return Measurement(0.5)


def length(evaluator: Evaluator, plan: Plan) -> int:
    if not plan:
        raise ValueError("empty")
    return len(plan)


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.held = lambda: None


class Wrong:
    key = "wrong"

    def evaluate(self, plan: Plan) -> Measurement:
        raise Unpicklable("no such layer")


class Locked:
    """Cannot be pickled."""

    key = "locked"

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def evaluate(self, plan: Plan) -> Measurement:
        return Measurement(0.5)


def processes_in(log: Path) -> set[str]:
    return {line.split()[0] for line in log.read_text().splitlines()}


class Meeting(ToyEvaluator):
    """Waits for a second process, for two minutes at most: workers do not start at the same time."""

    def evaluate(self, plan: Plan) -> Measurement:
        found = super().evaluate(plan)
        for _ in range(1200):
            if len(processes_in(Path(str(self.log)))) > 1:
                break
            time.sleep(0.1)
        return found


class Suicidal:
    key = "suicidal"

    def evaluate(self, plan: Plan) -> Measurement:
        os._exit(1)


@pytest.mark.usefixtures("cluster")
class TestRayWorkers:
    def test_workers_share_the_plans(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        results(Meeting(SPACE, log=str(log)), 2)
        processes = processes_in(log)
        assert len(processes) == 2 and str(os.getpid()) not in processes

    def test_a_killed_worker_is_replaced_and_its_plan_made_again(self, tmp_path: Path) -> None:
        killer, log = tmp_path / "killer", tmp_path / "log"
        killer.touch()
        evaluator = ToyEvaluator(SPACE, log=str(log))
        expected = {i: evaluator.evaluate(plan) for i, plan in enumerate(PLANS)}
        log.unlink()
        assert results(ToyEvaluator(SPACE, killer=str(killer), log=str(log)), 1) == expected
        assert not killer.exists()  # a worker found it, and was killed by SIGKILL
        lines = log.read_text().splitlines()
        assert len(lines) == len(PLANS) + 1 and len({line.split()[0] for line in lines}) == 2

    def test_a_plan_that_kills_every_worker_is_an_error(self) -> None:
        with executor(Suicidal(), 1) as evaluate:
            ((_, found),) = evaluate.map(PLANS[:1])
        assert isinstance(found, EvaluationError)
        assert f"plan {PLANS[0]} could not be evaluated: its worker died 3 times" in str(found)

    def test_no_more_workers_than_processors(self, caplog: pytest.LogCaptureFixture) -> None:
        assert len(results(ToyEvaluator(SPACE), 9)) == len(PLANS)
        assert "4 workers instead of 9" in caplog.text

    def test_an_evaluator_must_be_picklable(self) -> None:
        with pytest.raises(TypeError, match="an evaluator for Ray workers must be picklable, but"):
            executor(Locked(), 2)

    def test_workers_of_a_node_map_its_copy_of_the_data_and_hold_none(self) -> None:
        evaluator = ToyEvaluator(SPACE, sleep=0.2)
        evaluator.images = np.ones((40, 1_000_000), np.uint8)  # type: ignore[attr-defined]
        found: list[Any] = []
        with executor(evaluator, 2) as evaluate:
            for _, answer in evaluate.ask(where_images_lie, 200 * PLANS):
                found.append(answer)
                if len({process for process, _ in found}) == 2:  # however long the second takes to start
                    break
        assert all("plasma" in str(path) or "/dev/shm" in str(path) for _, path in found)
        assert len({process for process, _ in found}) == 2


def where_images_lie(evaluator: Any, plan: Plan) -> tuple[int, str]:
    """The process, and the file that is mapped to the place of the images in its memory."""
    evaluator.evaluate(plan)
    address = evaluator.images.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, path = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in span.split("-"))
        if start <= address < end:
            return os.getpid(), path
    return os.getpid(), ""


@pytest.mark.parametrize("workers", [0, -1, "many", "localhost:6379"])
def test_a_wrong_number_of_workers(workers: int | str) -> None:
    with pytest.raises(ValueError, match=f"workers must .*, but got workers={workers!r}"):
        executor(ToyEvaluator(SPACE), workers)


@pytest.mark.parametrize("workers", [True, 2.0])
def test_workers_of_a_wrong_type(workers: object) -> None:
    with pytest.raises(TypeError, match=f"workers must be None, a number, .* but got workers={workers!r}"):
        executor(ToyEvaluator(SPACE), workers)  # type: ignore[arg-type]


def test_without_ray_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def missing(name: str, *rest: object, **settings: object) -> object:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return imports(name, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"workers need Ray, .* pip install ray"):
        RayWorkers(ToyEvaluator(SPACE), 2)
    in_process: Executor = executor(ToyEvaluator(SPACE))
    assert dict(in_process.map(PLANS[:1]))
