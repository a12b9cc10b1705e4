"""Samplers at equal numbers of evaluations: hypervolume on images that none of them saw.

The quick start's network, or ResNet-20 for CIFAR-10 (JPEG images) with --network resnet20. Channels and formats
together, ``ascend-310p3`` at batch 256. Plans are measured on 2,000 images, of CIFAR-10 the 45,000th training image and
those behind it; of the front that a sampler has found after so many evaluations every point is then tested on the
10,000 test images. The hypervolume is counted from (error 1, the float network's latency and size). Evaluations and
tests are kept beside this file: what was stopped goes on, another sampler or seed adds to it, the same command prints
the table again. A test takes the time of five evaluations; --tested takes the first of the test images alone.

python benchmarks/search_methods.py [--network resnet20 --shared ../shared] [--quick] [--seeds 5]
    [--samplers frontier,tpe] [--at 50,100,200] [--tested 10000] [--plot FILE.html]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from plotly.graph_objects import Figure, Scatter

import autocomp
from autocomp.evaluators import Scores, score
from autocomp.hardware_models import device
from autocomp.problem.jobs import Job, prepare
from autocomp.problem.pareto import hypervolume, nondominated
from autocomp.problem.record import Record
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study

CACHE = Path(__file__).parent / ".cache"
SAMPLERS = ("frontier", "tpe", "nsga2", "amc", "haq", "random", "uniform")
NETWORKS = ("quickstart", "resnet20")
BATCH, CALIBRATED, SEEN = 256, 512, 45_000
REFERENCE = np.ones(3)
Labelled = tuple[np.ndarray, np.ndarray]  # images and classes


@dataclass(frozen=True)
class Extent:
    evaluate: int
    test: int
    at: tuple[int, ...]
    seeds: int


FULL, QUICK = Extent(2000, 10_000, (50, 100, 200), 5), Extent(500, 2000, (25, 50), 2)


@dataclass(frozen=True)
class Subject:
    """A trained network, and the images (x, y) that it is measured and tested on."""

    network: Any
    calibrate: np.ndarray
    evaluate: Labelled
    test: Labelled

    @classmethod
    def named(cls, name: str, extent: Extent, shared: Path) -> Subject:
        return cls.resnet20(extent, shared) if name == "resnet20" else cls.quick_start(extent)

    @classmethod
    def quick_start(cls, extent: Extent) -> Subject:
        def images(role: Literal["evaluate", "test"], count: int) -> Labelled:
            samples = load_samples(role).take(count)
            assert samples.y is not None
            return samples.x[0], samples.y

        calibrate = load_samples("calibrate").take(CALIBRATED).x[0]
        return cls(load_network(), calibrate, images("evaluate", extent.evaluate), images("test", extent.test))

    @classmethod
    def resnet20(cls, extent: Extent, shared: Path) -> Subject:
        from cifar import Cifar

        source = Cifar(shared)
        train, test = source.images("train", SEEN + extent.evaluate), source.images("test", extent.test)
        others = train.part(SEEN, SEEN + extent.evaluate)
        return cls(source.network(), train.x[:CALIBRATED], (others.x, others.y), (test.x, test.y))


class Kept:
    """What was measured of plans, in a JSON file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def of(self, plan: Plan, measure: Callable[[], Any]) -> Any:
        if plan.key not in self.known:
            self.known[plan.key] = measure()
            self.file.write_text(json.dumps(self.known))
        return self.known[plan.key]


