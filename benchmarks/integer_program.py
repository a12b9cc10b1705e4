"""Bits alone: a search beside an integer program over one sensitivity pass, rounded by the same quantizer.

    python benchmarks/integer_program.py [--seeds 3] [--quick]
    python benchmarks/integer_program.py --network resnet20 --shared ../shared

The space: the formats ``w8a8`` to ``w2a8`` and float for each layer, costs at exact bits. The integer program (HAWQ-V3,
Yao et al., ICML 2021, section 3.4, with measured divergences in the place of Hessian traces): each format of each layer
is evaluated alone, and for bounds on the cost the sum of the divergences is minimised exactly (scipy's HiGHS). Each of
its plans is then evaluated. The search makes as many evaluations as that in all, its scoring pass not counted for it
but run with the same images. Beside both stand the uniform plans of 8, 6, 4 and 3 bits.

Plans are chosen on the images to evaluate on; a front is told on the 10,000 test images. Hypervolume is over (test
accuracy, cost), up to ten points below the float network and up to the cost of ``w8a8`` in every layer; beside it over
all accuracies and costs. The last line is the mean ratio of the search to the integer program.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from autocomp.evaluators.distances import divergences
from autocomp.measurement.processor import device
from autocomp.problem.jobs import Job, prepare
from autocomp.problem.pareto import hypervolume, on_front
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Format, Plan

FORMATS = ("float", *(f"w{bits}a8" for bits in range(8, 1, -1)))
UNIFORM = (8, 6, 4, 3)
BOUNDS = 24  # of the integer program, at equal ratios between the smallest plan and w8a8
LOST = 0.10  # of accuracy, below which nothing counts
METRICS = ("weight_bytes", "bops")
Row = tuple[float, float]  # test accuracy, cost as a share of the float network's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("quickstart", "resnet20"), default="quickstart")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="of resnet20")
    parser.add_argument("--seeds", type=int, default=3, help="of the search")
    parser.add_argument("--quick", action="store_true", help="6 bounds, 500 images, one seed")
    options = parser.parse_args()
    net, data, test, shape = subject(options)
    chip = replace(device("ascend-310p3"), formats=tuple(Format.parse(text) for text in FORMATS))
    job = prepare(net, chip, data, shape, ("rtn", "adaround"), 0, exact_bits=True)
    tested = job.evaluator.on(*test, None)
    print(f"{'cost':14}{'method':>20}{'evaluations':>13}{'seconds':>9}{'hypervolume':>13}{'of all':>9}")
    ratios = []
    for metric in METRICS:
        ratios += compared(metric, net, chip, data, shape, job, tested, options)
    print(f"search over integer program, hypervolume: {np.mean(ratios):.3f} times")


def subject(options: argparse.Namespace) -> tuple[Any, Any, tuple[Any, Any], tuple[int, ...]]:
    """Network, data of the search, test images and labels, shape with a batch."""
    count = 500 if options.quick else 2000
    if options.network == "quickstart":
        data = autocomp.Data(calibrate=load_samples("calibrate"), evaluate=load_samples("evaluate").take(count))
        test = load_samples("test")
        return load_network(), data, (test.x, test.y), (256, 1, 28, 28)
    from cifar import Cifar

    known = Cifar(options.shared)
    train, held_out = known.images("train"), known.images("test")
    data = autocomp.Data(calibrate=train.x[:512], evaluate=(train.x[-count:], train.y[-count:]))
    return known.network(), data, ((held_out.x,), held_out.y), (256, 3, 32, 32)


def compared(
    metric: str, net: Any, chip: Any, data: Any, shape: tuple[int, ...], job: Job, tested: Any, options: Any
) -> list[float]:
    """Prints a metric's rows; the ratios of the search to the integer program, one for each seed."""
    started, space = time.monotonic(), job.space
    bounds = 6 if options.quick else BOUNDS
    plans, evaluations = integer_program(job, metric, bounds)
    accuracies = [job.evaluator.evaluate(plan).accuracy for plan in plans]
    rows = np.stack([1 - np.array(accuracies), shares(job, plans, metric)], 1)
    peer = [plan for plan, best in zip(plans, on_front(rows, np.zeros(len(rows))), strict=True) if best]
    whole = tested.evaluate(Plan()).accuracy
    uniform = [Plan({knob.name: f"w{bits}a8" for knob in space.knobs}) for bits in UNIFORM]
    uniform = [space.decode(space.encode(plan)) for plan in uniform]
    most = float(shares(job, uniform[:1], metric)[0])

    def told(name: str, count: int, seconds: float, plans: Sequence[Plan]) -> float:
        found = [tested.evaluate(plan).accuracy for plan in plans]
        costs = shares(job, plans, metric)
        errors = 1 - np.array(found)
        inner = hypervolume(np.stack([(errors - (1 - whole)) / LOST, costs / most], 1), np.ones(2))
        outer = hypervolume(np.stack([errors, costs], 1), np.ones(2))
        print(f"{metric:14}{name:>20}{count:>13}{seconds:>9.0f}{inner:>13.4f}{outer:>9.4f}", flush=True)
        return float(inner)

    for bits, plan in zip(UNIFORM, uniform, strict=True):
        told(f"uniform w{bits}a8", 1, 0, [plan])
    evaluations += len(plans)
    before = told("integer program", evaluations, time.monotonic() - started, peer)
    ratios = []
    for seed in range(1 if options.quick else options.seeds):
        started = time.monotonic()
        front = autocomp.search(
            net, f"{metric}<{100 * most:.4f}%", chip, data, inputs=shape, primitives=("rtn", "adaround"),
            trials=evaluations, patience=None, fine_tune=0, seed=seed, progress=False,
        )  # fmt: skip
        taken = time.monotonic() - started
        plans = [point.plan for point in front if not point.is_float]
        ratios.append(told(f"search, seed {seed}", len(front.evaluated), taken, plans) / before)
    return ratios


