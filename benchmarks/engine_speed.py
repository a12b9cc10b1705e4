"""Images a second of evaluating plans of ResNet-20, over MindSpore's plain forward pass in GRAPH mode.

Both on the same images in one run, in turns, medians. MindSpore runs the float network with the batch that is fastest
for it here and with oneDNN's fast convolutions, which ``import autocomp`` sets. An evaluation is all that a search does
for a plan: its numbers, its session, BatchNorm's statistics, the images, the accuracy (goal: 3.5 times as many
images). The elastic network in MindSpore is the reference: its class must be onnxruntime's (goal: on 99.9 %).

python benchmarks/engine_speed.py [--shared ../shared] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from elastic import drawn, in_turns
from search_methods import FULL, QUICK, Bench, Subject

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import Plan

BATCHES = (32, 64, 128, 256, 512)
REPEATS, QUICK_REPEATS, COMPARED = 15, 3, 4
GOAL = 3.5


def main(shared: Path, quick: bool) -> None:
    extent = QUICK if quick else FULL
    subject = Subject.named("resnet20", extent, shared)
    evaluator, repeats = Bench.prepare(subject, extent).job.evaluator, QUICK_REPEATS if quick else REPEATS
    x, count = evaluator.inputs[0], len(evaluator.inputs[0])

    def plain(batch: int, _: int = 0) -> None:
        for start in range(0, count - batch + 1, batch):
            forward(subject.network, (x[start : start + batch],))

    seconds = {batch: in_turns(partial(plain, batch), lambda _: None, 3)[0] for batch in BATCHES}
    rates = {batch: count // batch * batch / taken for batch, taken in seconds.items()}
    best = max(rates, key=lambda batch: rates[batch])
    print(f"{count} images; MindSpore with batches of {best}: {rates[best]:.0f} images/s (others {shown(rates)})")
    print("plans                  MindSpore   a plan   ratio   class as the elastic network's")
    ratios = []
    elastic = MindSporeEngine(subject.network, evaluator.space.graph)
    for kind in ("quantizes", "prunes and quantizes"):
        plans = drawn(evaluator.space, kind, repeats)
        before, taken = in_turns(partial(plain, best), partial(measure, evaluator, plans), repeats)
        whole, with_plan = count // best * best / before, count / taken
        same = np.mean([agreement(evaluator, elastic, plan) for plan in plans[:COMPARED]])
        ratios.append(with_plan / whole)
        print(f"{kind:22s} {whole:7.0f} {with_plan:10.0f}   {ratios[-1]:5.2f}   {same:.3%}", flush=True)
    print(f"goals: {GOAL} and 99.9 %")
    print(f"evaluation_over_mindspore: {min(ratios):.2f} ratio")


def measure(evaluator: PlanEvaluator, plans: list[Plan], i: int) -> None:
    evaluator.evaluate(plans[i])


def agreement(evaluator: PlanEvaluator, elastic: MindSporeEngine, plan: Plan) -> float:
    compressed = evaluator.compress(plan)
    found, reference = (e.outputs(compressed, evaluator.inputs)[0].argmax(1) for e in (evaluator.engine, elastic))
    return float(np.mean(found == reference))


def shown(rates: dict[int, float]) -> str:
    return ", ".join(f"{batch}: {rate:.0f}" for batch, rate in rates.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--quick", action="store_true", help="500 images, 3 repetitions")
    given = parser.parse_args()
    main(given.shared, given.quick)
