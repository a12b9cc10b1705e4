"""How much of the true front each sampler finds where the truth is known: every plan of a small space is evaluated.

A convolutional network of LeNet's size on Fashion-MNIST at 14x14 pixels, trained here on the 10,000 test images of the
quick start; plans are measured on its 2,000 evaluation images. Three formats for each of four layers and the share of
three groups of channels that is kept: 3,888 plans. Hypervolumes are counted from (error 1, the float network's latency
and size), as shares of the true front's. The table of all plans is kept beside this file and made once.

python benchmarks/search_truth.py [--seeds 5] [--share 0.02] [--samplers frontier,tpe]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import autocomp
from autocomp.evaluators import Measurement, PlanEvaluator, Scores, score
from autocomp.hardware_models import CostTables, device
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.problem.jobs import prepare
from autocomp.problem.pareto import hypervolume, nondominated
from autocomp.quickstart import load_samples
from autocomp.search_spaces import Plan, SearchSpace
from autocomp.study.executors import InProcess
from autocomp.study.study import Study

CACHE = Path(__file__).parent / ".cache" / "search_truth.npz"
FORMATS = ("float", "w8a8", "w4a8")
KEPT = {0: (1.0, 0.5), 1: (1.0, 0.75, 0.5, 0.25), 2: (1.0, 0.875, 0.75, 0.625, 0.5, 0.25)}
SAMPLERS = ("frontier", "tpe", "nsga2", "amc", "haq", "random", "uniform")
BATCH = 256


@dataclass
class Truth:
    """The space, and of every plan in the order of ``np.ndindex`` its accuracy."""

    space: SearchSpace
    costs: CostTables
    accuracies: np.ndarray
    scores: Scores
    key: str = "truth"

    def evaluate(self, plan: Plan) -> Measurement:
        at = np.ravel_multi_index(tuple(self.space.encode(plan)), tuple(self.space.sizes))
        return Measurement(float(self.accuracies[at]))

    def points(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 3): error, latency and size as shares of the float network's."""
        costs, of_float = self.costs(vectors), self.costs(np.zeros_like(vectors[:1]))[0]
        at = np.ravel_multi_index(tuple(vectors.T), tuple(self.space.sizes))
        latency, size = costs.latency_ms / of_float.latency_ms, costs.size_mb / of_float.size_mb
        return np.stack([1 - self.accuracies[at], latency, size], axis=1)


