"""How plans are judged, and how good they become, where the user gives no data.

python benchmarks/without_data.py [--network resnet20 --shared ../shared] [--plans 60]

The same joint plans, three quarters of which change only a share of the knobs, calibrated and judged by their fidelity
on noise, on inputs distilled from BatchNorm's statistics, and on real images. For each: the mean accuracy of the plans
on 2,000 held-out images, and the Spearman correlation of their fidelity with it, of all plans and of those that lose
less than 10 points.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scores import NEAR, partly_changed, rank
from search_methods import FULL, NETWORKS, Labelled, Subject

from autocomp.evaluators import PlanEvaluator, synthetic_inputs
from autocomp.evaluators.accuracy import calibrated_on
from autocomp.evaluators.distilled_inputs import inputs_without_data
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import SearchSpace

REAL = 256


def mixed(space: SearchSpace, count: int) -> np.ndarray:
    """(count, knobs) int."""
    joint = count // 4
    rows = [partly_changed(space.sizes, count - joint), space.random(np.random.default_rng(0), joint)]
    return np.concatenate(rows)


def measured(evaluator: PlanEvaluator, vectors: np.ndarray, held_out: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """(n,) accuracies and fidelities."""
    x, y = held_out
    found = []
    for vector in vectors:
        compressed = evaluator.compress(evaluator.space.decode(vector))
        classes = evaluator.engine.outputs(compressed, (x,))[0].argmax(1)
        fidelity = evaluator.accuracy_of(evaluator.engine.outputs(compressed, evaluator.inputs))
        found.append((np.mean(classes == y), fidelity))
    accuracies, fidelities = np.array(found).T
    return accuracies, fidelities


def main(subject: Subject, plans: int) -> None:
    net, chip = subject.network, device("ascend-310p3")
    graph, parameters = trace(net, (subject.calibrate[:1],)), parameters_of(net)
    choices = Choices(chip.formats, chip.channel_divisor)
    started = time.perf_counter()
    distilled = inputs_without_data(net, graph, parameters)
    print(f"distilled in {time.perf_counter() - started:.0f} s")
    kinds = {"noise": synthetic_inputs(graph), "distilled": distilled, "real": (subject.calibrate[:REAL],)}
    for name, x in kinds.items():
        evaluator = evaluator_of(net, graph, choices, x, None, calibrated_on(graph, x), True)
        vectors = mixed(evaluator.space, plans)
        accuracies, fidelities = measured(evaluator, np.vstack([np.zeros_like(vectors[:1]), vectors]), subject.evaluate)
        near = accuracies[1:] >= accuracies[0] - NEAR
        print(f"{name:10s} mean accuracy {accuracies[1:].mean():.4f}, float {accuracies[0]:.4f};", end=" ")
        print(f"Spearman {rank(fidelities[1:], accuracies[1:]):.3f};", end=" ")
        print(f"of {near.sum()} near {rank(fidelities[1:][near], accuracies[1:][near]):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--plans", type=int, default=60)
    given = parser.parse_args()
    main(Subject.named(given.network, FULL, given.shared), given.plans)
