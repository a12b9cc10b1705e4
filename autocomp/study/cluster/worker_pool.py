"""Evaluates plans on Ray actors, and survives what happens to them: a worker, a node or an evaluation that is lost.

A worker gets no plan before it has loaded the evaluator. No wait is without a limit: ``step`` looks at everything that
runs, at least once a second.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("autocomp")

TRIES = 3  # of a plan whose worker dies each time
NODE_TRIES = 20  # of a plan whose worker's node is lost each time: it is not the plan's fault
LIMIT_TRIES = 2  # of a plan that takes longer than the limit: a worker that stands still is not the plan's fault
COUNT_S = 2.0  # seconds between two looks at the cluster's size
LOAD_DEATHS = 10  # of workers that load, and a few times as many as there are workers: then it is the evaluator's fault
LOAD_S = 300.0  # seconds for loading the evaluator, once the actor runs
LONGEST_REASON = 300  # characters
START_S = 120.0  # the usual start_s


class PoolLostError(RuntimeError):
    """No worker is left that could evaluate a plan."""


class UnloadableError(PoolLostError):
    """No worker can load the evaluator, wherever it runs."""


class Worker:
    """The actor in a Ray worker."""

    def __init__(self) -> None:
        self._evaluator: Any = None

    def load(self, shared: Sequence[Any]) -> tuple[str | None, str]:
        """Loads the evaluator: ``shared`` holds references to the pickled evaluator and to the driver's import path.
        Why it cannot be loaded, or None; and a sentence on the device that it runs on, where the worker has one."""
        import ray

        try:
            # The modules of the evaluator's classes may be on the driver's import path only, as in a script's folder.
            paths = ray.get(shared[1])
            sys.path.extend(path for path in paths if path not in sys.path)
            sent = ray.get(shared[0])
            self._evaluator = pickle.loads(sent[0], buffers=sent[1:])
            return None, self._accelerated(ray.get_runtime_context().get_accelerator_ids())
        except Exception as error:
            return f"{type(error).__name__}: {error}", ""

    def _accelerated(self, given: dict[str, list[str]]) -> str:
        """given: by kind, the devices that Ray has set for this process."""
        # Here, as below, so that the process that holds the pool need not load what evaluators need.
        from autocomp.study.cluster.accelerators import use_accelerator

        kinds = [kind for kind, numbers in given.items() if numbers]
        return use_accelerator(self._evaluator, kinds) if kinds else ""

    def answer(self, sent: bytes) -> bytes:
        """sent: a question and a plan, pickled; the answer is pickled, too."""
        from autocomp.study.answers import answer

        question, plan = pickle.loads(sent)
        result = answer(question, self._evaluator, plan)
        if isinstance(result, Exception):
            result.__cause__ = None  # need not be picklable
        return pickle.dumps(result)

    def where(self) -> tuple[str, int]:
        """The node and the process."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()


@dataclass(eq=False)
class Slot:
    """One worker. task: the number of its plan, None while it loads or is idle."""

    actor: Any
    pending: Any  # the reference that is waited for; None where it is idle
    loading: bool = True
    task: int | None = None
    since: float = field(default_factory=time.monotonic)


@dataclass
class Task:
    """A plan. tries: how many workers died with it; node_tries: on a node that was lost; late: over the limit."""

    sent: bytes
    tries: int = 0
    node_tries: int = 0
    late: int = 0


Done = tuple[int, "bytes | str"]  # the number of a task, and its pickled answer or the reason why it has none