def integer_program(job: Job, metric: str, bounds: int) -> tuple[list[Plan], int]:
    """The plans of least summed divergence for bounds on the cost, and the evaluations of the sensitivity pass."""
    space, evaluator = job.space, job.evaluator
    single = [(k, i) for k, knob in enumerate(space.knobs) for i in range(len(knob.values))]
    plain = evaluator.run(evaluator.compress(Plan()), evaluator.inputs)[0]
    harm, evaluations = np.zeros(len(single)), 0
    vectors = np.zeros((len(single), len(space.knobs)), int)
    for row, (k, i) in enumerate(single):
        vectors[row, k] = i
        if i:
            found = evaluator.run(evaluator.compress(space.decode(vectors[row])), evaluator.inputs)[0]
            harm[row], evaluations = float(divergences(plain, found).mean()), evaluations + 1
    costs = np.asarray(getattr(job.costs(vectors), metric), float)
    base = float(costs[0])
    of_knob = np.array([[float(k == place) for k, _ in single] for place in range(len(space.knobs))])
    least = base + sum(min(costs[r] - base for r, (k, _) in enumerate(single) if k == place)
                       for place in range(len(space.knobs)))  # fmt: skip
    eight = base + sum(costs[r] - base for r, (_, i) in enumerate(single) if i == 1)
    plans = []
    for bound in np.geomspace(least * 1.02, eight, bounds):
        within = [LinearConstraint(of_knob, 1, 1), LinearConstraint((costs - base)[None], -np.inf, bound - base)]
        solved = milp(harm, integrality=np.ones(len(single)), bounds=Bounds(0, 1), constraints=within)
        if solved.x is not None:
            chosen = [single[row][1] for row in np.flatnonzero(solved.x > 0.5)]
            plans.append(space.decode(chosen))
    return list(dict.fromkeys(plans)), evaluations


def shares(job: Job, plans: Sequence[Plan], metric: str) -> np.ndarray:
    vectors = np.array([job.space.encode(plan) for plan in plans])
    return np.asarray(getattr(job.costs(vectors), metric), float) / float(getattr(job.float_cost, metric))


if __name__ == "__main__":
    main()
