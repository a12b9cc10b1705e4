"""Inputs for networks without data, distilled from the running statistics of their BatchNorms."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.primitives.tracing.mindir import first_line
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import NetworkGraph

from .accuracy import synthetic_inputs
from .engines import Arrays

log = logging.getLogger("autocomp")

Gradient = Callable[[Arrays], tuple[float, Arrays]]
Progress = Callable[[int, int, float], None]  # the step, the number of steps, the distance
WORK = 1.1e12  # MACs of all forward passes; at most as many images as calibration uses, so that `save` stores them all
ELEMENT = 100  # MACs that take as long as one element of an operator's output
STEPS, LEAST_STEPS = 100, 25
IMAGES, LEAST_IMAGES = 64, 16
RATE = 0.1  # at the start, of inputs whose variance is 1
KEPT_MEAN, KEPT_SQUARE, TINY = 0.9, 0.999, 1e-12  # of Adam


def inputs_without_data(
    net: Any,
    graph: NetworkGraph,
    parameters: Parameters,
    seed: int = 0,
    progress: Progress | None = None,
    deadline: Deadline | None = None,
) -> Arrays:
    """Distilled inputs where the network has BatchNorms and their computation is affordable, else noise.

    Noise is also used where the network has no gradient, the distance to the statistics does not fall, or the steps
    would end after the deadline.
    """
    noise = synthetic_inputs(graph, seed)
    if not distils(graph):
        return noise
    count, steps = affordable_steps(graph)
    from autocomp.primitives.distillation.matched_statistics import statistics_gradient

    log.info("no data: %d inputs are distilled from the statistics of BatchNorm, in %d steps", count, steps)
    started = time.perf_counter()
    try:
        gradient = statistics_gradient(net, graph, parameters)
        found = distil(gradient, tuple(array[:count] for array in noise), steps, progress, deadline)
    except Exception as error:  # the network's own code, or MindSpore's compiler
        log.info("plans are evaluated on noise, since no inputs could be distilled: %s", first_line(error))
        return noise
    if found is None:
        log.info("plans are evaluated on noise: no inputs came nearer to the statistics of BatchNorm")
        return noise
    log.info("distilled in %.1f s", time.perf_counter() - started)
    return found


def distils(graph: NetworkGraph) -> bool:
    """Whether the network has BatchNorms, and distilling inputs is affordable."""
    return affordable_steps(graph)[1] > 0 and any(n.kind == "batchnorm" and n.layer is not None for n in graph.nodes)


def affordable_steps(graph: NetworkGraph) -> tuple[int, int]:
    """Number of images and of steps: 64 and 100 where 1.1e12 MACs allow it, fewer down to 16 and 25, else no step at
    all.

    An element of an operator's output counts as 100 MACs, which agrees with the measured time of a step on two cores:
    0.4 s for 64 images of a ResNet-20, 2.5 s for 16 of a ResNet-18, 5 s for 33 of a MobileNetV2.
    """
    elements = sum(math.prod(node.shape[1:]) for node in graph.nodes)
    work = max(graph.macs + ELEMENT * elements, 1)
    count = int(np.clip(WORK / (STEPS * work), LEAST_IMAGES, IMAGES))
    steps = int(min(STEPS, WORK / (count * work)))
    return count, steps if steps >= LEAST_STEPS else 0


def distil(
    gradient: Gradient,
    start: Arrays,
    steps: int = STEPS,
    progress: Progress | None = None,
    deadline: Deadline | None = None,
) -> Arrays | None:
    """Inputs that Adam moved from ``start`` until the batch statistics at BatchNorms approach their running statistics.

    This is ZeroQ (Cai et al., CVPR 2020, section 3.1). None where the distance does not fall. TimeoutError where the
    first steps show that the last would end after the deadline.

    gradient: of :func:`autocomp.primitives.distillation.matched_statistics.statistics_gradient`. The rate falls to 0
        along a cosine.
    """
    inputs, moments = start, [AdamMoments(array) for array in start]
    before, slopes = gradient(inputs)
    after, limit, running = before, deadline or Deadline(), Deadline()
    for step in range(steps):
        if limit.left < running.spent / max(step, 1) * (steps - step):
            raise TimeoutError(f"{steps} steps would take longer than the time limit leaves")
        rate = RATE * (1 + np.cos(np.pi * step / steps)) / 2
        inputs = tuple(
            (x - rate * moment.direction(slope)).astype(np.float32)
            for x, moment, slope in zip(inputs, moments, slopes, strict=True)
        )
        after, slopes = gradient(inputs)
        if progress is not None:
            progress(step + 1, steps, after)
    finite = np.isfinite(after) and all(np.isfinite(array).all() for array in inputs)
    return inputs if finite and after < before else None


class AdamMoments:
    """Adam's moving averages of a gradient and of its square (Kingma and Ba, ICLR 2015, algorithm 1)."""

    def __init__(self, like: np.ndarray) -> None:
        self.steps, self.mean, self.square = 0, np.zeros_like(like), np.zeros_like(like)

    def direction(self, slope: np.ndarray) -> np.ndarray:
        """The direction of the next step, in the gradient's shape, float32."""
        self.steps += 1
        self.mean = KEPT_MEAN * self.mean + (1 - KEPT_MEAN) * slope
        self.square = KEPT_SQUARE * self.square + (1 - KEPT_SQUARE) * slope**2
        mean, square = self.mean / (1 - KEPT_MEAN**self.steps), self.square / (1 - KEPT_SQUARE**self.steps)
        found: np.ndarray = mean / (np.sqrt(square) + TINY)
        return found