class WorkerPool:
    """Workers on a Ray cluster that is connected. ``submit`` plans, then ``step`` until all are done.

    shared: references in Ray's object store, see :meth:`Worker.load`. wanted: how many workers; None: one for each of
    the cluster's processors, those that join included. resources: what each worker takes besides a processor, by Ray's
    names. start_s: seconds without any worker, after which the cluster is given up. limit: seconds for one evaluation.
    """

    def __init__(
        self,
        ray: Any,
        shared: Sequence[Any],
        wanted: int | None,
        resources: dict[str, float],
        name: str = "autocomp",
        start_s: float = START_S,
    ) -> None:
        self._start_s = start_s
        self._ray, self._shared, self._wanted, self.name = ray, list(shared), wanted, name
        gpus = {"num_gpus": resources["GPU"]} if "GPU" in resources else {}
        rest = {kind: amount for kind, amount in resources.items() if kind not in ("CPU", "GPU")}
        self._cpus = resources.get("CPU", 1)
        self._kinds = {"CPU": self._cpus, **resources}
        self._options = dict(num_cpus=self._cpus, resources=rest, max_restarts=0, scheduling_strategy="SPREAD", **gpus)
        self._class = ray.remote(Worker)
        self._own = uuid.uuid4().hex[:8]  # two searches may have one name
        self._slots: list[Slot] = []
        self._parked: list[Any] = []  # workers that cannot load: they keep their processor, so no other lands there
        self._queue: deque[int] = deque()
        self._tasks: dict[int, Task] = {}
        self._started = 0
        self._warned = self._exhausted = False
        self._looked = -COUNT_S
        self._with_worker = time.monotonic()
        self.limit: float | None = None
        self.reasons: list[str] = []  # why workers could not load
        self._deaths: list[str] = []  # of workers that died while they loaded, since one has loaded

    @property
    def loaded(self) -> int:
        return sum(not slot.loading for slot in self._slots)

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def hungry(self) -> bool:
        """Whether a worker is idle, or will be when it has loaded the evaluator."""
        return not self._queue and any(slot.loading or slot.pending is None for slot in self._slots)

    @property
    def resting(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._tasks and not any(slot.pending is not None for slot in self._slots)

    def submit(self, number: int, sent: bytes) -> None:
        self._tasks[number] = Task(sent)
        self._queue.append(number)

    def cancel(self) -> None:
        """Forgets the plans that wait, and the answers of those that run."""
        self._queue.clear()
        self._tasks.clear()

    def step(self, seconds: float = 1.0) -> list[Done]:
        """What has been done within so many seconds. PoolLostError where no worker is left."""
        self._resize()
        self._assign()
        done = self._collect(seconds) + self._late()
        self._check_alive()
        return done

    def close(self) -> None:
        for actor in [slot.actor for slot in self._slots] + self._parked:
            self._kill(actor)
        self._slots.clear()
        self._parked.clear()

    def _resize(self) -> None:
        """Starts the workers that are missing; those that find no processor yet start when one is free."""
        now = time.monotonic()
        if now - self._looked < COUNT_S:
            return
        self._looked = now
        room = self.room()
        target = room if self._wanted is None else min(self._wanted, room)
        if self._wanted is not None and target < self._wanted and not self._warned:
            self._warned = True
            logger.warning("Ray has room for %d workers: %d workers instead of %d", room, target, self._wanted)
        allowed = min(target, room - len(self._parked))
        # Each that could not load has been replaced once; one that died may have been killed.
        if len(self.reasons) > target or len(self._deaths) >= max(LOAD_DEATHS, 3 * target):
            allowed = min(allowed, len(self._slots))
        # On every node that there is, it cannot be loaded; a node that is lost says nothing of it.
        self._exhausted = room > 0 and allowed <= 0 and not self._slots
        for _ in range(allowed - len(self._slots)):
            self._start()

    def room(self) -> int:
        """How many workers the cluster's resources are enough for."""
        total = self._ray.cluster_resources()
        return int(min(total.get(kind, 0) // amount for kind, amount in self._kinds.items() if amount))

    def _start(self) -> None:
        self._started += 1
        name = f"{self.name}/worker-{self._started}-{self._own}"
        actor = self._class.options(name=name, **self._options).remote()
        self._slots.append(Slot(actor, actor.load.options(name=f"{self.name}: load").remote(self._shared)))

    def _assign(self) -> None:
        for slot in self._slots:
            while slot.pending is None and self._queue:
                number = self._queue.popleft()
                slot.task, slot.since = number, time.monotonic()
                call = slot.actor.answer.options(name=f"{self.name}: evaluate")
                slot.pending = call.remote(self._tasks[number].sent)

    def _collect(self, seconds: float) -> list[Done]:
        pending = {slot.pending: slot for slot in self._slots if slot.pending is not None}
        if not pending:
            time.sleep(min(seconds, 0.1))
            return []
        ready = self._ray.wait(list(pending), num_returns=1, timeout=seconds)[0]
        if ready:  # all that are ready by now
            ready = self._ray.wait(list(pending), num_returns=len(pending), timeout=0)[0]
        found: list[Done] = []
        for reference in ready:
            found += self._finish(pending[reference], reference)
        return found

    def _finish(self, slot: Slot, reference: Any) -> list[Done]:
        number, slot.task, slot.pending = slot.task, None, None
        try:
            result = self._ray.get(reference, timeout=60)
        except self._ray.exceptions.RayError as error:
            return self._died(slot, number, error)
        if slot.loading:
            self._loaded(slot, *result)
            return []
        if number is None or self._tasks.pop(number, None) is None:
            return []
        return [(number, result)]

    def _loaded(self, slot: Slot, reason: str | None, note: str) -> None:
        slot.loading = False
        if note:
            logger.info("a worker: %s", note)
        if reason is None:
            self._deaths.clear()
        else:
            self._slots.remove(slot)
            self._parked.append(slot.actor)
            self.reasons.append(reason)
            logger.warning("a worker is left out, since it cannot load the evaluator: %s", reason)

    def _died(self, slot: Slot, number: int | None, error: Exception) -> list[Done]:
        """Its plan goes to another worker, unless it has had its tries; the worker is replaced."""
        self._slots.remove(slot)
        self._kill(slot.actor)
        self._looked = -COUNT_S
        reason = _reason(error)
        lost = "node has died" in reason or "node died" in reason
        if slot.loading and not lost:
            self._deaths.append(reason)
        if number is None or (task := self._tasks.get(number)) is None:
            return []
        logger.warning("a worker died, its plan goes to another: %s", reason)
        if lost:
            task.node_tries += 1
        else:
            task.tries += 1
        if task.tries >= TRIES or task.node_tries >= NODE_TRIES:
            del self._tasks[number]
            return [(number, f"its worker died {task.tries + task.node_tries} times: {reason}")]
        self._queue.appendleft(number)
        return []

    def _late(self) -> list[Done]:
        """Workers whose plan takes longer than the limit, or that do not finish loading, are killed and replaced."""
        found: list[Done] = []
        now = time.monotonic()
        for slot in list(self._slots):
            if slot.task is None or self.limit is None or now - slot.since <= self.limit:
                continue
            self._slots.remove(slot)
            self._kill(slot.actor)
            self._looked = -COUNT_S
            if (task := self._tasks.get(slot.task)) is None:
                continue
            task.late += 1
            logger.warning("an evaluation took longer than %g s; its worker is replaced", self.limit)
            if task.late >= LIMIT_TRIES:
                del self._tasks[slot.task]
                found.append((slot.task, f"it took longer than the limit of {self.limit:g} s, {task.late} times"))
            else:
                self._queue.append(slot.task)
        return found

    def _check_alive(self) -> None:
        now = time.monotonic()
        if self.loaded:
            self._with_worker = now
            return
        if self._exhausted and (why := self.reasons or self._deaths):
            raise UnloadableError(f"the evaluator cannot be loaded in a worker: {why[-1]}")
        if now - self._with_worker > (self._start_s if not self._slots else self._start_s + LOAD_S):
            raise PoolLostError(f"no worker has started for {now - self._with_worker:.0f} s")

    def _kill(self, actor: Any) -> None:
        try:
            self._ray.kill(actor)
        except Exception as error:  # it is dead, or the cluster is
            logger.debug("a worker could not be killed: %s", error)


def _reason(error: Exception) -> str:
    """The line of Ray's error that says why."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(("\t", " "))]
    telling = [line for line in lines if "died unexpectedly before finishing" not in line]
    text = (telling or lines or [type(error).__name__])[0].strip()
    return text.split(" Some common causes")[0][:LONGEST_REASON]
