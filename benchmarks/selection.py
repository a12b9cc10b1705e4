"""Whether the points that a search picks are reported as they are: reported less test accuracy over many samplings.

    python benchmarks/selection.py [--quick] [--rows FILE] [--seeds 60]

One search of the quick start's network gives 200 plans. Each is run once on 12,000 images of Fashion-MNIST that were
not trained on; which answers are right is kept in the file of rows, so that a second call takes seconds. A seed draws
2,000 of the images, on which plans are measured and picked; the rest tests them. "as measured" reports the change on
the 2,000, "shrunk" what a front reports.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import autocomp
from autocomp.evaluators.distances import divergences
from autocomp.evaluators.paired import change_error
from autocomp.quickstart import load_network, load_samples
from autocomp.quickstart.run import BATCH, BUDGET, DEVICE
from autocomp.results.shrinkage import Changes, shrunk

DRAWN = 2000
Rows = dict[str, np.ndarray]


def main() -> None:
    options = arguments()
    rows = kept(options.rows, 24 if options.quick else 200, 2000 if options.quick else 12_000)
    drawn = min(DRAWN, len(rows["labels"]) // 2)
    found = [seeded(rows, seed, drawn) for seed in range(options.seeds)]
    print(f"{len(rows['right']) - 1} plans, {drawn} of {len(rows['labels'])} images, {options.seeds} seeds; points")
    for pick in found[0]:
        for way in ("as measured", "shrunk"):
            flattered, tested = np.array([seed[pick][way] for seed in found if pick in seed]).T
            error = flattered.std() / np.sqrt(len(flattered))
            print(f"{pick:24} {way:12} reported - test {flattered.mean():+.2f} ±{error:.2f}, test {tested.mean():+.2f}")
    for way in ("as measured", "shrunk"):
        print(f"mean of all, {way}: {np.mean([one[way][0] for seed in found for one in seed.values()]):+.3f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/.cache/selection.npz"), help="kept rows")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="24 plans on 2,000 images")
    options = parser.parse_args()
    if options.quick:
        options.rows = options.rows.with_stem(options.rows.stem + "-quick")
    return options


def kept(file: Path, trials: int, images: int) -> Rows:
    """right: (plans, images) bool, the float network first; divergence: the same shape, nats; cost: (plans, 2),
    latency and size as shares."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **measured(trials, images))
    with np.load(file) as stored:
        return dict(stored)


def measured(trials: int, images: int) -> Rows:
    calibrate, evaluate, test = (load_samples(role) for role in ("calibrate", "evaluate", "test"))
    data = autocomp.Data(calibrate=calibrate.take(512), evaluate=evaluate.take(2000))
    front = autocomp.search(
        load_network(), BUDGET, DEVICE, data, inputs=(BATCH, 1, 28, 28), trials=trials, patience=None
    )
    x = np.concatenate([evaluate.x[0], test.x[0]])[:images]
    labels = np.concatenate([np.asarray(evaluate.y), np.asarray(test.y)])[:images]
    known = front.deployer.evaluator  # type: ignore[union-attr]
    outputs = [known.engine.outputs(known.compress(point.plan), (x,))[0] for point in front.evaluated]
    return {
        "right": np.array([found.argmax(1) == labels for found in outputs]),
        "divergence": np.array([divergences(outputs[0], found) for found in outputs], np.float32),
        "cost": np.array([(point.ratio("latency"), point.ratio("size")) for point in front.evaluated]),
        "labels": labels,
    }


def seeded(rows: Rows, seed: int, drawn: int) -> dict[str, dict[str, tuple[float, float]]]:
    """For each way to pick and to report: reported less test change, and the test change; points."""
    order = np.random.default_rng(seed).permutation(len(rows["labels"]))
    seen, rest = order[:drawn], order[drawn:]
    of_float, plans = rows["right"][0], rows["right"][1:]
    change = plans[:, seen].mean(1) - of_float[seen].mean()
    test = plans[:, rest].mean(1) - of_float[rest].mean()
    error = np.array([change_error(right[seen], of_float[seen]) for right in plans])
    divergence = rows["divergence"][1:, seen].mean(1)
    ways = {
        "as measured": change,
        "shrunk": shrunk(Changes(change, error, np.full(len(change), drawn), divergence)),
    }
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for way, reported in ways.items():
        for pick, row in picked(reported, rows["cost"][1:]).items():
            found.setdefault(pick, {})[way] = (100 * float(reported[row] - test[row]), 100 * float(test[row]))
    return {pick: both for pick, both in found.items() if len(both) == len(ways)}


def picked(change: np.ndarray, cost: np.ndarray) -> dict[str, int]:
    """The row that each bound picks, as ParetoSet.pick does."""
    found = {"most accurate": int(change.argmax())}
    for points in (0.5, 1.0, 2.0):
        within = np.flatnonzero(change >= -points / 100)
        for name, column in (("latency", 0), ("size", 1)):
            if len(within):
                found[f"accuracy>-{points:g}%, {name}"] = int(within[cost[within, column].argmin()])
    for name, column, most in (("latency", 0, 0.55), ("size", 1, 0.15), ("size", 1, 0.1)):
        cheap = np.flatnonzero(cost[:, column] < most)
        if len(cheap):
            found[f"{name}<{100 * most:g}%"] = int(cheap[change[cheap].argmax()])
    return found


if __name__ == "__main__":
    main()
