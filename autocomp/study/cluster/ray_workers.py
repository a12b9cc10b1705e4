"""Evaluates plans on Ray workers, of this machine or of a cluster; where Ray is lost it is started again, and where it
stays lost the search goes on in this process."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import count
from types import ModuleType, TracebackType
from typing import Any

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator
from autocomp.search_spaces import Plan
from autocomp.study.answers import Found, Question, Result, evaluate, failure, question_of
from autocomp.study.in_process import InProcess

from .address import need_listener
from .broker import Settings
from .broker_link import BrokerLink, BrokerLostError
from .travel import import_paths, parts
from .worker_pool import START_S, Done

logger = logging.getLogger("autocomp")

PAUSES_S = (0.0, 2.0, 10.0, 30.0, 60.0)  # before each start of a Ray that is lost, while no evaluation ends


class RayWorkers:
    """Ray actors that each hold the evaluator. A process of its own drives them, since a driver ends with its Ray.

    resources: what each worker takes besides a processor, by Ray's names. evaluation_limit: seconds, see
    :class:`WorkerPool`. name: of the search, in the names of its actors. start_s: seconds without any worker, after
    which the cluster is given up.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int | str,
        resources: Mapping[str, float] | None = None,
        name: str = "autocomp",
        start_s: float = START_S,
    ) -> None:
        self._ray = load_ray()
        self._evaluator, self._workers = evaluator, workers
        self._resources, self._name, self._start_s = dict(resources or {}), name, start_s
        self._parts = parts(self._ray, evaluator, isinstance(workers, str))
        self._link: BrokerLink | None = None
        self._sent: dict[int, bytes] = {}  # plans that have no answer yet
        self._numbers = count()
        self._losses = 0  # of Ray, since an evaluation has ended
        self._limit: float | None = None
        self.evaluation_limit: float | None = None

    @property
    def width(self) -> int:
        if isinstance(self._workers, int):
            return self._workers
        return 1 if self._link is None else max(1, self._link.room)

    def __enter__(self) -> RayWorkers:
        if isinstance(self._workers, str):
            need_listener(self._workers)
        for last in (False, True):
            try:
                self._start()
                return self
            except BrokerLostError as error:  # it was killed, or its raylet was, before it could answer
                reason: Exception = error
            except ConnectionError as error:
                reason, last = error, True
            if last:
                break
        raise ConnectionError(f"no Ray cluster answers at workers={self._workers!r}: {reason}") from reason

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            self._link.end()
        self._link = None

    def map(
        self, plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        return self.ask(evaluate, plans, more)

    def ask(
        self, question: Question[Found], plans: Sequence[Plan], more: Callable[[], bool] | None = None
    ) -> Generator[tuple[int, Found | EvaluationError], None, None]:
        begun, left = 0, dict[int, int]()
        self._tell_limit()
        try:
            while self._link is not None and (left or begun < len(plans)):
                for i in range(begun, len(plans)):
                    number = next(self._numbers)
                    left[number] = i
                    self._submit(number, self._ray.cloudpickle.dumps((question_of(question, plans[i]), plans[i])))
                begun = max(begun, len(plans))
                if more is not None and more():
                    continue
                more = None
                for number, found in self._step():
                    i = left.pop(number)
                    yield i, failure(plans[i], found) if isinstance(found, str) else pickle.loads(found)
        finally:
            self._sent.clear()
            self._tell("cancel")
        rest = _Rest(plans, [*left.values()], begun)
        for k, result in InProcess(self._evaluator).ask(question, rest, more):
            yield rest.rows[k], result

    def show(self, values: Mapping[str, float]) -> None:
        """Sets Ray's metrics, see :class:`autocomp.study.cluster.metrics.Metrics`."""
        self._tell("metrics", dict(values))

    def _submit(self, number: int, sent: bytes) -> None:
        self._sent[number] = sent
        self._tell("submit", number, sent)

    def _tell(self, *message: Any) -> None:
        """That the process has ended is found when its answers are waited for."""
        try:
            if self._link is not None:
                self._link.send(message)
        except BrokerLostError as error:
            logger.debug("a message was lost: %s", error)

    def _tell_limit(self) -> None:
        if self._limit != self.evaluation_limit:
            self._limit = self.evaluation_limit
            self._tell("limit", self._limit)

    def _step(self) -> list[Done]:
        """What has been done; where no worker can load the evaluator, the reason for every plan; nothing while Ray is
        started again, and where it is given up."""
        assert self._link is not None
        self._tell_limit()
        try:
            kind, *given = self._link.receive() or ("alive",)
        except BrokerLostError as error:
            self._again(str(error))
            return []
        if kind == "lost" and given[1]:
            return [(number, pickle.dumps(EvaluationError(given[0]))) for number in self._sent]
        if kind == "lost":
            self._give_up(given[0])
        if kind != "done":
            return []
        self._losses = 0
        return [(number, found) for number, found in given[0] if self._sent.pop(number, None) is not None]

    def _again(self, reason: str) -> None:
        """Starts Ray again, or connects to its cluster again; all plans without an answer are sent again."""
        assert self._link is not None
        self._link.kill()
        while self._losses < len(PAUSES_S):
            logger.warning("Ray is lost (%s): it is started again in %g s", reason, PAUSES_S[self._losses])
            time.sleep(PAUSES_S[self._losses])
            self._losses += 1
            try:
                return self._start()
            except (ConnectionError, BrokerLostError) as error:
                reason = str(error)
        self._link = None
        self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        logger.warning("the Ray workers are lost (%s): the search goes on in this process", reason.split("\n")[0])
        if self._link is not None:
            self._link.end()
        self._link = None

    def _start(self) -> None:
        self._link = BrokerLink(self._settings(), self._parts)
        self._tell("limit", self.evaluation_limit)
        for number, sent in self._sent.items():
            self._tell("submit", number, sent)

    def _settings(self) -> Settings:
        return Settings(
            address=self._address(),
            wanted=self._workers if isinstance(self._workers, int) else None,
            name=self._name,
            paths=import_paths(),
            resources=self._resources,
            start_s=self._start_s,
            buffers=len(self._parts),
        )

    def _address(self) -> str | None:
        """Of the cluster that this process is connected to already, else of the one that is wanted; None for none."""
        if not self._ray.is_initialized():
            return self._workers if isinstance(self._workers, str) else None
        client = self._ray.util.client.ray
        if client.is_connected():
            return f"ray://{client.get_context().client_worker._conn_str}"
        return str(self._ray.get_runtime_context().gcs_address)


class _Rest(Sequence[Plan]):
    """The plans that have no answer, and those that join: ``rows`` are their places among all."""

    def __init__(self, plans: Sequence[Plan], rows: list[int], begun: int) -> None:
        self._plans, self.rows, self._begun = plans, rows, begun

    def __len__(self) -> int:
        self.rows += range(self._begun, len(self._plans))
        self._begun = max(self._begun, len(self._plans))
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        return self._plans[self.rows[place]]


def load_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise ImportError(f"workers need Ray, which cannot be loaded ({error}); install it: pip install ray") from error
    return ray
