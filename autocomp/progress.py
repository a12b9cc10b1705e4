"""What is shown while a search runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from .metrics import METRICS

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost

    from .study import Record


class SearchProgress:
    """A line with the evaluations done, the best point so far, the hypervolume and the time left.

    shown: also None, which stands for "where standard error is a terminal".
    """

    def __init__(
        self,
        objectives: Sequence[str],
        float_cost: Cost,
        trials: int,
        time_limit: float | None = None,
        shown: bool | None = None,
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._objectives = tuple(objectives)
        self._float_cost = float_cost
        self._trials = trials
        self._time_limit = time_limit
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("searching"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not (console.is_terminal if shown is None else shown),
        )
        self._task = self._bar.add_task("", total=trials, best="", left="")
        self._start = time.monotonic()

    def __enter__(self) -> SearchProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, records: Sequence[Record]) -> None:
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, best=self._best(records), left=self._left(done))

    def _best(self, records: Sequence[Record]) -> str:
        feasible = [record for record in records if record.violation <= 0]
        if not feasible:
            nearest = min((record.violation for record in records), default=0.0)
            return f"none within the budget yet (nearest {nearest:.1%} over it)"
        best = max(feasible, key=lambda record: (record.measurement.accuracy, -self._costs(record.cost)[0]))
        metric = METRICS[self._objectives[0]]
        volume = hypervolume(feasible, self._objectives, self._float_cost)
        cost = metric.format(getattr(best.cost, metric.attribute))
        return f"best {best.measurement.accuracy:.2%} at {cost}, hypervolume {volume:.4f}"

    def _costs(self, cost: Cost) -> list[float]:
        return [float(getattr(cost, METRICS[name].attribute)) for name in self._objectives]

    def _left(self, done: int) -> str:
        spent = time.monotonic() - self._start
        left = spent / done * (self._trials - done) if done else 0.0
        if self._time_limit is not None:
            left = min(left, max(0.0, self._time_limit - spent))
        return f"{left // 60:.0f}:{left % 60:02.0f} left"


def hypervolume(records: Sequence[Record], objectives: Sequence[str], float_cost: Cost) -> float:
    """What the records dominate of the box between accuracy 0 to 1 and cost 0 to the float network's, 0 to 1."""
    import moocore

    attributes = [METRICS[name].attribute for name in objectives]
    whole = np.array([float(getattr(float_cost, name)) for name in attributes])
    costs = np.array([[getattr(record.cost, name) for name in attributes] for record in records]).reshape(
        -1, len(whole)
    )
    loss = np.array([[1 - record.measurement.accuracy] for record in records]).reshape(-1, 1)
    points = np.hstack([loss, costs / np.where(whole > 0, whole, 1)])
    return float(moocore.hypervolume(points, ref=np.ones(points.shape[1]))) if len(points) else 0.0
