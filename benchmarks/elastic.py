"""What evaluating a plan costs, as a multiple of the plain network's forward pass on the same images.

python benchmarks/elastic.py [--quick]

Two ways, each against the float network in the same runtime, measured in turns in one run; medians:

* MindSpore: the elastic network in GRAPH mode with a plan set, the setting included, over the plain network's call.
* onnxruntime: all that an evaluation of a plan does in a search (the plan's numbers, its session, BatchNorm's
  statistics under the plan, the images, the accuracy) over the float network's session on the same images, with the
  same batches and threads. A plan cuts channels, so the whole may take less than the float network's forward pass;
  plans that only quantize show the overhead alone, and are what the last line counts.

The last line is ``elastic_over_plain: <value> ratio``, of onnxruntime, the way that a search takes on CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from autocomp.evaluators import OnnxEngine, PlanEvaluator
from autocomp.evaluators.calibration import layer_hessians, layer_moments, rounded_layers
from autocomp.hardware_models import device
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Plan, SearchSpace

DEVICE, IMAGES, GRAPH_BATCH, REPEATS, QUICK_REPEATS = "ascend-310p3", 2000, 256, 21, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REPEATS} repetitions instead of {REPEATS}")
    repeats = QUICK_REPEATS if parser.parse_args().quick else REPEATS

    net, samples = load_network(), load_samples("evaluate").take(IMAGES)
    x, calibration = samples.x[0], load_samples("calibrate").take(512).x
    chip, parameters = device(DEVICE), parameters_of(net)
    graph = trace(net, (x[:1],))
    space = search_space(graph, parameters, Choices(chip.formats, chip.channel_divisor))
    engine, in_float = OnnxEngine(graph, parameters), PlanCompressor(space, parameters)(Plan())
    moments = layer_moments(engine, graph, in_float, calibration)
    patches = layer_hessians(engine, graph, in_float, calibration, rounded_layers(space))
    evaluator = PlanEvaluator(engine, space, parameters, (x,), samples.y, calibration, moments=moments, patches=patches)
    plans = {kind: drawn(space, kind, repeats) for kind in ("quantizes", "prunes and quantizes")}

    rows: list[tuple[str, ...]] = [("runtime", "plans", "plain", "with the plan", "ratio")]
    rows += [row("MindSpore", kind, *in_graph_mode(net, evaluator, some)) for kind, some in plans.items()]
    measured = {kind: in_onnxruntime(evaluator, some) for kind, some in plans.items()}
    rows += [row("onnxruntime", kind, *times) for kind, times in measured.items()]
    print(f"{IMAGES} images a plan in onnxruntime, {GRAPH_BATCH} in MindSpore; medians of {repeats} in turns")
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, (12, 22, 12, 14, 6), strict=True)).rstrip())
    plain, with_plan = measured["quantizes"]
    print(f"elastic_over_plain: {with_plan / plain:.3f} ratio")


def drawn(space: SearchSpace, kind: str, count: int) -> list[Plan]:
    """Random plans, all different."""
    rng, found = np.random.default_rng(0), set[Plan]()
    while len(found) < count:
        plan = space.decode(space.random(rng, 1)[0])
        if kind == "quantizes":
            plan = Plan({name: value for name, value in plan.items() if name.startswith("format/")})
        found.add(plan)
    return sorted(found, key=str)


def in_graph_mode(net: object, evaluator: PlanEvaluator, plans: list[Plan]) -> tuple[float, float]:
    x = (evaluator.inputs[0][:GRAPH_BATCH],)
    elastic = ElasticNetwork(net, evaluator.space.graph)
    compressed_weights = [evaluator.compress(plan) for plan in plans]

    def with_plan(i: int) -> None:
        elastic.set(compressed_weights[i])
        elastic(x)

    return in_turns(lambda i: forward(net, x), with_plan, len(plans))


def in_onnxruntime(evaluator: PlanEvaluator, plans: list[Plan]) -> tuple[float, float]:
    engine = evaluator.engine
    assert isinstance(engine, OnnxEngine)
    session = engine._session(evaluator.compress(Plan()), Style())
    names = [output.name for output in session.get_outputs()]
    return in_turns(
        lambda i: engine._map(session, names, evaluator.inputs), lambda i: evaluator.evaluate(plans[i]), len(plans)
    )


def in_turns(plain: Callable[[int], object], with_plan: Callable[[int], object], count: int) -> tuple[float, float]:
    """Median seconds of both; the first call of each, which compiles, is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in (0, *range(count)):
        for run, found in zip((plain, with_plan), times, strict=True):
            started = time.perf_counter()
            run(i)
            found.append(time.perf_counter() - started)
    return median(times[0][1:]), median(times[1][1:])


def row(runtime: str, kind: str, plain: float, with_plan: float) -> tuple[str, ...]:
    return runtime, kind, f"{1e3 * plain:.0f} ms", f"{1e3 * with_plan:.0f} ms", f"{with_plan / plain:.2f}"


if __name__ == "__main__":
    main()
