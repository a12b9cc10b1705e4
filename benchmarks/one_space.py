"""One search over all primitives, with training: what it gains, and what each primitive gives.

    python benchmarks/one_space.py --shared ../shared [--quick] [--seeds 1] [--rows joint,after] [--epochs 11] [--again]

The quick start's network, its 2,000 images to evaluate on, 20,000 training images of Fashion-MNIST (from the folder
``--shared``), budget ``latency<75%, size<50%`` on ``ascend-310p3:mindspore``, which reads 1 to 8 bits.
Rows, a search each:

* ``joint``: the primitives of ``"auto"``, plans near the front trained in rounds;
* ``after``: rounding and pruning alone, then three points of its front fine-tuned by LSQ with as many steps as the
  rounds had, and more points while it is faster than ``joint`` was;
* ``without NAME``, ``with NAME``: ``joint`` without one of these primitives, or with another one.

With ``--epochs`` plans near the front train for so many epochs in all, in place of a search's usual ones.

All points are measured on the 10,000 test images. Hypervolume is over (test error, size) and (test error, latency),
costs as shares of the float network's. Finished rows are kept in runs/one_space.jsonl.
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

FILE = Path("runs/one_space.jsonl")
BUDGET, DEVICE, BATCH, TRAINED = "latency<75%, size<50%", "ascend-310p3:mindspore", 256, 20_000
AFTERWARDS, SIZE = 3, 0.06  # points that are trained; the share of the size at which accuracy is told
AUTO = ("channel-pruning", "rtn", "adaround", "lsq", "slb")
OTHERS = ("simqat", "pact", "taylor", "scop", "low-rank", "ghost", "block-skipping")
SEARCHES = {"joint": AUTO} | {f"without {name}": tuple(one for one in AUTO if one != name) for name in AUTO}
SEARCHES |= {f"with {name}": (*AUTO, name) for name in OTHERS}
ROWS = ("joint", "after", *(name for name in SEARCHES if name != "joint"))
Row = dict[str, Any]


def main() -> None:
    options = arguments()
    rows = [] if options.quick or not FILE.exists() else [json.loads(line) for line in FILE.read_text().splitlines()]
    others = [row for row in rows if row.get("epochs") != options.epochs]
    done = {(row["row"], row["seed"]): row for row in rows if row not in others and not options.again}
    for seed in range(options.seeds):
        for name in options.rows.split(","):
            if (name, seed) not in done:
                done[name, seed] = examined(name, options, seed, done)
                if not options.quick:
                    FILE.parent.mkdir(exist_ok=True)
                    FILE.write_text("".join(f"{json.dumps(row)}\n" for row in (*others, *done.values())))
            show(done)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rows", default="joint,after", help=f"joined by commas, of: {', '.join(ROWS)}")
    parser.add_argument("--epochs", type=float, help="of all trainings of a search; its own usual ones")
    parser.add_argument("--again", action="store_true", help="measure rows that are kept, too")
    parser.add_argument("--quick", action="store_true", help="48 plans on 500 images; nothing is kept")
    options = parser.parse_args()
    if unknown := set(options.rows.split(",")) - set(ROWS):
        parser.error(f"--rows must be of {', '.join(ROWS)}, but got {', '.join(sorted(unknown))}")
    return options


def examined(name: str, options: argparse.Namespace, seed: int, done: dict[tuple[str, int], Row]) -> Row:
    train, trials = training_images(options.shared), 48 if options.quick else 100
    evaluate = load_samples("evaluate").take(500 if options.quick else 2000)
    data = autocomp.Data(calibrate=load_samples("calibrate"), evaluate=evaluate, train=train)
    epochs = options.epochs if name != "after" else 0
    settings: dict[str, Any] = {
        "inputs": (BATCH, 1, 28, 28), "trials": trials, "seed": seed, "train_budget": epochs,
    }  # fmt: skip
    started = time.monotonic()
    if name == "after":
        front = autocomp.search(load_network(), BUDGET, DEVICE, data, **settings)
        joint = done.get(("joint", seed), {"steps": 300, "seconds": 600.0})
        trained_afterwards(front, train, seed, joint["steps"], joint["seconds"] - (time.monotonic() - started))
    else:
        front = autocomp.search(load_network(), BUDGET, DEVICE, data, primitives=SEARCHES[name], **settings)
    seconds = time.monotonic() - started
    return {"row": name, "seed": seed, "epochs": options.epochs, "seconds": seconds, **described(front)}


def training_images(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    sys.path.insert(0, str(shared / "data"))
    from load import fashion_mnist

    from autocomp.quickstart.network import MEAN, STD

    images, labels = fashion_mnist("train")
    x = (images[:TRAINED, None].astype(np.float32) / 255 - MEAN) / STD
    return x.astype(np.float32), np.asarray(labels[:TRAINED], np.int64)


def trained_afterwards(front: ParetoSet, train: Any, seed: int, steps: int, seconds: float) -> None:
    """Fine-tunes the points that the front needs most with so many steps in all, and more while time is left."""
    rows = np.array([[1 - point.accuracy, point.ratio("latency"), point.ratio("size")] for point in front])
    points, end = list(front), time.monotonic() + seconds
    for number, i in enumerate(by_worth(rows, np.ones(3))):
        if number >= AFTERWARDS and time.monotonic() > end:
            break
        settings, point = FineTuning(steps=max(1, steps // AFTERWARDS), seed=seed), points[i]
        assert point.deployer is not None
        front.add(point.trained(*point.deployer.fine_tune(point.plan, train, settings)))


def described(front: ParetoSet) -> Row:
    test = load_samples("test")
    tested = [point.evaluate(test) for point in front]
    accuracy = np.array([measured(point) for point in tested])
    whole = next((measured(one.reference) for one in tested if one.reference is not None), float(accuracy.max()))
    size, latency = (np.array([point.ratio(name) for point in front]) for name in ("size", "latency"))
    small = accuracy[size <= SIZE]
    return {
        "size": hypervolume(np.stack([1 - accuracy, size], 1), np.ones(2)),
        "latency": hypervolume(np.stack([1 - accuracy, latency], 1), np.ones(2)),
        "primitives": sorted({name for point in front for name in point.primitives}),
        "most in a point": max(len(point.primitives) for point in front),
        "steps": sum(int(point.fidelity.split("after ")[1].split()[0]) for point in front.tuned),
        "lost": float(whole - small.max()) if len(small) else None,
        "points": [[float(a), round(float(s), 4)] for a, s in zip(accuracy, size, strict=True)],
    }


def measured(point: Point) -> float:
    return point.accuracy if point.observed is None else point.observed


def show(done: dict[tuple[str, int], Row]) -> None:
    print(f"{'row':26} {'seed':>4} {'seconds':>8} {'hv size':>8} {'hv latency':>10} {'lost at 6 %':>11}  primitives")
    for row in done.values():
        lost = "-" if row["lost"] is None else f"{100 * row['lost']:.2f}"
        hypervolumes = f"{row['size']:8.4f} {row['latency']:10.4f}"
        print(
            f"{row['row']:26} {row['seed']:>4} {row['seconds']:8.0f} {hypervolumes} {lost:>11}  "
            f"{', '.join(row['primitives'])} (at most {row['most in a point']} in one point)"
        )
    ratios = [
        row[name] / done["after", seed][name]
        for (kind, seed), row in done.items()
        for name in ("size", "latency")
        if kind == "joint" and ("after", seed) in done
    ]
    print(f"joint over afterwards, hypervolume: {np.mean(ratios) if ratios else float('nan'):.3f} times")


if __name__ == "__main__":
    main()
