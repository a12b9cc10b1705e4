"""The search's end of the socket to the process that drives Ray."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from typing import Any

from .broker import Settings

logger = logging.getLogger("autocomp")

SILENT_S = 150.0  # seconds without a sign of life, after which the process is given up; Ray's own patience is 60
CONNECT_S = 180.0  # seconds for Ray to start, or to connect
END_S = 30.0  # seconds in which the process ends Ray


class BrokerLostError(RuntimeError):
    """The process that drives Ray has ended, or stands still."""


class BrokerLink:
    """Starts the process and talks to it. ConnectionError where it cannot connect, BrokerLostError where it ends.

    parts: the evaluator, pickled, with its arrays. room: how many workers the cluster had room for.
    """

    def __init__(self, settings: Settings, parts: Sequence[Any]) -> None:
        self._link, theirs = Pipe()
        code = f"import sys; sys.path[:] = {settings.paths!r}; from autocomp.study.cluster.broker import serve"
        command = [sys.executable, "-c", f"{code}; serve({theirs.fileno()})"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        # A session of its own: Ctrl-C reaches the search alone, which then ends it. What Ray writes, its logs have.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors,
            pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.room = 1
        try:
            self._begin(settings, parts)
        except BaseException:
            self.kill()
            raise

    def _begin(self, settings: Settings, parts: Sequence[Any]) -> None:
        self.send(settings)
        for part in parts:
            with self._lost():
                self._link.send_bytes(part)
        end = time.monotonic() + CONNECT_S
        while time.monotonic() < end:
            kind, *given = self.receive() or ("alive",)
            if kind == "refused":
                raise ConnectionError(given[0])
            if kind == "ready":
                self.room = given[0]
                return
        raise BrokerLostError(f"Ray has not started in {CONNECT_S:g} s")

    def send(self, message: Any) -> None:
        with self._lost():
            self._link.send(message)

    def receive(self, seconds: float = SILENT_S) -> tuple[Any, ...] | None:
        """The next message that is no sign of life and nothing to log; None for a sign of life."""
        with self._lost():
            if not self._link.poll(seconds):
                raise BrokerLostError(f"it has given no sign of life in {seconds:g} s")
            message: tuple[Any, ...] = self._link.recv()
        if message[0] == "log":
            logger.log(message[1], "%s", message[2])
        return None if message[0] in ("log", "alive") else message

    def end(self) -> None:
        """Ends the process, and the Ray that it started."""
        with suppress(BrokerLostError, subprocess.TimeoutExpired):
            self.send(("end",))
            self.process.wait(END_S)
        self.kill()

    def kill(self) -> None:
        """A Ray that the process started ends with it."""
        self._link.close()
        self.process.kill()
        self.process.wait()
        self._errors.close()

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Errors of a socket whose other end is gone, as BrokerLostError with the last line that the process wrote."""
        try:
            yield
        except (OSError, EOFError) as error:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "")
            raise BrokerLostError(f"it has ended: {said}" if said else "it has ended") from error
