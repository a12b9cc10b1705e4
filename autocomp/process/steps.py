"""Says which step of a long preparation runs, in the log and on a line of standard error."""

from __future__ import annotations

import logging
from types import TracebackType

from .deadline import Deadline

log = logging.getLogger("autocomp")

SLOW_S = 1.0  # seconds from which on a finished step is named with its time


class Steps:
    """One step after the other, each begun by ``begin``; at the end the log has the seconds of the slow ones.

    shown: None shows the line where standard error is a terminal.
    """

    def __init__(self, shown: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        hidden = not (console.is_terminal if shown is None else shown)
        self._bar = Progress(*columns, console=console, disable=hidden, transient=True)
        self._task = self._bar.add_task("preparing")
        self._whole, self._running = Deadline(), Deadline()
        self._name = ""
        self.seconds: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """name: what the step does, "tracing the network"; the step before has ended."""
        self._end()
        self._name, self._running = name, Deadline()
        log.info("preparing: %s", name)
        self._bar.update(self._task, description=name)

    def report(self, step: int, steps: int, _: float) -> None:
        """How far the current step is."""
        self._bar.update(self._task, description=f"{self._name} ({step} of {steps})")

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._bar.stop()
        if error is None:
            slow = [f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items() if seconds >= SLOW_S]
            log.info("prepared in %.1f s%s", self._whole.spent, f": {', '.join(slow)}" if slow else "")

    def _end(self) -> None:
        if self._name:
            self.seconds[self._name] = self._running.spent
            self._name = ""