@dataclass
class Bench:
    """One network with everything that was ever measured of it."""

    job: Job
    extent: Extent
    test_images: Labelled

    @classmethod
    def prepare(cls, subject: Subject, extent: Extent) -> Bench:
        data = autocomp.Data(calibrate=subject.calibrate, evaluate=subject.evaluate)
        shape = (BATCH, *subject.calibrate.shape[1:])
        job = prepare(subject.network, device("ascend-310p3"), data, shape, "auto", 0)
        return cls(job, extent, subject.test)

    @cached_property
    def tested(self) -> Kept:
        return Kept(CACHE / f"tested-{self.job.evaluator.key}-{self.extent.test}.json")

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.job.space, CACHE / "search_methods.db", f"{self.job.evaluator.key}-{self.job.device.key}")

    @cached_property
    def scores(self) -> Scores:
        started = time.perf_counter()
        found = score(self.job.evaluator)
        print(f"  scoring pass: {time.perf_counter() - started:.1f} s")
        return found

    def search(self, sampler: str, seed: int, trials: int) -> list[Record]:
        study = Study(
            self.job.space,
            InProcess(self.job.evaluator),
            self.job.costs,
            sampler=sampler,
            trials=trials,
            seed=seed,
            ledger=self.ledger,
            scores=lambda _: self.scores,
        )
        started = time.perf_counter()
        records = study.run()
        seconds = time.perf_counter() - started
        print(f"  {sampler} {seed}: {len(records)} evaluations, {study.reused} known, {seconds:.0f} s", flush=True)
        return records

    def volume(self, records: Sequence[Record]) -> float:
        """The front is chosen on the evaluation images and counted with its test accuracies."""
        errors = [1 - record.measurement.accuracy for record in records]
        front = nondominated(np.column_stack([errors, self.shares(records)]))
        chosen = [record for record, keep in zip(records, front, strict=True) if keep]
        tested = [1 - self.test(record.plan) for record in chosen]
        return hypervolume(np.column_stack([tested, self.shares(chosen)]), REFERENCE)

    def shares(self, records: Sequence[Record]) -> np.ndarray:
        """(n, 2): latency and size of the float network's."""
        of_float = self.job.costs(np.zeros((1, len(self.job.space.knobs)), np.int64))[0]
        return np.array([(r.cost.latency_ms / of_float.latency_ms, r.cost.size_mb / of_float.size_mb) for r in records])

    def test(self, plan: Plan) -> float:
        def measured() -> float:
            evaluator, (x, y) = self.job.evaluator, self.test_images
            outputs = evaluator.engine.outputs(evaluator.compress(plan), (x,))[0]
            return float(np.mean(outputs.argmax(1) == y))

        return float(self.tested.of(plan, measured))


def main(subject: Subject, extent: Extent, samplers: Sequence[str], plot: Path | None) -> None:
    CACHE.mkdir(exist_ok=True)
    bench = Bench.prepare(subject, extent)
    volumes: dict[str, np.ndarray] = {}
    for name, seed in product(samplers, range(extent.seeds)):
        records = bench.search(name, seed, max(extent.at))
        row = [bench.volume(records[:count]) for count in extent.at]
        volumes[name] = np.vstack([volumes.get(name, np.empty((0, len(row)))), row])
    print(f"hypervolume on {extent.test} test images, mean and worst of {extent.seeds} seeds")
    print(f"{'evaluations':12s}" + "".join(f"{count:>18d}" for count in extent.at))
    for name, found in volumes.items():
        pairs = zip(found.mean(0), found.min(0), strict=True)
        print(f"{name:12s}" + "".join(f"{mean:10.4f} {low:7.4f}" for mean, low in pairs))
    if plot is not None:
        figure(extent, volumes).write_html(plot, include_plotlyjs="cdn", config={"displayModeBar": False})
        print(plot)


def figure(extent: Extent, volumes: dict[str, np.ndarray]) -> Figure:
    """Means, and from the worst seed to the best."""
    lines = []
    for name, found in volumes.items():
        mean = found.mean(0)
        bars = {"array": found.max(0) - mean, "arrayminus": mean - found.min(0), "thickness": 1}
        lines.append(Scatter(x=extent.at, y=mean, name=name, error_y=bars))
    title = f"Fronts of {extent.seeds} searches on {extent.test:,} test images: mean, worst and best hypervolume"
    return Figure(lines, {
        "title": title, "template": "plotly_white", "height": 440, "margin": {"t": 60, "b": 50},
        "xaxis": {"title": "evaluations", "tickvals": extent.at}, "yaxis": {"title": "hypervolume"},
    })  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--quick", action="store_true", help="500 images, 50 evaluations, two seeds")
    parser.add_argument("--samplers", default=",".join(SAMPLERS))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--at", help="numbers of evaluations at which fronts are compared")
    parser.add_argument("--tested", type=int, help="test images")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    names = given.samplers.split(",")
    if unknown := [name for name in names if name not in SAMPLERS]:
        parser.error(f"--samplers must be of {', '.join(SAMPLERS)}, but got {', '.join(unknown)}")
    if given.tested is not None and given.tested < 1:
        parser.error(f"--tested must be at least 1, but got {given.tested}")
    chosen = QUICK if given.quick else FULL
    counts = tuple(int(count) for count in given.at.split(",")) if given.at else chosen.at
    chosen = Extent(chosen.evaluate, given.tested or chosen.test, counts, given.seeds or chosen.seeds)
    main(Subject.named(given.network, chosen, given.shared), chosen, names, given.plot)
