"""Searches over tables of trained networks, judged against the true front.

    python benchmarks/nas.py --shared ../shared [--quick] [--seeds 20] [--trials 50]
    python benchmarks/nas.py --declared --shared ../shared [--quick]
    python benchmarks/nas.py --knobs --shared ../shared [--quick] [--seconds 120] [--trained]
    python benchmarks/nas.py --resnet50 [--quick]

NAS-Bench-Macro (Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021; Apache-2.0):
6,561 networks of eight layers, three choices each, trained three times on CIFAR-10. The table answers as an evaluator
of ``autocomp.nas.search_choices``; the mean accuracy and the multiply-accumulates count. Beside it stand regularised
evolution (Real et al., AAAI 2019), Optuna's TPE and NSGA-II, and random networks, with as many evaluations. Hypervolume
is counted from (accuracy 0, the dearest network) and, stricter, from (the least accuracy in the table, the dearest
network), as shares of the true front's.

``--declared`` searches a declared network that is trained from new weights: ``declared_networks.py``. ``--knobs``
searches operators, kernels and depth of trained networks: ``network_knobs.py``. ``--resnet50`` compares all forms of
plans over all knobs: ``resnet50_plans.py``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.nas import search_choices
from autocomp.problem.pareto import hypervolume

TABLE = Path("nas/nas-bench-macro_cifar10.json.gz")
LAYERS, OPERATORS = 8, ("0", "1", "2")
POPULATION, SAMPLE = 10, 4  # of regularised evolution
Found = list[tuple[float, float]]  # accuracy and multiply-accumulates of each evaluated network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with nas/")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50, help="evaluations of each search")
    parser.add_argument("--quick", action="store_true", help="two seeds; a few networks")
    parser.add_argument("--declared", action="store_true", help="a declared network instead of the table")
    parser.add_argument("--knobs", action="store_true", help="trained networks instead of the table")
    parser.add_argument("--seconds", type=float, default=120, help="with --knobs: of each search")
    parser.add_argument("--networks", default="resnet20,quickstart", help="with --knobs: which, joined by commas")
    parser.add_argument("--trained", action="store_true", help="with --knobs: training images for both searches")
    parser.add_argument("--resnet50", action="store_true", help="plans of mindcv's ResNet-50 in every form")
    options = parser.parse_args()
    if options.resnet50:
        from resnet50_plans import run as compare_forms

        compare_forms(options)
        return
    if options.knobs:
        from network_knobs import run as compare_knobs

        compare_knobs(options)
        return
    if options.declared:
        from declared_networks import run

        run(options.shared, options.quick)
        return
    with gzip.open(options.shared / TABLE) as file:
        table = {key: (row["mean_acc"] / 100, float(row["flops"])) for key, row in json.load(file).items()}
    seeds = range(2 if options.quick else options.seeds)
    samplers = ("auto", "frontier", "tpe", "nsga2", "random")
    ways: dict[str, Callable[[int], Found]] = {
        name: partial(searched, table, options.trials, name) for name in samplers
    }
    ways["evolution"] = partial(evolved, table, options.trials)
    everything = list(table.values())
    print(f"{len(table)} networks, {options.trials} evaluations, {len(seeds)} seeds")
    print(f"{'search':10} {'from 0':>8} {'worst':>8} {'from least':>11} {'worst':>8} {'seconds':>8}")
    of_auto = 0.0
    for name, search in ways.items():
        started = time.perf_counter()
        runs = [search(seed) for seed in seeds]
        seconds = (time.perf_counter() - started) / len(runs)
        whole, strict = (np.array([share(run, everything, least) for run in runs]) for least in (False, True))
        row = f"{whole.mean():8.4f} {whole.min():8.4f} {strict.mean():11.4f} {strict.min():8.4f} {seconds:8.1f}"
        print(f"{name:10} {row}", flush=True)
        of_auto = float(whole.mean()) if name == "auto" else of_auto
    print(f"share of the true hypervolume: {of_auto:.4f}")


def share(found: Found, everything: Found, from_least: bool) -> float:
    """Of the true front's hypervolume."""
    truth, most = np.array(everything), max(macs for _, macs in everything)
    least = truth[:, 0].min() if from_least else 0.0
    reference = np.array([1 - least, 1.0])
    values = (hypervolume(np.array([[1 - a, macs / most] for a, macs in rows]), reference) for rows in (found, truth))
    return next(values) / next(values)


def searched(table: Mapping[str, tuple[float, float]], trials: int, sampler: str, seed: int) -> Found:
    def row(network: Mapping[str, Any]) -> tuple[float, float]:
        return table["".join(network.values())]

    found = search_choices(
        {f"layer{i}": OPERATORS for i in range(LAYERS)},
        accuracy=lambda network: row(network)[0],
        costs=lambda network: {"macs": row(network)[1]},
        trials=trials,
        sampler=sampler,
        seed=seed,
        progress=False,
    )
    return [(one.accuracy, one.costs["macs"]) for one in found.evaluated]


def evolved(table: Mapping[str, tuple[float, float]], trials: int, seed: int) -> Found:
    """Regularised evolution: the oldest network dies; a parent is the one of a sample that fits a random price best."""
    rng = np.random.default_rng(seed)
    most = max(macs for _, macs in table.values())
    history: list[str] = []
    while len(history) < trials:
        if len(history) < POPULATION:
            child = "".join(rng.choice(OPERATORS, LAYERS))
        else:
            price = rng.random()
            sample = rng.choice(history[-POPULATION:], SAMPLE, replace=False)
            parent = max(sample, key=lambda one: (1 - price) * table[one][0] - price * table[one][1] / most)
            place = int(rng.integers(LAYERS))
            child = parent[:place] + str(rng.choice(OPERATORS)) + parent[place + 1 :]
        if child not in history:
            history.append(child)
    return [table[one] for one in history]


if __name__ == "__main__":
    main()
