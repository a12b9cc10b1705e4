"""This machine's processor: what the device ``cpu`` predicts of exported networks, and what onnxruntime measures.

    python benchmarks/processor.py [--threads 2] [--networks resnet50,squeezenet1_1]

The processor is measured anew first, with operators of its own, then ten plans of each of three networks run.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy.stats import spearmanr

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.calibration import calibrate_ranges, calibrate_tensors, shared_ranges
from autocomp.hardware_models import Device, device
from autocomp.hardware_models.fitting.standard_shapes import standard_shapes
from autocomp.hardware_models.measurements.shapes import MeasuredShape
from autocomp.measurement.processor import FORMATS, TEMPLATE, fitted, measure_processor
from autocomp.measurement.profiling import measure, typical_ms
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.registry import search_space
from autocomp.search_spaces import NetworkGraph, Plan, SearchSpace, Workload
from benchmarks import published
from benchmarks.peak_memory import peak_mb

NETWORKS = ("resnet18", "mobilenet_v2", "googlenet")
PIXELS = 224
PLANS, BATCH, ROUNDS = 10, 2, 5  # of measuring, apart in time: what else runs on the machine comes and goes
Row = tuple[str, float, str, str]  # what, value, unit, goal


@dataclass(frozen=True)
class Compared:
    """One plan and its ONNX model."""

    network: str
    plan: Plan
    workload: Workload
    model: bytes
    pixels: int

    @property
    def size_mb(self) -> float:
        return len(self.model) / 1e6


def parameters_for(graph: NetworkGraph) -> dict[str, np.ndarray]:
    """Random weights of the usual variance, BatchNorms that do nothing."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.weight_shape is not None and node.layer is not None:
            fan_in = np.prod(node.weight_shape[1:])
            found[node.weight] = rng.standard_normal(node.weight_shape, np.float32) * np.sqrt(2 / fan_in)
            if node.bias is not None:
                found[node.bias] = np.zeros(node.weight_shape[0], np.float32)
        elif node.kind == "batchnorm":
            values = np.array([1, 0, 0, 1], np.float32)  # gamma, beta, mean, variance
            names = node.parameters
            found |= {name: np.full(node.shape[1], v, np.float32) for name, v in zip(names, values, strict=True)}
    return {name: array.astype(np.float32) for name, array in found.items()}


def chosen_plans(space: SearchSpace) -> np.ndarray:
    """As it is, in integers, cut to its least, both; and random ones."""
    formats = next([str(value) for value in knob.values] for knob in space.knobs if knob.kind == "format")
    is_format = np.array([knob.kind == "format" for knob in space.knobs])
    integers = np.where(is_format, formats.index("w8a8"), 0)
    least = np.where(is_format, 0, space.sizes - 1)
    fixed = [np.zeros(len(space.knobs), int), integers, least // 2, integers + least // 2]
    return np.concatenate([np.stack(fixed), space.random(np.random.default_rng(0), PLANS - len(fixed))])


def compared(name: str, pixels: int) -> list[Compared]:
    graph = published.graph(name, pixels)
    parameters = parameters_for(graph)
    template = device(TEMPLATE)
    whole = template.strict_divisor
    choices = Choices(template.formats, template.channel_divisor, strict_divisor=whole)
    space = search_space(graph, parameters, choices)
    engine = OnnxEngine(graph, parameters)
    images = np.random.default_rng(0).standard_normal((4, 3, pixels, pixels), np.float32)
    plain = PlanCompressor(space, parameters)(Plan())
    tensors = calibrate_tensors(engine, graph, plain, (images,))
    ranges = shared_ranges(graph, calibrate_ranges(engine, space, plain, (images,)), tensors)
    compressor = PlanCompressor(space, parameters, ranges, tensors=tensors)
    vectors = chosen_plans(space)
    found = []
    for vector in vectors:
        plan = space.decode(vector)
        model = onnx_network(graph, parameters, compressor(plan), Style(integer_weights=True)).SerializeToString()
        found.append(Compared(name, plan, space.workload(vector[None], BATCH), model, pixels))
    return found


def latencies(found: Sequence[Compared], threads: int) -> tuple[np.ndarray, Device]:
    """(n,) milliseconds, and the device, both medians of several rounds.

    Its operators are measured in turns with the networks, since what else runs on the machine slows both.
    """
    shapes = standard_shapes(FORMATS)
    networks, operators = np.empty((ROUNDS, len(found))), np.empty((ROUNDS, len(shapes)))
    for turn in range(ROUNDS):
        operators[turn] = [row.latency_ms for row in measure(shapes, threads, passes=1)]
        for i, one in enumerate(found):
            images = np.random.default_rng(0).standard_normal((BATCH, 3, one.pixels, one.pixels), np.float32)
            networks[turn, i] = typical_ms(one.model, [images], threads, 0.15)
    rows = [MeasuredShape(shape, float(ms)) for shape, ms in zip(shapes, np.median(operators, 0), strict=True)]
    return np.median(networks, 0), fitted(rows, threads)


def processor(threads: int = 1, networks: Sequence[str] = NETWORKS) -> list[Row]:
    began = time.perf_counter()
    measure_processor(threads)
    seconds = time.perf_counter() - began
    found = [one for name in networks for one in compared(name, PIXELS)]
    truth, chip = latencies(found, threads)
    peaks = np.array([peak_mb(one.model, (BATCH, 3, one.pixels, one.pixels)) for one in found])
    costs = [chip.costs(one.workload)[0] for one in found]
    latency, memory, size = (
        np.array([getattr(c, name) for c in costs]) for name in ("latency_ms", "memory_mb", "size_mb")
    )
    memory, size = memory / peaks - 1, size / [one.size_mb for one in found] - 1
    for i, one in enumerate(found):
        print(
            f"  {one.network:14s} {truth[i]:8.2f} ms {latency[i] / truth[i] - 1:+6.1%}   "
            f"{peaks[i]:7.1f} MB {memory[i]:+6.1%}   {one.size_mb:7.2f} MB {size[i]:+6.2%}   {one.plan}"[:150]
        )
    what = f"cpu, {threads} thread{'s' * (threads > 1)}, {len(found)} plans of {len(networks)} networks"
    return [
        (f"{what}: latency, median error", float(np.median(np.abs(latency / truth - 1)) * 100), "%", "10"),
        (f"{what}: latency, mean error", float(np.abs(latency / truth - 1).mean() * 100), "%", ""),
        (f"{what}: latency, Spearman", float(spearmanr(latency, truth)[0]), "", "0.95"),
        (f"{what}: size, largest error", float(np.abs(size).max() * 100), "%", "2"),
        (f"{what}: memory, largest error", float(np.abs(memory).max() * 100), "%", "15"),
        (f"{what}: memory, median error", float(np.median(np.abs(memory)) * 100), "%", ""),
        ("measuring the processor", seconds, "s", "120"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="names in published.py, with commas between")
    arguments = parser.parse_args()
    networks = arguments.networks.split(",")
    if unknown := set(networks) - set(published.NETWORKS):
        parser.error(f"unknown networks {', '.join(sorted(unknown))}; known: {', '.join(published.NETWORKS)}")
    table = processor(arguments.threads, networks)
    for what, value, unit, goal in table:
        print(f"{what:72s} {value:8.4g} {unit:6s} {'goal ' + goal if goal else ''}")
    print(f"cpu_latency_error: {table[0][1]:.2f} %")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
