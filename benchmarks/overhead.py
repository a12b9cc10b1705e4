"""What a search spends on anything but forward passes.

Asking: milliseconds of the processor a plan that the frontier sampler and what sifts its proposals take when so many
trials are finished, for a space of 16 and of 54 layers with formats and channels. Recording: milliseconds an evaluation
that the ledger takes in an SQLite file. Neither needs MindSpore. Resolving: seconds of the processor that the best plan
for another budget takes on ResNet-50's graph, with formats alone and with channels (goals: 0.1 and 2 s). The rest: a
network is searched, and the seconds in which forward passes run are taken from the whole (goal: at most 10 % are left).

python benchmarks/overhead.py [--finished 100,1000,5000] [--asked 32] [--resolve] [--network quickstart] [--trials 40]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_methods import BATCH as SEARCHED_BATCH
from search_methods import FULL, NETWORKS, Subject

from autocomp.deployment.resolving import ScoreResolver
from autocomp.evaluators import Measurement, Scores
from autocomp.hardware_models import Cost, CostTables, device
from autocomp.problem.budget import Budget
from autocomp.problem.jobs import RepeatedCosts
from autocomp.problem.record import Record
from autocomp.results.point import Point
from autocomp.samplers import Outcome, Problem, Proposals, sampler
from autocomp.search_spaces import ChannelGroup, Convolution, Knob, NetworkGraph, Node, NodeAttributes, SearchSpace
from autocomp.study.ledger import Ledger

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import published

RATIOS = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
CHANNELS, PIXELS, BATCH = 64, 14, 8


def chain(layers: int) -> SearchSpace:
    """So many 3x3 convolutions one after the other: a format for each, a keep ratio for all but the last."""
    shape = (1, CHANNELS, PIXELS, PIXELS)
    nodes = [Node("input", "input", "Parameter", (), shape, units=np.full(CHANNELS, -1))]
    groups, knobs = [], []
    chip = device("ascend-310p3")
    attributes = NodeAttributes(convolution=Convolution((3, 3), (1, 1)))
    for i in range(layers):
        units = np.full(CHANNELS, -1)
        if i < layers - 1:
            groups.append(ChannelGroup(f"g{i}", (f"conv{i}",), i * CHANNELS, (i + 1) * CHANNELS))
            units = np.arange(i * CHANNELS, (i + 1) * CHANNELS)
            order = np.arange(CHANNELS)
            knobs.append(Knob(f"keep/g{i}", "channels", (f"conv{i}",), RATIOS, groups[-1], order, chip.channel_divisor))
        weight = (CHANNELS, CHANNELS, 3, 3)
        nodes.append(
            Node(f"conv{i}", "conv", "Conv2D", (i,), shape, f"conv{i}", weight, attributes=attributes, units=units)
        )
        knobs.append(Knob(f"format/conv{i}", "rtn", (f"conv{i}",), tuple(map(str, chip.formats))))
    return SearchSpace(NetworkGraph(tuple(nodes), (layers,), tuple(groups)), tuple(knobs))


def sensitivities(space: SearchSpace) -> Scores:
    """Rising with a value's rank, another size for each knob."""
    sizes = np.exp(np.random.default_rng(0).normal(-3, 1, len(space.knobs)))
    ranks = [np.arange(n) / max(n - 1, 1) for n in space.sizes]
    return Scores(tuple(tuple((size * rank**2).tolist()) for size, rank in zip(sizes, ranks, strict=True)))


def outcomes(scores: Scores, costs: Callable[[np.ndarray], Cost], vectors: np.ndarray) -> list[Outcome]:
    accuracies, found = 0.1 + 0.82 * np.exp(-2 * scores(vectors)), costs(vectors)
    columns = zip(vectors.tolist(), accuracies, found.latency_ms, found.size_mb, strict=True)
    return [Outcome(tuple(v), (-float(a), float(ms), float(mb))) for v, a, ms, mb in columns]


