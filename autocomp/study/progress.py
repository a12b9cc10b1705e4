"""The progress of a search: the front so far, whether it still grows, and the progress bar."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from autocomp.problem.metrics import METRICS, shown
from autocomp.problem.pareto import hypervolume
from autocomp.problem.record import Record

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost

logger = logging.getLogger("autocomp")

LOG_S = 30.0  # seconds between two lines in the log, where there is no terminal
GROWTH = 1e-3  # of the hypervolume, below which a front has not grown


class RunningFront:
    """The non-dominated records within the budget, updated record by record.

    cheapest: whether the best record is the cheapest in the first objective instead of the most accurate one; used
        where the budget bounds the accuracy.
    nearest: the least violation of the budget so far.
    """

    def __init__(self, objectives: Sequence[str], float_cost: Cost, cheapest: bool = False) -> None:
        self._attributes = [METRICS[name].attribute for name in objectives]
        whole = np.array(self._values(float_cost))
        self._whole = np.where(whole > 0, whole, 1)
        self._cheapest = cheapest
        self._points = np.empty((0, 1 + len(objectives)))
        self.best: Record | None = None
        self.nearest = math.inf

    def add(self, record: Record) -> None:
        self.nearest = min(self.nearest, record.violation)
        if record.violation > 0:
            return
        if self.best is None or self._rank(record) < self._rank(self.best):
            self.best = record
        point = self.point(record)
        if (self._points <= point).all(1).any():
            return
        self._points = np.vstack([self._points[~(point <= self._points).all(1)], point])
        self.__dict__.pop("volume", None)

    def point(self, record: Record) -> np.ndarray:
        """(1 + objectives,): the error, and costs as shares of the float network's."""
        return np.array([1 - record.measurement.accuracy, *np.array(self._values(record.cost)) / self._whole])

    @cached_property
    def volume(self) -> float:
        """The hypervolume: the share that the front dominates of the box from accuracy 0 to 1 and from cost 0 to the
        float network's; 0 to 1."""
        return hypervolume(self._points, np.ones(self._points.shape[1]))

    def _rank(self, record: Record) -> tuple[float, float]:
        cost, accuracy = self._values(record.cost)[0], record.measurement.accuracy
        return (cost, -accuracy) if self._cheapest else (-accuracy, cost)

    def _values(self, cost: Cost) -> list[float]:
        return [float(getattr(cost, name)) for name in self._attributes]


class Growth:
    """Whether the front still grows.

    patience: number of batches in which its hypervolume must grow by a thousandth; while no plan meets the budget, in
        which a plan must come nearer to it. None: no limit.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._seen: list[tuple[float, float]] = []

    def add(self, front: RunningFront) -> None:
        """Call it at the end of each batch."""
        self._seen.append((front.volume, front.nearest))

    @property
    def over(self) -> bool:
        if self._patience is None or len(self._seen) <= self._patience:
            return False
        (volume, nearest), (before, farther) = self._seen[-1], self._seen[-1 - self._patience]
        return volume <= before * (1 + GROWTH) and not (volume == 0 and nearest < farther)


class SearchProgress:
    """A line with the finished evaluations, the best point so far, the hypervolume and the time left.

    Where standard error is no terminal, so much is logged every half minute. shown: None shows a line on a terminal
    alone; False nothing at all.
    """

    def __init__(self, objective: str, trials: int, time_limit: float | None = None, shown: bool | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._metric = METRICS[objective]
        self._trials, self._time_limit = trials, time_limit
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=shown is False or not console.is_terminal,
        )
        self._logs = bool(shown) and not console.is_terminal
        self._logged = time.monotonic()
        self._task = self._bar.add_task("searching", total=trials, best="", left="")
        self._start = time.monotonic()
        self._elsewhere = 0.0  # seconds that were spent on other things than evaluations

    def __enter__(self) -> SearchProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, reused: int, front: RunningFront) -> None:
        """``reused``: how many of the ``done`` evaluations came from the ledger and took no time."""
        if self._bar.disable and not self._wants_line(done == self._trials):
            return
        best, left = self.best(front), self._left(done, reused)
        self._bar.update(self._task, description="searching", completed=done, best=best, left=left)
        if self._logs:
            logger.info("%d/%d evaluations, %s%s", done, self._trials, best, f", {left}" if left else "")

    def scoring(self, plans: int, seconds: float) -> None:
        """Shows that so many plans have been scored, the last of them in so many seconds."""
        self._elsewhere += seconds
        if not self._bar.disable:
            self._bar.update(self._task, description=f"scoring ({plans} plans)")
        elif self._wants_line():
            logger.info("scoring (%d plans)", plans)

    def confirming(self, done: int, plans: int) -> None:
        """Shows how many plans have been measured on all samples."""
        if not self._bar.disable:
            self._bar.update(self._task, description="confirming", completed=done, total=plans, left="")
        elif self._wants_line(done == plans and plans > 0):
            logger.info("%d/%d plans measured on all samples", done, plans)

    def _wants_line(self, last: bool = False) -> bool:
        """Whether it is time for a line in the log."""
        now = time.monotonic()
        if not self._logs or not (last or now - self._logged > LOG_S):
            return False
        self._logged = now
        return True

    def best(self, front: RunningFront) -> str:
        """The best point so far, in words."""
        best = front.best
        if best is None:
            return f"none within the budget yet (nearest {front.nearest:.1%} over it)"
        cost = self._metric.format(getattr(best.cost, self._metric.attribute))
        found = best.measurement
        accuracy = shown(found.accuracy, found.scale) if found.scale else f"{found.accuracy:.2%}"
        return f"best {accuracy} at {cost}, hypervolume {front.volume:.4f}"

    def _left(self, done: int, reused: int) -> str:
        left = self.seconds_left(done, reused)
        return "" if left is None else f"{left // 60:.0f}:{left % 60:02.0f} left"

    def seconds_left(self, done: int, reused: int) -> float | None:
        """From the mean time of the evaluations so far; None before the first evaluation, where no limit is set."""
        spent = time.monotonic() - self._start
        left = math.inf
        if done > reused:
            left = (spent - self._elsewhere) / (done - reused) * (self._trials - done)
        if self._time_limit is not None:
            left = min(left, max(0.0, self._time_limit - spent))
        return left if math.isfinite(left) else None
