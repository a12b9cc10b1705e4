"""The scoring pass: what it costs, and how it ranks plans that change many knobs at once.

python benchmarks/scores.py [--network resnet20 --shared ../shared] [--plans 100] [--seed 0] [--quick]

The pass is timed against an evaluation on the same 2,000 images (goal: 20 evaluations). Its sums rank 100 random joint
plans, every value equally likely, by their accuracy (goal: Spearman 0.95) and by their divergence from the float
network on the images that scores are measured on. 100 milder ones change a share of the knobs, from none to all, drawn
for each. Of those within 10 points of the float network the sampler's surrogate, fitted to the 50 evaluations of a
search, ranks the accuracies (goal: 0.75). Evaluations are kept beside this file.

The last line is ``spearman: <value>``, of the random joint plans.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from scipy.stats import spearmanr
from search_methods import CACHE, FULL, NETWORKS, QUICK, Bench, Kept, Subject

from autocomp.evaluators import Scores
from autocomp.evaluators.scores import divergence
from autocomp.samplers.frontier_surrogate import Surrogate
from autocomp.search_spaces import Plan

SEARCHED, NEAR, TIMED = 50, 0.1, 5


def partly_changed(sizes: np.ndarray, count: int) -> np.ndarray:
    """(count, knobs) int: the share of knobs that a plan changes is drawn for each plan."""
    rng = np.random.default_rng(1)
    changed = rng.random((count, len(sizes))) < rng.random((count, 1))
    return np.where(changed, rng.integers(0, sizes, (count, len(sizes))), 0)


def timed(bench: Bench) -> tuple[Scores, float, float]:
    """The scores, with the seconds of the pass and of an evaluation."""
    evaluator, seconds = bench.job.evaluator, []
    plans = [bench.job.space.decode(vector) for vector in partly_changed(bench.job.space.sizes, TIMED)]
    for plan in plans:
        started = time.perf_counter()
        evaluator.evaluate(plan)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    scores = bench.scores
    return scores, time.perf_counter() - started, median(seconds)


def measured(bench: Bench, kept: Kept, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) accuracies and divergences."""
    evaluator = bench.job.evaluator

    def of(plan: Plan) -> list[float]:
        return list(kept.of(plan, lambda: [evaluator.evaluate(plan).accuracy, divergence(evaluator, plan)]))

    accuracies, divergent = np.array([of(bench.job.space.decode(vector)) for vector in vectors]).T
    return accuracies, divergent


def surrogate_of(bench: Bench, scores: Scores) -> Surrogate:
    records = bench.search("frontier", 0, SEARCHED)
    losses = np.array([records[0].measurement.accuracy - record.measurement.accuracy for record in records])
    surrogate = Surrogate(scores)
    surrogate.fit(np.array([record.vector for record in records]), losses)
    return surrogate


def rank(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    return float(spearmanr(a, b)[0])


def main(bench: Bench, plans: int, seed: int) -> float:
    space, kept = bench.job.space, Kept(CACHE / f"scores-{bench.job.evaluator.key}.json")
    scores, of_pass, of_evaluation = timed(bench)
    print(f"scoring pass: {of_pass:.1f} s, {of_pass / of_evaluation:.1f} evaluations of {of_evaluation:.2f} s, goal 20")
    joint = space.random(np.random.default_rng(seed), plans)
    accuracies, divergent = measured(bench, kept, joint)
    whole = rank(-scores(joint), accuracies)
    print(f"{plans} random joint plans, accuracies {accuracies.min():.3f} to {accuracies.max():.3f}")
    print(f"  Spearman by accuracy {whole:.3f}, goal 0.95; by divergence {rank(scores(joint), divergent):.3f}")
    partly = partly_changed(space.sizes, plans)
    accuracies, divergent = measured(bench, kept, partly)
    print(f"{plans} partly changed plans")
    print(f"  Spearman by accuracy {rank(-scores(partly), accuracies):.3f}; by divergence", end=" ")
    print(f"{rank(scores(partly), divergent):.3f}")
    of_float, _ = measured(bench, kept, np.zeros((1, len(space.knobs)), np.int64))
    near = accuracies >= of_float - NEAR
    predicted = surrogate_of(bench, scores).predict(partly[near]).mean
    print(f"{near.sum()} of them within 10 points of the float network")
    print(f"  Spearman by accuracy {rank(-scores(partly[near]), accuracies[near]):.3f};", end=" ")
    print(f"of the surrogate after {SEARCHED} evaluations {rank(-predicted, accuracies[near]):.3f}, goal 0.75")
    return whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--plans", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the random joint plans")
    parser.add_argument("--quick", action="store_true", help="500 images, 20 plans")
    given = parser.parse_args()
    extent = QUICK if given.quick else FULL
    CACHE.mkdir(exist_ok=True)
    bench = Bench.prepare(Subject.named(given.network, extent, given.shared), extent)
    found = main(bench, 20 if given.quick else given.plans, given.seed)
    print(f"spearman: {found:.3f}")
