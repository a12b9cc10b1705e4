"""Evaluates plans on Ray workers, of this machine or of a cluster; where the cluster is lost, in this process."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from itertools import count
from types import ModuleType, TracebackType

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator
from autocomp.process.interrupts import own_termination
from autocomp.search_spaces import Plan

from .answers import Found, Question, Result, evaluate, failure
from .in_process import InProcess
from .travel import parts
from .watchdog import relieved, watch
from .worker_pool import Done, PoolLostError, WorkerPool

logger = logging.getLogger("autocomp")

LEAST_STORE = 128_000_000  # bytes of Ray's object store on this machine


class RayWorkers:
    """Ray actors that each hold the evaluator.

    resources: what each worker takes besides a processor, by Ray's names. evaluation_limit: seconds, see
    :class:`WorkerPool`. name: of the search, in the names of its actors.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int | str,
        resources: Mapping[str, float] | None = None,
        name: str = "autocomp",
    ) -> None:
        self._ray = load_ray()
        self._evaluator, self._workers = evaluator, workers
        self._resources, self._name = dict(resources or {}), name
        self._parts = parts(self._ray, evaluator, isinstance(workers, str))
        self._pool: WorkerPool | None = None
        self._numbers = count()
        self._started = False
        self._waiter: subprocess.Popen[bytes] | None = None
        self.evaluation_limit: float | None = None

    @property
    def width(self) -> int:
        if isinstance(self._workers, int) or self._pool is None:
            return self._workers if isinstance(self._workers, int) else 1
        return self._pool.room()

    def __enter__(self) -> RayWorkers:
        ray = self._ray
        if not ray.is_initialized():
            self._connect()
            self._started = True
            self._waiter = watch(ray) if isinstance(self._workers, int) else None
        try:
            paths = [os.path.abspath(path) for path in sys.path]
            shared = [ray.put(self._parts), ray.put(paths)]
            wanted = self._workers if isinstance(self._workers, int) else None
            self._pool = WorkerPool(ray, shared, wanted, self._resources, self._name)
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
        left = {next(self._numbers): i for i in range(len(plans))}
        try:
            for number, i in left.items():
                self._submit(number, self._ray.cloudpickle.dumps((question, plans[i])))
            while left and self._pool is not None:
                for number, found in self._step(left):
                    i = left.pop(number)
                    yield i, failure(plans[i], found) if isinstance(found, str) else pickle.loads(found)
        finally:
            if self._pool is not None:
                self._pool.cancel()
        rest = list(left.values())
        for k, result in InProcess(self._evaluator).ask(question, [plans[i] for i in rest]):
            yield rest[k], result

    def _submit(self, number: int, sent: bytes) -> None:
        if self._pool is not None:
            self._pool.submit(number, sent)

    def _step(self, left: Mapping[int, int]) -> list[Done]:
        """What has been done; where no worker is left, the reason for every plan, or nothing and no pool any more."""
        assert self._pool is not None
        self._pool.limit = self.evaluation_limit
        try:
            return self._pool.step()
        except PoolLostError as error:
            if self._pool.reasons and not self._pool.loaded:
                return [(number, pickle.dumps(EvaluationError(str(error)))) for number in left]
            self._lost(error)
        except self._ray.exceptions.RayError as error:
            self._lost(error)
        return []

    def _lost(self, error: Exception) -> None:
        logger.warning("the Ray workers are lost (%s): the search goes on in this process", str(error).split("\n")[0])
        self._pool = None

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
            store = max(LEAST_STORE, 4 * sum(len(part) for part in self._parts))
            self._ray.init(
                address="local",
                num_cpus=self._workers,
                include_dashboard=False,
                object_store_memory=store,
                **quiet,
            )

    def _stop(self) -> None:
        if self._ray.is_initialized():
            if self._pool is not None:
                self._pool.close()
            if self._started:
                with relieved(self._waiter):
                    self._ray.shutdown()
        self._pool, self._started = None, False


def load_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"workers need Ray, which cannot be loaded ({error}); install it: pip install ray") from error
    return ray