def images(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, 14, 14) float32, the means of 2x2 pixels, and classes."""
    samples = load_samples(part)
    assert samples.y is not None
    x = samples.x[0]
    return x.reshape(len(x), 1, 14, 2, 14, 2).mean((3, 5)).astype(np.float32), samples.y


def trained(epochs: int = 12) -> Any:
    """The network, after so many passes over the test images: a few seconds."""
    ms = load_mindspore()
    nn = ms.nn
    ms.set_seed(0)
    net = nn.SequentialCell(
        nn.Conv2d(1, 32, 3, pad_mode="same", has_bias=True), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Conv2d(32, 64, 3, pad_mode="same", has_bias=True), nn.ReLU(), nn.MaxPool2d(2, 2),
        nn.Flatten(), nn.Dense(64 * 9, 128), nn.ReLU(), nn.Dense(128, 10),
    )  # fmt: skip
    x, y = images("test")
    optimizer = nn.Adam(net.trainable_params(), 1e-3)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()), optimizer)
    step.construct = ms.jit(step.construct)
    step.set_train()
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        for i in range(0, len(x) - 99, 100):
            loss = step(ms.Tensor(x[order[i : i + 100]]), ms.Tensor(y[order[i : i + 100]].astype(np.int32)))
        print(f"  epoch {epoch + 1} of {epochs}: loss {float(loss.asnumpy()):.3f}", flush=True)
    return net.set_train(False)


def small(space: SearchSpace) -> SearchSpace:
    """The same knobs with the values of this benchmark."""
    keeps = [knob for knob in space.knobs if knob.kind == "keep"]
    formats = [replace(knob, values=FORMATS) for knob in space.knobs if knob.kind == "format"]
    return SearchSpace(space.graph, (*(replace(k, values=KEPT[i]) for i, k in enumerate(keeps)), *formats))


def truth() -> Truth:
    net = trained_network()
    x, y = images("evaluate")
    data = autocomp.Data(calibrate=images("calibrate")[0], evaluate=(x, y))
    job = prepare(net, device("ascend-310p3"), data, (BATCH, 1, 14, 14), "auto", 0)
    space, whole = small(job.space), job.evaluator
    moments = whole.compressor.moments
    evaluator = PlanEvaluator(
        whole.engine, space, whole.parameters, whole.inputs, whole.labels, job.calibration, moments=moments
    )
    started = time.perf_counter()
    scores = score(evaluator)
    print(f"scoring pass: {time.perf_counter() - started:.1f} s")
    return Truth(space, CostTables(job.device, space, BATCH), enumerated(evaluator), scores)


def trained_network() -> Any:
    ms = load_mindspore()
    path = CACHE.with_suffix(".ckpt")
    if path.exists():
        net = trained(epochs=0)
        ms.load_param_into_net(net, ms.load_checkpoint(str(path)))
        return net
    net = trained()
    path.parent.mkdir(exist_ok=True)
    ms.save_checkpoint(net, str(path))
    return net


def enumerated(evaluator: PlanEvaluator) -> np.ndarray:
    """(plans,) accuracies; kept, and continued where they were cut off."""
    sizes = tuple(int(size) for size in evaluator.space.sizes)
    accuracies = np.full(np.prod(sizes), np.nan)
    if CACHE.exists():
        with np.load(CACHE) as stored:
            if str(stored["key"]) == evaluator.key:
                accuracies = stored["accuracies"]
    missing = np.flatnonzero(np.isnan(accuracies))
    started = time.perf_counter()
    for done, (i, vector) in enumerate(zip(missing, np.array(list(np.ndindex(*sizes)))[missing], strict=True), 1):
        accuracies[i] = evaluator.evaluate(evaluator.space.decode(vector)).accuracy
        if done % 200 == 0 or done == len(missing):
            np.savez(CACHE, accuracies=accuracies, key=evaluator.key)
            seconds = time.perf_counter() - started
            print(f"  {done} of {len(missing)} plans evaluated, {1e3 * seconds / done:.0f} ms each", flush=True)
    return accuracies


def found(known: Truth, sampler: str, trials: int, seed: int) -> np.ndarray:
    study = Study(
        known.space,
        InProcess(known),
        known.costs,
        sampler=sampler,
        trials=trials,
        seed=seed,
        scores=lambda _: known.scores,
    )
    return known.points(np.array([record.vector for record in study.run()]))


def main(samplers: Sequence[str], seeds: int, share: float) -> None:
    known = truth()
    everything = known.points(np.array(list(np.ndindex(*known.space.sizes))))
    reference = np.ones(3)
    best = hypervolume(everything, reference)
    trials = round(share * len(everything))
    print(
        f"{len(everything)} plans, float accuracy {100 * known.accuracies[0]:.1f} %, true front of "
        f"{nondominated(everything).sum()} plans with hypervolume {best:.4f}; {trials} evaluations"
    )
    results: dict[str, list[float]] = {}
    for name, seed in product(samplers, range(seeds)):
        value = hypervolume(found(known, name, trials, seed), reference) / best
        results.setdefault(name, []).append(value)
    print(f"{'sampler':10s} {'mean':>7s} {'worst':>7s}  share of the true hypervolume, {seeds} seeds")
    for name, values in results.items():
        print(f"{name:10s} {np.mean(values):7.4f} {min(values):7.4f}  {' '.join(f'{v:.4f}' for v in values)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.02, help="of all plans, evaluated by each sampler")
    given = parser.parse_args()
    main(given.samplers.split(","), given.seeds, given.share)
