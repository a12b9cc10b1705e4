"""Measures operator shapes by onnxruntime on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from autocomp.hardware_models.measurements.shapes import MeasuredShape, OperatorShape

from .operator_models import operator_inputs, operator_model

SECONDS = 0.05  # a pass over one shape
RUNS = 5
PASSES = 3  # apart in time: what else runs on the machine comes and goes
PASSING = 16 << 20  # bytes that go through the caches before an operator, as other layers' do in a network

Report = Callable[[int, int], None]  # shapes done, of all


@contextmanager
def counted(what: str) -> Iterator[Report]:
    """A line on standard error, where that is a terminal, while they are measured."""
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
    """Milliseconds of the median run. The fastest would flatter short runs where other programs take turns.

    One thread is timed by its own processor time: what another program runs in between is none of the network's.
    passing: bytes of other data that are touched before each run; the inputs, which the layer before has just
    written, after them.
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


def measure(
    shapes: Sequence[OperatorShape], threads: int = 1, report: Report | None = None, passes: int = PASSES
) -> list[MeasuredShape]:
    """Each shape with its latency, the median of passes over all of them.

    Before each run other data pass through the caches: alone an operator would find there what no network leaves it.
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
