"""Training in rounds against training everything: hypervolume for so many training steps.

    python benchmarks/fidelities.py --shared ../shared [--quick] [--trials 24] [--steps 20] [--pool 6] [--seed 0]

The quick start's network, its 2,000 images to evaluate on, 20,000 training images of Fashion-MNIST (from the folder
``--shared``), budget ``latency<75%, size<50%`` on ``ascend-310p3:mindspore``, which reads 1 to 8 bits. A search of so
many plans is made twice. In the one, plans near its front are trained in three rounds, the better half of them further:
6 plans (``--pool``) for ``--steps`` each, 3 for twice and 2 for four times as many, 20 times ``--steps`` in all. In the
other, every
evaluated plan within the budget is fine-tuned for all steps that the longest training of the rounds has, 7 times
``--steps``, by the first of the primitives that train it. Both fronts hold what is best on the search's images, trained
or not; their points are then measured on the 10,000 test images. Hypervolume is over (test error, size) and (test
error, latency), costs as shares of the float network's.

Finished trainings are kept in runs/fidelities.jsonl. The last line is ``rounds over everything: <value> times``, the
mean of the two ratios; the line above has the steps.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from one_space import AUTO, BATCH, BUDGET, DEVICE, measured, training_images

import autocomp
from autocomp.deployment import recovery
from autocomp.deployment.recovery import ROUNDS, assignments
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.problem.pareto import hypervolume, nondominated
from autocomp.quickstart import load_network, load_samples
from autocomp.results.front import ParetoSet, Point

FILE = Path("runs/fidelities.jsonl")
USUAL = recovery.POOL
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--trials", type=int, default=24, help="plans that a search evaluates")
    parser.add_argument("--steps", type=int, default=20, help="of a training in the first round")
    parser.add_argument("--pool", type=int, default=recovery.POOL, help="plans in the first round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="6 plans, 2 steps; nothing is kept")
    options = parser.parse_args()
    if options.quick:
        options.trials, options.steps = 6, 2
    Comparison(options).run()


class Comparison:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.train, self.test = options, training_images(options.shared), load_samples("test")
        self.rows: list[Row] = []
        self.kept = not options.quick
        if self.kept and FILE.exists():
            self.rows = [json.loads(line) for line in FILE.read_text().splitlines()]

    def run(self) -> None:
        given = self.options
        longest = given.steps * (2**ROUNDS - 1)
        base = self.searched(train_budget=0)
        untrained = [self.row(point, 0, "evaluated") for point in base.evaluated if not point.is_float]
        trained = [self.fine_tuned(point, base, longest) for point in base.evaluated if within(point)]
        recovery.POOL = given.pool
        epochs = ROUNDS * given.pool * given.steps / (len(self.train[0]) // FineTuning(epochs=1).batch)
        started = time.process_time()
        name = "rounds" if given.pool == USUAL else f"rounds of {given.pool}"
        rounds = self.known(name) or [
            self.row(point, int(point.fidelity.split("after ")[1].split()[0]) if point.tuned else 0, name)
            for point in self.searched(train_budget=epochs)
        ]
        print(f"the search with rounds: {time.process_time() - started:.0f} s of processor time")
        self.show(untrained, trained, rounds, longest)

    def searched(self, train_budget: float) -> ParetoSet:
        evaluate = load_samples("evaluate").take(500 if self.options.quick else 2000)
        data = autocomp.Data(calibrate=load_samples("calibrate"), evaluate=evaluate, train=self.train)
        return autocomp.search(
            load_network(), BUDGET, DEVICE, data, primitives=AUTO, inputs=(BATCH, 1, 28, 28),
            trials=self.options.trials, seed=self.options.seed, train_budget=train_budget, fine_tune=1,
        )  # fmt: skip

    def fine_tuned(self, point: Point, base: ParetoSet, steps: int) -> Row:
        name = f"{steps} steps of {point.plan}"
        if found := self.known(name):
            return found[0]
        deployer: Any = point.deployer
        by = replace(point, plan=assignments(point.plan, deployer.evaluator.space)[0])
        started = time.process_time()
        tuned = by.trained(*deployer.fine_tune(by.plan, self.train, FineTuning(steps=steps, seed=self.options.seed)))
        print(f"{tuned.summary()}: {time.process_time() - started:.0f} s of processor time", flush=True)
        return self.row(tuned, steps, name)

    def known(self, name: str) -> list[Row]:
        own = [self.options.trials, self.options.steps, self.options.seed]
        return [row for row in self.rows if row["row"] == name and row["of"] == own]

    def row(self, point: Point, steps: int, name: str) -> Row:
        row = {
            "row": name, "of": [self.options.trials, self.options.steps, self.options.seed], "steps": steps,
            "chosen on": measured(point), "test": measured(point.evaluate(self.test)),
            "size": float(point.ratio("size")), "latency": float(point.ratio("latency")),
        }  # fmt: skip
        if self.kept and name != "evaluated":
            self.rows.append(row)
            FILE.parent.mkdir(exist_ok=True)
            FILE.write_text("".join(f"{json.dumps(one)}\n" for one in self.rows))
        return row

    def show(self, untrained: list[Row], trained: list[Row], rounds: list[Row], longest: int) -> None:
        everything = chosen(untrained + trained)
        pool = self.options.pool
        steps = {"rounds": self.options.steps * (pool + 2 * -(-pool // 2) + 4 * -(-pool // 4)),
                 "everything": longest * len(trained)}  # fmt: skip
        print(f"{'':12} {'steps':>6} {'points':>6} {'trained':>7} {'hv size':>8} {'hv latency':>10}")
        found = {}
        for name, rows in {"untrained": chosen(untrained), "rounds": rounds, "everything": everything}.items():
            found[name] = volumes(rows)
            of_training = sum(row["steps"] > 0 for row in rows)
            size, latency = found[name]
            print(f"{name:12} {steps.get(name, 0):>6} {len(rows):>6} {of_training:>7} {size:8.4f} {latency:10.4f}")
        print(f"steps of rounds over everything: {steps['rounds'] / steps['everything']:.3f}")
        ratios = [a / b for a, b in zip(found["rounds"], found["everything"], strict=True)]
        print(f"rounds over everything: {float(np.mean(ratios)):.4f} times")


def within(point: Point) -> bool:
    return not point.is_float and point.ratio("latency") < 0.75 and point.ratio("size") < 0.5


def chosen(rows: list[Row]) -> list[Row]:
    """Those on the front of the search's own images."""
    points = np.array([[1 - row["chosen on"], row["size"], row["latency"]] for row in rows])
    return [row for row, on in zip(rows, nondominated(points), strict=True) if on]


def volumes(rows: list[Row]) -> tuple[float, float]:
    size, latency = (
        hypervolume(np.array([[1 - row["test"], row[name]] for row in rows]), np.ones(2))
        for name in ("size", "latency")
    )
    return float(size), float(latency)


if __name__ == "__main__":
    main()
