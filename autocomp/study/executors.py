"""Executors evaluate plans: in this process, or by Ray workers on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import ModuleType, TracebackType
from typing import Any, Protocol, TypeVar

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator, Measurement
from autocomp.problem.arguments import check_workers
from autocomp.process.blas_threads import one_blas_thread
from autocomp.process.interrupts import own_termination
from autocomp.search_spaces import Plan

logger = logging.getLogger("autocomp")

RETRIES = 2  # of a plan whose worker died
PATIENCE_S = 10.0  # seconds to wait for free processors
MOST_WORKERS = 32  # most workers on a cluster

Result = Measurement | EvaluationError
Found = TypeVar("Found")
Question = Callable[[Any, Plan], Found]  # an importable function of an evaluator and a plan


class Executor(Protocol):
    """Evaluates plans, or asks its evaluator another question about them, between entering and leaving it.

    >>> with executor(evaluator, workers=2) as running:
    ...     dict(running.map([plan, other]))
    {1: Measurement(...), 0: EvaluationError('...')}
    """

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def map(self, plans: Sequence[Plan]) -> Generator[tuple[int, Result], None, None]:
        """The index of a plan and its result, as soon as it is finished; an error is a value, which names the plan."""
        ...

    def ask(
        self, question: Question[Found], plans: Sequence[Plan]
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        """Like ``map``, with the answer to the question; where the question raises, the error is a value."""
        ...


def executor(evaluator: Evaluator, workers: int | str | None = None) -> Executor:
    """None: this process. A number: so many Ray workers here. ``"auto"``, ``"ray://host:port"``: a Ray cluster."""
    check_workers(workers)
    return InProcess(evaluator) if workers is None else RayWorkers(evaluator, workers)


def evaluate(evaluator: Evaluator, plan: Plan) -> Measurement:
    return evaluator.evaluate(plan)


def answer(question: Question[Found], evaluator: Evaluator, plan: Plan) -> Found | EvaluationError:
    """The answer to the question, or the error, which names the plan."""
    try:
        return question(evaluator, plan)
    except Exception as error:
        reason = str(error) if isinstance(error, EvaluationError) else f"{type(error).__name__}: {error}"
        failure = EvaluationError(f"plan {plan} could not be evaluated: {reason}")
        failure.__cause__ = error
        return failure


class InProcess:
    """Evaluates in this process, one plan after the other; where the evaluator has a number ``at_once``, so many plans
    at a time in threads."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._at_once: int = getattr(evaluator, "at_once", 1)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def map(self, plans: Sequence[Plan]) -> Generator[tuple[int, Result], None, None]:
        return self.ask(evaluate, plans)

    def ask(
        self, question: Question[Found], plans: Sequence[Plan]
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        if self._at_once == 1:
            for i, plan in enumerate(plans):
                yield i, answer(question, self._evaluator, plan)
            return
        pool = ThreadPoolExecutor(self._at_once, "autocomp-plan")
        with one_blas_thread():
            try:
                asked = {pool.submit(answer, question, self._evaluator, plan): i for i, plan in enumerate(plans)}
                for future in as_completed(asked):
                    yield asked[future], future.result()
            finally:  # at a time limit or Ctrl-C: cancel the rest, and do not wait for running plans
                pool.shutdown(wait=False, cancel_futures=True)


class Worker:
    """The actor in a Ray worker: it loads the evaluator at the first plan, so that errors in loading are values."""

    def __init__(self) -> None:
        self._evaluator: Evaluator | None = None

    def answer(self, question: Question[Found], plan: Plan, shared: list[Any]) -> Found | EvaluationError:
        """``shared``: references to the pickled evaluator and to the driver's import path, both in Ray's object
        store."""
        try:
            if self._evaluator is None:
                self._evaluator = self._load(*shared)
        except Exception as error:
            return EvaluationError(f"the evaluator cannot be loaded in a worker: {type(error).__name__}: {error}")
        result = answer(question, self._evaluator, plan)
        if isinstance(result, EvaluationError):
            result.__cause__ = None  # need not be picklable
        return result

    @staticmethod
    def _load(pickled: Any, paths: Any) -> Evaluator:
        import ray

        # The modules of the evaluator's classes may be on the driver's import path only, as in a script's folder.
        sys.path.extend(path for path in ray.get(paths) if path not in sys.path)
        evaluator: Evaluator = pickle.loads(ray.get(pickled))
        return evaluator


class RayWorkers:
    """Ray actors that each hold the evaluator. Ray starts an actor again that died, and sends its plan again."""

    def __init__(self, evaluator: Evaluator, workers: int | str) -> None:
        self._ray = load_ray()
        self._workers = workers
        try:
            self._pickled: bytes = self._ray.cloudpickle.dumps(evaluator)
        except EvaluationError:  # its message already says what to do
            raise
        except Exception as error:
            raise TypeError(f"an evaluator for Ray workers must be picklable, but got {error}") from error
        self._actors: list[Any] = []
        self._shared: list[Any] = []
        self._started = False

    def __enter__(self) -> RayWorkers:
        ray = self._ray
        if not ray.is_initialized():
            self._connect()
            self._started = True
        try:
            actor = ray.remote(Worker).options(num_cpus=1, max_restarts=-1, max_task_retries=RETRIES)
            self._shared = [ray.put(self._pickled), ray.put([os.path.abspath(path) for path in sys.path])]
            self._actors = [actor.remote() for _ in range(self._count())]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def map(self, plans: Sequence[Plan]) -> Generator[tuple[int, Result], None, None]:
        return self.ask(evaluate, plans)

    def ask(
        self, question: Question[Found], plans: Sequence[Plan]
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        queued = deque(enumerate(plans))
        idle = deque(self._actors)
        running: dict[Any, tuple[Any, int]] = {}
        while queued or running:
            while queued and idle:
                i, plan = queued.popleft()
                actor = idle.popleft()
                running[actor.answer.remote(question, plan, self._shared)] = (actor, i)
            for done in self._ray.wait(list(running), num_returns=1)[0]:
                actor, i = running.pop(done)
                idle.append(actor)
                yield i, self._result(done, plans[i])

    def _result(self, done: Any, plan: Plan) -> Any:
        try:
            return self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            return EvaluationError(f"plan {plan} could not be evaluated: its worker died {RETRIES + 1} times: {reason}")

    @own_termination()
    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if isinstance(self._workers, str):
            try:
                self._ray.init(address=self._workers, **quiet)
            except Exception as error:
                raise ConnectionError(f"no Ray cluster answers at workers={self._workers!r}: {error}") from error
        else:
            # Ray would reserve a third of the machine's memory; workers share one copy of the evaluator.
            store = max(128_000_000, 4 * len(self._pickled))
            self._ray.init(
                address="local",
                num_cpus=self._workers,
                include_dashboard=False,
                object_store_memory=store,
                **quiet,
            )

    def _count(self) -> int:
        """As many workers as wanted, at most one for each processor: a worker without a processor would wait
        forever."""
        total = int(self._ray.cluster_resources().get("CPU", 0))
        wanted = min(self._workers if isinstance(self._workers, int) else MOST_WORKERS, total)
        deadline = time.monotonic() + PATIENCE_S
        while (free := self._free()) < wanted and time.monotonic() < deadline:
            time.sleep(0.1)  # workers of an earlier search release their processors late
        count = min(wanted, free)
        if count < 1:
            raise RuntimeError(f"workers need a free processor, but Ray has none free of {total}")
        if isinstance(self._workers, int) and count < self._workers:
            logger.warning("Ray has %d free processors: %d workers instead of %d", free, count, self._workers)
        return count

    def _free(self) -> int:
        return int(self._ray.available_resources().get("CPU", 0))

    def _stop(self) -> None:
        if self._ray.is_initialized():
            for actor in self._actors:
                self._ray.kill(actor)
            if self._started:
                self._ray.shutdown()
        self._actors, self._shared, self._started = [], [], False


def load_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"workers need Ray, which cannot be loaded ({error}); install it: pip install ray") from error
    return ray
