"""What lower resolutions add to the front of a search, in as many evaluations.

    python benchmarks/resolution_searches.py --shared ../shared [--quick] [--seeds 1] [--ways own,lower,...] [--again]

ResNet-20 for CIFAR-10 (JPEG images) at batch 256 on ascend-310p3, budget ``latency<90%, accuracy>60%``, 2,000 images to
evaluate on. Ways: ``own`` is a search at the network's own resolution, ``lower`` one with ``resolutions=(0.875,
0.75)`` in as many evaluations; ``own, trained`` and ``lower, trained`` also have 20,000 training images, with the same
epochs for plans near the front. Points are measured on the 8,000 test images that the search did not see.
Hypervolume is over (test error, latency as a share of the float network's), from (1, 1). Finished rows are kept in
runs/resolution_searches.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from cifar import Cifar

import autocomp
from autocomp.problem.pareto import hypervolume

FILE = Path("runs/resolution_searches.jsonl")
DEVICE, BUDGET, BATCH = "ascend-310p3", "latency<90%, accuracy>60%", 256
RATIOS, TRIALS, TRAINED, EVALUATED = (0.875, 0.75), 90, 20_000, 2000
TRAIN_BUDGET = 1.0  # epochs of a search without other resolutions; those with them have it for each
WAYS = ("own", "lower", "own, trained", "lower, trained")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ways", default=";".join(WAYS), help=f"joined by semicolons, of: {'; '.join(WAYS)}")
    parser.add_argument("--again", action="store_true", help="measure rows that are kept, too")
    parser.add_argument("--quick", action="store_true", help="12 evaluations on 300 images; nothing is kept")
    options = parser.parse_args()
    ways = [way.strip() for way in options.ways.split(";")]
    if unknown := set(ways) - set(WAYS):
        parser.error(f"--ways must be of {'; '.join(WAYS)}, but got {'; '.join(sorted(unknown))}")
    keeps = not options.quick
    rows = [json.loads(line) for line in FILE.read_text().splitlines()] if keeps and FILE.exists() else []
    done = {(row["way"], row["seed"]): row for row in rows}
    for seed in range(options.seeds):
        for way in ways:
            if (way, seed) not in done or options.again:
                done[way, seed] = searched(Cifar(options.shared), way, seed, options.quick)
                if keeps:
                    FILE.parent.mkdir(exist_ok=True)
                    FILE.write_text("".join(f"{json.dumps(row)}\n" for row in done.values()))
            show(done)


def searched(cifar: Cifar, way: str, seed: int, quick: bool) -> Row:
    images = cifar.images("test", 600 if quick else None)
    evaluated = 300 if quick else EVALUATED
    seen = cifar.images("train", 1000 if quick else TRAINED)
    trains, lowers = way.endswith("trained"), way.startswith("lower")
    data = autocomp.Data(
        evaluate=(images.x[:evaluated], images.y[:evaluated]),
        calibrate=seen.x[:256],
        train=(seen.x, seen.y) if trains else None,
    )
    searches = 1 + len(RATIOS) if lowers else 1
    started = time.monotonic()
    front = autocomp.search(
        cifar.network(), BUDGET, DEVICE, data, inputs=(BATCH, 3, 32, 32), resolutions=RATIOS if lowers else (),
        trials=12 if quick else TRIALS, train_budget=TRAIN_BUDGET / searches if trains else 0, fine_tune=1, seed=seed,
        patience=None,
    )  # fmt: skip
    seconds = time.monotonic() - started
    rows, whole = [], 0.0
    for point in front:
        tested = point.evaluate((images.x[evaluated:], images.y[evaluated:]))
        whole = whole if tested.reference is None else tested.reference.accuracy
        ratio = float(point.plan.get("resolution/images", 1))
        rows.append([tested.accuracy, point.ratio("latency"), ratio, point.tuned])
    found = np.array([[1 - accuracy, latency] for accuracy, latency, *_ in rows])
    return {
        "way": way, "seed": seed, "seconds": seconds, "float": whole, "points": rows, "notes": list(front.notes),
        "hypervolume": hypervolume(found, np.ones(2)),
    }  # fmt: skip


def show(done: dict[tuple[str, int], Row]) -> None:
    print(f"{'way':16} {'seed':>4} {'seconds':>8} {'hypervolume':>12}  points of each resolution; lost at 70, 50, 40 %")
    for row in done.values():
        ratios = [point[2] for point in row["points"]]
        counts = ", ".join(f"{ratio:g}: {ratios.count(ratio)}" for ratio in sorted(set(ratios)))
        lost = ", ".join(_lost(row, share) for share in (0.7, 0.5, 0.4))
        print(f"{row['way']:16} {row['seed']:>4} {row['seconds']:8.0f} {row['hypervolume']:12.4f}  {counts}; {lost}")
    gains = [
        done[f"lower{kind}", seed]["hypervolume"] / row["hypervolume"]
        for (way, seed), row in done.items()
        for kind in (way.removeprefix("own"),)
        if way.startswith("own") and (f"lower{kind}", seed) in done
    ]
    print(f"lower resolutions over the network's own: {np.mean(gains) if gains else float('nan'):.4f} times")


def _lost(row: Row, share: float) -> str:
    """Points lost by the most accurate point that is so fast."""
    fast = [accuracy for accuracy, latency, *_ in row["points"] if latency <= share]
    return f"{100 * (row['float'] - max(fast)):.2f}" if fast else "-"


if __name__ == "__main__":
    main()
