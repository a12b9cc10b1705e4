"""Whether one trained network says which plans are good after training: it ranks plans, each of which is then trained.

    python benchmarks/elastic_training.py --shared ../shared [--quick] [--plans 40] [--again]

The quick start's network, the plans that a search on an Ascend 310P3 may draw, 20,000 training images of Fashion-MNIST
(from the folder ``--shared``). One elastic network is trained on them. Random plans are ranked by the accuracy that
they have with its weights on the 2,000 images that a search evaluates on. Each plan is then fine-tuned by itself from
the float network, and measured on the 10,000 test images: this accuracy is what should have been predicted. Beside it
the rank correlation of the accuracy without training, on the same 2,000 images, and of the sum of the scores. All
trainings have batches of 64; an elastic network costs as many seconds of processor time as some fine-tunings. A step
is timed against a step of the float network: medians of processor time.

Finished rows are kept in runs/elastic_training.jsonl. The last line is ``elastic_spearman: <value> correlation``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from one_space import training_images
from scipy.stats import spearmanr

import autocomp
from autocomp.evaluators import PlanEvaluator, score
from autocomp.evaluators.elastic.inherited import inheriting
from autocomp.evaluators.elastic.training import train_shared
from autocomp.evaluators.fine_tuning import FineTuning, TrainingSamples, fine_tune, outputs_of
from autocomp.measurement.processor import device
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode
from autocomp.problem.jobs import Job, prepare
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Plan

FILE = Path("runs/elastic_training.jsonl")
DEVICE, SHAPE, BATCH = "ascend-310p3", (256, 1, 28, 28), 64
SEED = 26  # of the plans; those of the training have seed 0
WAYS = ("elastic", "post-training", "scores")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--plans", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100, help="of the fine-tuning of each plan")
    parser.add_argument("--elastic-steps", type=int, default=800)
    parser.add_argument("--again", action="store_true", help="measure rows that are kept, too")
    parser.add_argument("--quick", action="store_true", help="4 plans, 10 and 40 steps; nothing is kept")
    options = parser.parse_args()
    if options.quick:
        options.plans, options.steps, options.elastic_steps = 4, 10, 40
    done = {} if options.again or options.quick or not FILE.exists() else stored()
    job, train = prepared(options.shared)
    name = f"elastic {options.elastic_steps}"
    plans = drawn(job, options.plans)
    if name not in done or any(str(plan) not in done[name]["predicted"] for plan in plans):
        done[name] = elastic_row(job, train, options.elastic_steps, plans)
        keep(done, options)
    test = load_samples("test")
    on_test = job.evaluator.on(test.x, test.y, None)
    for plan in plans:
        if (key := f"{options.steps} steps of {plan}") not in done:
            done[key] = tuned_row(job, on_test, plan, train, options.steps)
            keep(done, options)
            show(done, name, [p for p in plans if f"{options.steps} steps of {p}" in done], options.steps)


def prepared(shared: Path) -> tuple[Job, tuple[np.ndarray, np.ndarray]]:
    train = training_images(shared)
    data = autocomp.Data(calibrate=load_samples("calibrate"), evaluate=load_samples("evaluate"), train=train)
    return prepare(load_network(), device(DEVICE), data, SHAPE, "auto", 0), train


def drawn(job: Job, count: int) -> list[Plan]:
    """A longer list begins with the plans of a shorter one."""
    rng = np.random.default_rng(SEED)
    return [job.space.decode(job.space.random(rng, 1)[0]) for _ in range(count)]


def elastic_row(job: Job, train: Any, steps: int, plans: list[Plan]) -> Row:
    net, started = load_network(), time.process_time()
    trained = train_shared(net, job.evaluator, train, FineTuning(steps=steps, batch=BATCH))
    seconds = time.process_time() - started
    shared = inheriting(net, job.evaluator, trained, job.calibration)
    scores = score(job.evaluator)
    predicted = {
        str(plan): {
            "elastic": shared.evaluate(plan).accuracy,
            "post-training": job.evaluator.evaluate(plan).accuracy,
            "scores": -float(scores(job.space.encode(plan)[None])[0]),
        }
        for plan in plans
    }
    return {"row": f"elastic {steps}", "seconds": seconds, "predicted": predicted, **median_steps(job, train)}


def median_steps(job: Job, train: Any) -> Row:
    """Seconds of processor time of a step of the float network and of the elastic one."""
    return {name: median(run(job, train)[3:]) for name, run in STEPS.items()}


class Clock:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.last = time.process_time()

    def __call__(self, *_: Any) -> None:
        now = time.process_time()
        self.times.append(now - self.last)
        self.last = now


def float_steps(job: Job, train: Any) -> list[float]:
    samples, clock = TrainingSamples(job.evaluator, train, FineTuning(steps=25, batch=BATCH)), Clock()
    with execution_mode(graph=True):
        samples.train(copy_network(load_network()).set_train(), None, [], clock)
    return clock.times


def elastic_steps(job: Job, train: Any) -> list[float]:
    clock = Clock()
    train_shared(load_network(), job.evaluator, train, FineTuning(steps=25, batch=BATCH), clock)
    return clock.times


STEPS = {"float step": float_steps, "elastic step": elastic_steps}


def tuned_row(job: Job, on_test: PlanEvaluator, plan: Plan, train: Any, steps: int) -> Row:
    started = time.process_time()
    tuned = fine_tune(load_network(), job.evaluator, plan, train, FineTuning(steps=steps, batch=BATCH), job.calibration)
    seconds = time.process_time() - started
    reached = on_test.accuracy_of(outputs_of(tuned, on_test))
    return {"row": f"{steps} steps of {plan}", "seconds": seconds, "accuracy": reached}


def stored() -> dict[str, Row]:
    rows = [json.loads(line) for line in FILE.read_text().splitlines()]
    return {row["row"]: row for row in rows}


def keep(done: dict[str, Row], options: argparse.Namespace) -> None:
    if not options.quick:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text("".join(f"{json.dumps(row)}\n" for row in done.values()))


def show(done: dict[str, Row], name: str, plans: list[Plan], steps: int) -> None:
    elastic, tuned = done[name], [done[f"{steps} steps of {plan}"] for plan in plans]
    reached = [row["accuracy"] for row in tuned]
    one = float(np.mean([row["seconds"] for row in tuned]))
    print(f"{len(plans)} plans, {steps} steps each: test accuracy {min(reached):.3f} to {max(reached):.3f}")
    print(f"{'predicted by':16} {'Spearman':>8}   lowest and highest prediction")
    for way in WAYS:
        found = [elastic["predicted"][str(plan)][way] for plan in plans]
        correlation = float(spearmanr(found, reached)[0]) if len(plans) > 2 else float("nan")
        print(f"{way:16} {correlation:8.3f}   {min(found):.3f} {max(found):.3f}")
        if way == "elastic":
            of_elastic = correlation
    print(f"{name} steps: {elastic['seconds']:.0f} s, as {elastic['seconds'] / one:.1f} plans of {one:.0f} s")
    ratio = elastic["elastic step"] / elastic["float step"]
    print(f"a step: {ratio:.2f} times the float network's ({1e3 * elastic['float step']:.0f} ms)")
    print(f"elastic_spearman: {of_elastic:.3f} correlation", flush=True)


if __name__ == "__main__":
    main()
