"""A search on many images: all plans on all of them, or a quarter (growing fidelity).

The quick start's network, ``ascend-310p3`` at batch 256, plans evaluated on training images of Fashion-MNIST (the two
searches are compared with each other; what the points are worth on other images is not asked). The same trials with the
same seeds; the hypervolume is that of each front, whose points all are measured on all images.

python benchmarks/growing.py [--shared ../shared] [--images 20000] [--trials 100] [--seeds 2]
    [--budget "latency<60%"] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from search_methods import BATCH, CALIBRATED

import autocomp
from autocomp.evaluators import evaluate_subset, score
from autocomp.hardware_models import device
from autocomp.problem.budget import Budget, objectives
from autocomp.problem.jobs import Job, prepare
from autocomp.quickstart import load_network, load_samples
from autocomp.quickstart.network import MEAN, STD
from autocomp.results.front import ParetoSet
from autocomp.study.executors import InProcess
from autocomp.study.study import Study


def training_images(shared: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    sys.path.insert(0, str(shared / "data"))
    import load

    images, labels = load.fashion_mnist("train")
    x = ((images[:count].reshape(-1, 1, 28, 28).astype(np.float32) / 255) - MEAN) / STD
    return x.astype(np.float32), labels[:count]


def search(job: Job, grows: bool, trials: int, seed: int, budget: Budget) -> tuple[float, float, int, float]:
    """Seconds, images a plan, plans measured on all images, hypervolume."""
    study = Study(
        job.space,
        InProcess(job.evaluator),
        job.costs,
        trials=trials,
        seed=seed,
        budget=budget,
        objectives=objectives(budget),
        scores=lambda measure: score(job.evaluator, measure=measure),
        evaluate_subset=evaluate_subset if grows else None,
    )
    started = time.perf_counter()
    records = study.run()
    seconds = time.perf_counter() - started
    measured = [record.measurement.samples for record in records]
    front = ParetoSet(records, device="ascend-310p3", budget=budget, objectives=study.objectives)
    assert job.evaluator.evaluates_subsets and {point.samples for point in front} == {max(measured)}
    return seconds, mean(measured), measured.count(max(measured)), front.hypervolume()


def main(shared: Path, images: int, trials: int, seeds: int, budget: Budget) -> None:
    data = autocomp.Data(
        calibrate=load_samples("calibrate").take(CALIBRATED).x[0], evaluate=training_images(shared, images)
    )
    job = prepare(load_network(), device("ascend-310p3"), data, (BATCH, 1, 28, 28), "auto", 0)
    print(f"{images} images, {trials} plans, the first 2,000 images of each")
    print("seed  measured           seconds  images a plan  on all images  hypervolume")
    ratios = []
    for seed in range(seeds):
        found = {grows: search(job, grows, trials, seed, budget) for grows in (False, True)}
        for grows, (seconds, measured, whole, volume) in found.items():
            how = "a quarter on all" if grows else "on all images"
            print(f"{seed:4d}  {how:17s} {seconds:8.1f}  {measured:13.0f}  {whole:13d}  {volume:11.4f}", flush=True)
        ratios.append(found[False][0] / found[True][0])
    print(f"growing_speedup: {mean(ratios):.2f} ratio")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", default="")
    parser.add_argument("--quick", action="store_true", help="8,000 images, 25 plans, one seed")
    given = parser.parse_args()
    if given.quick:
        given.images, given.trials, given.seeds = 8000, 25, 1
    main(given.shared, given.images, given.trials, given.seeds, Budget.parse(given.budget))
