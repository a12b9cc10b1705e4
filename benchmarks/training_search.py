"""What training within a search gains: plans trained in rounds, over training some points of its front afterwards.

    python benchmarks/training_search.py --shared ../shared [--quick] [--seeds 1] [--again]

The quick start's network, its 2,000 images to evaluate on, 20,000 training images of Fashion-MNIST (from the folder
``--shared``), budget ``latency<75%, size<50%``. Three fronts of one search for each seed: as it is without training
("none"), with plans trained in rounds ("rounds"), and with three points of the first front fine-tuned by LSQ with as
many steps in all ("afterwards"). All points are measured on the 10,000 test images. Finished rows are kept in
runs/training_search.jsonl. Hypervolume is over (test error, latency, size), costs as shares of the float network's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import autocomp
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.problem.pareto import by_worth, hypervolume
from autocomp.quickstart import load_network, load_samples
from autocomp.results.front import ParetoSet, Point

ROWS = Path("runs/training_search.jsonl")
BUDGET, DEVICE, BATCH, TRAINED = "latency<75%, size<50%", "ascend-310p3", 256, 20_000
AFTERWARDS = 3
Row = dict[str, Any]


def main() -> None:
    options = arguments()
    done = [] if options.again or options.quick or not ROWS.exists() else list(map(json.loads, ROWS.open()))
    for seed in range(options.seeds):
        if not any(row["seed"] == seed for row in done):
            done.append(examined(options, seed))
            if not options.quick:
                ROWS.parent.mkdir(exist_ok=True)
                ROWS.write_text("".join(f"{json.dumps(row)}\n" for row in done))
    print(f"{'seed':>4}  {'front':12} {'seconds':>8} {'hypervolume':>12}  test accuracy at the size (shares)")
    for row in done:
        for way, found in row["fronts"].items():
            points = ", ".join(f"{100 * accuracy:.1f} at {size:.3f}" for accuracy, size in found["points"])
            print(f"{row['seed']:>4}  {way:12} {found['seconds']:>8.0f} {found['hypervolume']:>12.4f}  {points}")
    ratios = [row["fronts"]["rounds"]["hypervolume"] / row["fronts"]["afterwards"]["hypervolume"] for row in done]
    print(f"rounds over afterwards: {np.mean(ratios):.3f} times")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure rows that are kept, too")
    parser.add_argument("--quick", action="store_true", help="48 plans on 500 images; nothing is kept")
    return parser.parse_args()


def examined(options: argparse.Namespace, seed: int) -> Row:
    """The three fronts of one seed."""
    train, trials = training_images(options.shared), 48 if options.quick else 100
    evaluate = load_samples("evaluate").take(500 if options.quick else 2000)
    data = autocomp.Data(calibrate=load_samples("calibrate"), evaluate=evaluate, train=train)
    settings: dict[str, Any] = {"inputs": (BATCH, 1, 28, 28), "trials": trials, "seed": seed}
    started = time.monotonic()
    plain = autocomp.search(load_network(), BUDGET, DEVICE, data, train_budget=0, **settings)
    fronts = {"none": described(plain, time.monotonic() - started)}
    started = time.monotonic()
    rounds = autocomp.search(load_network(), BUDGET, DEVICE, data, **settings)
    fronts["rounds"] = described(rounds, time.monotonic() - started)
    fronts["afterwards"] = described(plain, fronts["none"]["seconds"] + afterwards(plain, rounds, train, seed))
    return {"seed": seed, "trials": trials, "fronts": fronts}


def training_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    sys.path.insert(0, str(shared / "data"))
    from load import fashion_mnist

    from autocomp.quickstart.network import MEAN, STD

    images, labels = fashion_mnist("train")
    x = (images[:TRAINED, None].astype(np.float32) / 255 - MEAN) / STD
    return x.astype(np.float32), np.asarray(labels[:TRAINED], np.int64)


def afterwards(front: ParetoSet, rounds: ParetoSet, train: Any, seed: int) -> float:
    """Fine-tunes the points that the front needs most, with the steps that the rounds had; the seconds it takes."""
    steps = sum(int(point.fidelity.split("after ")[1].split()[0]) for point in rounds.tuned)
    rows = np.array([[1 - point.accuracy, point.ratio("latency"), point.ratio("size")] for point in front])
    started = time.monotonic()
    for i in by_worth(rows, np.ones(3))[:AFTERWARDS]:
        settings = FineTuning(steps=steps // AFTERWARDS, seed=seed)
        point = front[i]
        assert point.deployer is not None
        front.add(point.trained(*point.deployer.fine_tune(point.plan, train, settings)))
    return time.monotonic() - started


def described(front: ParetoSet, seconds: float) -> Row:
    test = load_samples("test")
    rows = np.array([[1 - on_test(point, test), point.ratio("latency"), point.ratio("size")] for point in front])
    points = sorted((float(1 - error), round(float(size), 3)) for error, _, size in rows)
    return {"seconds": seconds, "hypervolume": hypervolume(rows, np.ones(3)), "points": points}


def on_test(point: Point, test: Any) -> float:
    found = point.evaluate(test)
    return found.accuracy if found.observed is None else found.observed


if __name__ == "__main__":
    main()