def asking(space: SearchSpace, finished: int, asked: int) -> float:
    """Milliseconds of the processor a plan, proposed and told in batches of eight."""
    scores, costs = sensitivities(space), RepeatedCosts(CostTables(device("ascend-310p3"), space, BATCH))

    def objectives(vectors: np.ndarray) -> np.ndarray:
        found = costs(vectors)
        return np.stack([found.latency_ms, found.size_mb], axis=1)

    problem = Problem(space, 3, finished + asked, costs=objectives, scores=lambda: scores)
    proposals = Proposals(space, sampler("frontier", problem), lambda vectors: [None] * len(vectors))
    origin = np.zeros((1, len(space.knobs)), np.int64)
    known = np.concatenate([origin, space.random(np.random.default_rng(1), finished - 1)])
    proposals.tell(outcomes(scores, costs, np.unique(known, axis=0)))
    proposals.batch(8)  # solves the front for the first time
    started, told = time.process_time(), 0.0
    for _ in range(asked // 8):
        batch = np.array(proposals.batch(8))
        pause = time.process_time()
        found = outcomes(scores, costs, batch)
        told += time.process_time() - pause
        proposals.tell(found)
    return 1e3 * (time.process_time() - started - told) / (8 * (asked // 8))


def resolver(channels: bool) -> tuple[ScoreResolver, list[Point]]:
    """Of ResNet-50's graph, with made-up scores and 60 random plans that were evaluated about as those say."""
    chip, graph = device("ascend-310p3"), published.graph("resnet50")
    knobs = [Knob(f"format/{layer}", "rtn", (layer,), tuple(map(str, chip.formats))) for layer in graph.layers]
    for group in graph.channel_groups if channels else ():
        order = np.arange(group.units)
        knobs.append(Knob(f"keep/{group.name}", "channels", group.layers, RATIOS, group, order, chip.channel_divisor))
    space, rng = SearchSpace(graph, tuple(knobs)), np.random.default_rng(0)
    scores, costs = sensitivities(space), RepeatedCosts(CostTables(chip, space))
    vectors = np.concatenate([np.zeros((1, len(knobs)), np.int64), space.random(rng, 60)])
    accuracies = 0.1 + 0.8 * np.exp(-2 * scores(vectors) * rng.lognormal(0, 0.1, len(vectors)))
    points: list[Point] = []
    for vector, accuracy, cost in zip(vectors, accuracies, costs(vectors), strict=True):
        measured = Measurement(float(accuracy), "accuracy", 2000, 0.0, 0, "made up")
        record = Record(space.decode(vector), tuple(vector.tolist()), measured, cost, 0.0)
        points.append(Point.of(record, points[0] if points else None))
    return ScoreResolver(space, costs, chip, lambda: scores), points


def resolving() -> None:
    for channels in (False, True):
        asked, points = resolver(channels)
        print(f"ResNet-50, {len(asked.space.knobs)} knobs: another budget", flush=True)
        for budget in ("size<30%", "size<20%", "latency<80%", "latency<80%, size<40%", "accuracy>-5%"):
            seconds = []
            for _ in range(3):
                started = time.process_time()
                found = asked.solve(Budget.parse(budget), "latency", points)
                seconds.append(time.process_time() - started)
            harm = float(asked.scores(asked.space.encode(found.plan)[None])[0])
            first, best = seconds[0], min(seconds)
            took = f"{first:.2f} s, again {best:.2f} s"
            print(f"  {budget:22s} {took}; sensitivity {harm:.4f}, accuracy {found.accuracy:.4f}")


def recording(space: SearchSpace, count: int = 100) -> float:
    """Milliseconds an evaluation that the ledger takes in an SQLite file."""
    vectors = space.random(np.random.default_rng(0), count)
    costs = CostTables(device("ascend-310p3"), space, BATCH)(vectors)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(space, Path(folder) / "run.db", "overhead")
        started = time.perf_counter()
        for vector, cost in zip(vectors, costs, strict=True):
            ledger.add(space.decode(vector), Measurement(0.5), cost, {"latency<50%": 0.1})
        return 1e3 * (time.perf_counter() - started) / count


class Watched:
    """An engine, and when forward passes ran in it: several plans may run at the same time."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._moments: list[tuple[float, int]] = []  # when a plan's forward passes begin (1), and end (-1)
        engine._session = self._between(engine._session, -1)

    def _between(self, run: Callable[..., Any], change: int) -> Callable[..., Any]:
        def timed(*arguments: Any, **settings: Any) -> Any:
            self._moments.append((time.perf_counter(), change))
            try:
                return run(*arguments, **settings)
            finally:
                self._moments.append((time.perf_counter(), -change))

        return timed

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._between(found, 1) if name in ("outputs", "layer_inputs", "batch_statistics") else found

    @property
    def seconds(self) -> float:
        """In which a forward pass of at least one plan ran."""
        running, total, since = 0, 0.0, 0.0
        for moment, change in sorted(self._moments):
            if running == 0 and change > 0:
                since = moment
            running += change
            if running == 0 and change < 0:
                total += moment - since
        return total


def network(name: str, shared: Path, trials: int) -> None:
    """The share of a search, after it was prepared, that is no forward pass."""
    import autocomp
    from autocomp.evaluators import score
    from autocomp.problem.jobs import prepare
    from autocomp.study.executors import InProcess
    from autocomp.study.study import Study

    subject = Subject.named(name, FULL, shared)
    data = autocomp.Data(calibrate=subject.calibrate, evaluate=subject.evaluate)
    shape = (SEARCHED_BATCH, *subject.calibrate.shape[1:])
    job = prepare(subject.network, device("ascend-310p3"), data, shape, "auto", 0)
    watched = Watched(job.evaluator.engine)
    job.evaluator.engine = watched
    with tempfile.TemporaryDirectory() as folder:
        study = Study(
            job.space,
            InProcess(job.evaluator),
            job.costs,
            trials=trials,
            ledger=Ledger(job.space, Path(folder) / "run.db", "overhead"),
            scores=lambda measure: score(job.evaluator, measure=measure),
        )
        started = time.perf_counter()
        study.run()
        whole = time.perf_counter() - started
    evaluating = sum(record.measurement.seconds for record in study.records)
    print(
        f"{name}, {len(study.records)} evaluations: {whole:.1f} s, {watched.seconds:.1f} s of it forward passes; "
        f"{1 - watched.seconds / whole:.1%} are anything else, evaluations took {evaluating:.1f} s"
    )


def main(finished: Sequence[int], asked: int) -> None:
    for layers in (16, 54):
        space = chain(layers)
        print(f"{layers} layers, {len(space.knobs)} knobs, {int(space.sizes.sum())} values", flush=True)
        print(f"  ledger: {recording(space):.1f} ms an evaluation", flush=True)
        for count in finished:
            print(f"  asking at {count} finished trials: {asking(space, count, asked):.1f} ms a plan", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", default="100,1000,5000")
    parser.add_argument("--asked", type=int, default=32, help="plans asked for, a multiple of eight")
    parser.add_argument("--resolve", action="store_true", help="also solve for other budgets")
    parser.add_argument("--network", choices=NETWORKS, help="also search this network")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with data/ and models/")
    parser.add_argument("--trials", type=int, default=40, help="of that search")
    given = parser.parse_args()
    main([int(count) for count in given.finished.split(",")], given.asked)
    if given.resolve:
        resolving()
    if given.network:
        network(given.network, given.shared, given.trials)
