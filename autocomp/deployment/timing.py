"""Points of a front run on this processor, so that what was measured decides whether they meet the budget."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from autocomp.errors import AutocompError
from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.onnxruntime import ONNXRUNTIME
from autocomp.measurement.processor import threads_of
from autocomp.measurement.profiling import counted, in_turns
from autocomp.problem.pareto import by_worth
from autocomp.results.front import ParetoSet, Point

log = logging.getLogger("autocomp")

MOST = 12  # points
SECONDS = 1.0  # of a point's file and of the float network's, together
LATENCY = "latency"


def can_time(device: Device) -> bool:
    """Whether the device is this machine's processor, measured."""
    return threads_of(device.name) is not None and device.runtime is ONNXRUNTIME


def time_points(
    front: ParetoSet, device: Device, inputs: tuple[np.ndarray, ...], left: Callable[[], float] = lambda: np.inf
) -> None:
    """Write the files of points of the front and run each in turns with the float network's file.

    Afterwards ``front`` has the points that meet the budget as measured, see
    :class:`autocomp.results.timed.Timed`. The knee is the first one, then come those that the front needs most, at most
    12. A point that cannot be exported stays as predicted.

    inputs: arrays of the deployment's batch. left: seconds until the search's time limit.
    """
    try:
        _time_points(front, threads_of(device.name) or 1, inputs, left)
    except (KeyboardInterrupt, Exception) as error:  # what the search has found is not lost
        log.warning("points were not measured on this processor: %s", str(error) or "interrupted")
    slow = sum(point.violation > 0 for point in front.evaluated if point.plan in front.timed)
    if slow and front.feasible:
        front.remarks += (f"{slow} points seemed to meet the budget, but took longer on this processor: left out",)


def _time_points(front: ParetoSet, threads: int, inputs: tuple[np.ndarray, ...], left: Callable[[], float]) -> None:
    failed: set[str] = set()
    with tempfile.TemporaryDirectory() as folder, counted("points of the front") as report:
        whole = _file(front.float_point, Path(folder) / "float.onnx")
        for number in range(MOST):
            point = next(
                (one for one in _by_need(front) if one.plan not in front.timed and one.plan.key not in failed), None
            )
            if point is None or left() <= 0:
                break
            try:
                own = _file(point, Path(folder) / "point.onnx")
            except AutocompError as error:
                log.warning("%s could not be measured: %s", point.name, error)
                failed.add(point.plan.key)
                continue
            front.take_latency(point, *in_turns((own, whole), inputs, threads, SECONDS))
            report(number + 1, MOST)


def _file(point: Point, path: Path) -> bytes:
    return point.applied_by.export(point.plan, path, None, False).path.read_bytes()


def _by_need(front: ParetoSet) -> list[Point]:
    """The points of the front, the knee first, then those that add most to the front."""
    points = [point for point in front if not point.is_float]
    rows = np.array([[1 - point.accuracy, *(point.ratio(name) for name in front.objectives)] for point in points])
    worth = by_worth(rows.reshape(len(points), -1), np.ones(1 + len(front.objectives))) if points else ()
    return [*(point for point in points if point is front.knee), *(points[i] for i in worth)]
