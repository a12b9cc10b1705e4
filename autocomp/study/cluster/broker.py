"""The process that drives Ray: it holds the workers, and the search's process talks to it through a socket.

Ray ends the process of a driver whose raylet or head is lost. That is this process: the search's own goes on and starts
another one.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from .metrics import Metrics
from .watchdog import relieved, started, watch
from .worker_pool import PoolLostError, UnloadableError, WorkerPool

IDLE_S, BUSY_S = 0.02, 0.5  # seconds of one wait for answers, where a worker is idle and where none is
SIGN_S = 1.0  # seconds between two signs of life
ORPHAN_S = 10.0  # seconds in which Ray is ended after the search's process has ended
LEAST_STORE = 128_000_000  # bytes of Ray's object store on this machine


@dataclass(frozen=True)
class Settings:
    """What a broker needs to begin. address: None starts Ray here. wanted: see :class:`WorkerPool`."""

    address: str | None
    wanted: int | None
    name: str
    paths: list[str]
    resources: dict[str, float] = field(default_factory=dict)
    start_s: float = 120.0
    buffers: int = 0  # messages that follow, with the evaluator


def serve(number: int) -> None:
    """Serves the search's process over the socket with this number until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = Connection(number)
    settings: Settings = link.recv()
    parts = [link.recv_bytes() for _ in range(settings.buffers)]
    Broker(link, settings, parts).run()


class Broker:
    """Messages in: ("submit", number, bytes), ("cancel",), ("limit", seconds), ("metrics", values), ("end",). Out:
    ("ready", workers), ("refused", reason), ("done", answers), ("lost", reason, no worker could load), ("log", level,
    text), ("alive",)."""

    def __init__(self, link: Connection, settings: Settings, parts: list[bytes]) -> None:
        self._link, self._settings, self._parts = link, settings, parts
        self._inbox: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._waiter: subprocess.Popen[bytes] | None = None
        self._told = 0.0
        logger = logging.getLogger("autocomp")
        logger.addHandler(_Sender(link))
        logger.propagate = False

    def run(self) -> None:
        import ray

        threading.Thread(target=self._read, name="autocomp-inbox", daemon=True).start()
        try:
            self._connect(ray)
        except Exception as error:
            self._link.send(("refused", f"{error}"))
            return
        with relieved(self._waiter):
            try:
                self._serve(ray)
            except OSError:  # the search's process has ended
                pass
            finally:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._settings.address is not None:
            ray.init(address=self._settings.address, **quiet)
            return
        # Ray would reserve a third of the machine's memory; workers share one copy of the evaluator.
        store = max(LEAST_STORE, 4 * sum(len(part) for part in self._parts))
        ray.init(
            address="local",
            num_cpus=self._settings.wanted,
            include_dashboard=False,
            object_store_memory=store,
            **quiet,
        )
        self._waiter = watch(ray)

    def _serve(self, ray: Any) -> None:
        # Arrays, not bytes: workers map arrays, and would copy bytes.
        arrays = [np.frombuffer(part, np.uint8) for part in self._parts[1:]]
        shared = [ray.put([*self._parts[:1], *arrays]), ray.put(self._settings.paths)]
        del arrays
        self._parts = []
        settings = self._settings
        pool = WorkerPool(ray, shared, settings.wanted, settings.resources, settings.name, settings.start_s)
        metrics = Metrics(settings.name)
        self._link.send(("ready", pool.room()))
        try:
            pool.step(0.0)  # its workers start before the first plan comes
            while self._obey(pool, metrics):
                self._sign()
                self._step(ray, pool)
                self._check(ray)
        except (PoolLostError, ray.exceptions.RayError) as error:
            self._link.send(("lost", f"{error}", isinstance(error, UnloadableError)))
        finally:
            pool.close()

    def _step(self, ray: Any, pool: WorkerPool) -> None:
        if done := pool.step(IDLE_S if pool.hungry else BUSY_S):
            self._link.send(("done", done))

    def _obey(self, pool: WorkerPool, metrics: Metrics) -> bool:
        """Does what the messages say; False where the last of them ends it."""
        wait = BUSY_S if pool.resting else 0.0
        while True:
            try:
                kind, *given = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except Empty:
                return True
            wait = 0.0
            if kind == "submit":
                pool.submit(*given)
            elif kind == "cancel":
                pool.cancel()
            elif kind == "limit":
                pool.limit = given[0]
            elif kind == "metrics":
                metrics.set(given[0] | {"workers": pool.loaded, "queued": pool.queued})
            else:
                return False

    def _sign(self) -> None:
        if time.monotonic() - self._told > SIGN_S:
            self._told = time.monotonic()
            self._link.send(("alive",))

    def _check(self, ray: Any) -> None:
        """Ends this process at once where a process of the Ray that it started has ended: Ray would take a minute."""
        if self._waiter is not None and (ended := [name for name, one in started(ray) if one.poll() is not None]):
            self._link.send(("log", logging.WARNING, f"Ray's {ended[0]} has ended"))
            os._exit(1)

    def _read(self) -> None:
        while True:
            try:
                self._inbox.put(self._link.recv())
            except (OSError, EOFError):  # the search's process has ended
                break
        self._inbox.put(("end",))
        time.sleep(ORPHAN_S)
        os._exit(1)


class _Sender(logging.Handler):
    """Sends what is logged to the search's process."""

    def __init__(self, link: Connection) -> None:
        super().__init__(logging.INFO)
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # it has ended
            self._link.send(("log", record.levelno, record.getMessage()))
