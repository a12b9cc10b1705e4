"""Measures operator shapes by onnxruntime on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autocomp.hardware_models.measurements.shapes import MeasuredShape, OperatorShape

from .operator_models import operator_inputs, operator_model

SECONDS = 0.05  # seconds for one shape in one pass
RUNS = 5
PASSES = 3  # over all shapes, at different times, since other programs on the machine come and go
PASSING = 16 << 20  # bytes that go through the caches before an operator, as those of other layers do in a network

Report = Callable[[int, int], None]  # number of measured shapes, number of all


@contextmanager
def counted(what: str) -> Iterator[Report]:
    """A progress line on standard error, where that is a terminal, during the measurement."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(f"measuring {what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as line:
        task = line.add_task("", total=None)
        yield lambda done, total: line.update(task, completed=done, total=total)


def typical_ms(
    model: bytes, inputs: Sequence[np.ndarray], threads: int = 1, seconds: float = SECONDS, passing: int = 0
) -> float:
    """Milliseconds of the median run. The fastest run would be too short where other programs take turns.

    One thread is timed by its own processor time, which does not include other programs that run in between.

    passing: bytes of other data that are read and written before each run; the inputs, which the layer before has just
        written, are read after them.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    session = _session(model, threads)
    feed = {spec.name: array for spec, array in zip(session.get_inputs(), inputs, strict=True)}
    others = np.ones(passing // 4, np.float32)
    session.run(None, feed)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < RUNS or time.perf_counter() < end:
        if passing:
            np.add(others, 1, out=others)
            sum(array.sum() for array in inputs)
        began = clock()
        session.run(None, feed)
        taken.append(clock() - began)
    return float(np.median(taken)) * 1e3


def in_turns(
    models: Sequence[bytes], inputs: Sequence[np.ndarray], threads: int = 1, seconds: float = SECONDS
) -> list[float]:
    """Milliseconds of the median run of each model. They run in turns, so that what slows the machine slows all.

    seconds: of all models together. inputs: of each of them.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    sessions = [_session(model, threads) for model in models]
    feeds = [
        {spec.name: array for spec, array in zip(session.get_inputs(), inputs, strict=True)} for session in sessions
    ]
    taken: list[list[float]] = [[] for _ in sessions]
    for session, feed in zip(sessions, feeds, strict=True):
        session.run(None, feed)
    end = time.perf_counter() + seconds
    while len(taken[0]) < RUNS or time.perf_counter() < end:
        for session, feed, times in zip(sessions, feeds, taken, strict=True):
            began = clock()
            session.run(None, feed)
            times.append(clock() - began)
    return [float(np.median(times)) * 1e3 for times in taken]


def measure(
    shapes: Sequence[OperatorShape], threads: int = 1, report: Report | None = None, passes: int = PASSES
) -> list[MeasuredShape]:
    """Each shape with its latency in milliseconds, the median of passes over all shapes.

    Before each run other data pass through the caches: alone, an operator would find its data there, which no network
    leaves in the caches.
    """
    found = np.empty((passes, len(shapes)))
    for turn in range(passes):
        for i, shape in enumerate(shapes):
            found[turn, i] = typical_ms(operator_model(shape), operator_inputs(shape), threads, passing=PASSING)
            if report is not None:
                report(turn * len(shapes) + i + 1, passes * len(shapes))
    latencies = np.median(found, axis=0)
    return [MeasuredShape(shape, float(latency)) for shape, latency in zip(shapes, latencies, strict=True)]


def _session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
