"""What width gives, and what it costs: workers busy, the driver's time, and the front of a batch of 8, 64 and 1,000.

    python benchmarks/scaling.py --simulate          # virtual time, 64 and 1,000 workers
    python benchmarks/scaling.py --price             # hypervolume at so many evaluations, by batch
    python benchmarks/scaling.py --workers           # plans a minute of 1 and 2 Ray workers and of threads
    python benchmarks/scaling.py --memory            # of a worker, over 550 evaluations
    python benchmarks/scaling.py --searches          # of a driver, over ten searches
    python benchmarks/scaling.py --cluster           # seconds until a node that joins works, and of a first evaluation
    python benchmarks/scaling.py --quick             # each of the first two, small

Simulated evaluations take 10 s on average, by a log-normal distribution (sigma 0.5: one in a hundred takes over 28 s,
the longest of 20,000 takes 64 s); with --slow one in a hundred takes four times as long besides. Time is virtual: it
is the workers' and what the driver's process computes in between. Busy is the workers' time until the last plan
begins. The price is that of a search space of 16 layers with formats and channels, whose accuracy is a formula. The
workers run the quick start's network, one thread to a worker, in turns.
"""

from __future__ import annotations

import argparse
import heapq
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from autocomp.evaluators import Scores
from autocomp.problem.pareto import hypervolume
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess, executor
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import SENSITIVITY, ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(16)
SECONDS, SIGMA = 10.0, 0.5  # mean of an evaluation, and its spread
SLOW, TIMES = 100, 4.0  # with --slow one evaluation in so many takes so many times as long


def seconds_of(plan: Plan, times: float = 1.0) -> float:
    """How long a plan takes: the same whenever it is evaluated."""
    rng = np.random.default_rng(zlib.crc32(plan.key.encode()))
    slow = times if rng.integers(SLOW) == 0 else 1.0
    mean = np.exp(SIGMA**2 / 2) * (1 + (times - 1) / SLOW)
    return float(SECONDS / mean * slow * np.exp(SIGMA * rng.standard_normal()))


class Simulated:
    """Workers whose time is virtual: they evaluate at once, and their answers come in the order of virtual time."""

    evaluation_limit: float | None = None

    def __init__(self, workers: int, times: float = 1.0) -> None:
        self.width, self.evaluator, self._times = workers, ToyEvaluator(SPACE), times
        self.now, self.driver = 0.0, 0.0  # seconds
        self.spans: list[tuple[float, float]] = []  # from when to when each plan was evaluated
        self.marks: list[tuple[int, float]] = []  # evaluations, and the driver's seconds until then
        self.done = 0

    def __enter__(self) -> Simulated:
        self._last = time.process_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, values: Mapping[str, float]) -> None:
        pass

    def map(self, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
        return self.ask(None, plans, more)

    def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
        free = [self.now] * self.width  # when each worker is idle
        running: list[tuple[float, int]] = []
        begun = 0
        while begun < len(plans) or running:
            self._spent()
            while begun < len(plans):  # a worker takes the plan when both are there
                start = max(heapq.heappop(free), self.now)
                end = start + seconds_of(plans[begun], self._times)
                self.spans.append((start, end))
                heapq.heappush(free, end)
                heapq.heappush(running, (end, begun))
                begun += 1
            if more is not None and more():
                continue
            more = None
            end, i = heapq.heappop(running)
            self.now = max(end, self.now)
            found = self.evaluator.evaluate(plans[i])
            self.done += 1
            self.marks.append((self.done, self.driver))
            if self.done % 1000 == 0:
                print(f"  {self.done:,}: the driver {per(self, self.done, 1000):.2f} ms an evaluation", flush=True)
            self._last = time.process_time()
            yield i, found

    @property
    def busy(self) -> float:
        """The share of the workers' time that they evaluate, until the last plan begins."""
        starts, ends = np.array(self.spans).T
        last = starts.max()
        return float((np.minimum(ends, last) - starts).sum() / (self.width * last))

    def _spent(self) -> None:
        spent = time.process_time() - self._last
        self._last += spent
        self.driver += spent
        self.now += spent


def scores() -> Scores:
    """Those of the toy's layers, as if each had been measured alone."""
    weights = np.random.default_rng(7).uniform(0.2, 2.0, len(SPACE.knobs))
    of = [
        [SENSITIVITY[value] * weight for value in knob.values]
        for knob, weight in zip(SPACE.knobs, weights, strict=True)
    ]
    return Scores(tuple(map(tuple, of)))


def study(running: Any, batch: int | str, trials: int, storage: str | None = None, seed: int = 0) -> Study:
    found = Study(
        SPACE, running, partial(toy_costs, SPACE), batch=batch, trials=trials, seed=seed,
        scores=lambda _: scores(), ledger=Ledger(SPACE, storage, "scaling"),
    )  # fmt: skip
    found.run()
    return found


def simulate(workers: int, trials: int, batch: int | str, times: float = 1.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        running = Simulated(workers, times)
        found = study(running, batch, trials, f"{folder}/search.db")
    print(
        f"{workers:6,} workers, batch {found.batch:6,}, {found.done:7,} evaluations: {running.busy:6.1%} busy, "
        f"{running.now:7.0f} s, the driver {per(running, trials):.2f} ms an evaluation, "
        f"hypervolume {found.front.volume:.4f}",
        flush=True,
    )


def per(running: Simulated, count: int, last: int | None = None) -> float:
    """Milliseconds of the driver an evaluation, of the last ones of so many; of all of them where it is not said."""
    last = count if last is None else last
    before = running.marks[count - last - 1][1] if last < count else 0.0
    return 1000 * (running.marks[count - 1][1] - before) / last


def price(evaluations: Sequence[int], batches: Sequence[int], seeds: int) -> None:
    for batch in batches:
        found = [study(InProcess(ToyEvaluator(SPACE)), batch, max(evaluations), seed=seed) for seed in range(seeds)]
        cells = [f"{count:5,}: {np.mean([volume(one, count) for one in found]):.4f}" for count in evaluations]
        print(f"batch {batch:5,}   {'   '.join(cells)}", flush=True)


def volume(found: Study, count: int) -> float:
    points = np.array([found.front.point(record) for record in found.records[:count]])
    return float(hypervolume(points, np.ones(points.shape[1])))


def prepared() -> tuple[Any, Any]:
    """The evaluator of the quick start's network, one thread to a worker, and its search space."""
    import autocomp
    from autocomp.measurement.processor import device
    from autocomp.problem.jobs import prepare
    from autocomp.quickstart import load_network, load_samples

    data = autocomp.Data(evaluate=load_samples("evaluate"))
    job = prepare(load_network(), device("ascend-310p3"), data, None, "auto", 0, sent_to_workers=True)
    evaluator: Any = job.evaluator
    evaluator.engine.threads = 1
    return evaluator, job.space


def workers() -> None:
    """Plans a minute of the quick start's network, three times in turns."""
    evaluator, space = prepared()
    plans = some_plans(space, 64)
    ways: dict[str, int | None] = {"1 worker": 1, "2 workers": 2, "threads": None}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, count in ways.items():
            evaluator.engine.threads = 2 if count is None else 1
            with executor(evaluator, count) as running:
                dict(running.map(plans[:8]))
                start = time.monotonic()
                dict(running.map(plans[8:]))
                found[name].append(60 * (len(plans) - 8) / (time.monotonic() - start))
    for name, rates in found.items():
        print(f"{name:10} {np.median(rates):7.0f} plans a minute ({', '.join(f'{rate:.0f}' for rate in rates)})")
    print(f"2 workers over 1: {np.median(found['2 workers']) / np.median(found['1 worker']):.2f}")


def some_plans(space: Any, count: int) -> list[Plan]:
    rng = np.random.default_rng(0)
    return [space.decode(tuple(vector)) for vector in space.random(rng, count)]


def resident(evaluator: Any, plan: Plan) -> float:
    """Evaluates, and returns the process's memory in MB."""
    evaluator.evaluate(plan)
    return resident_mb()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(count: int) -> None:
    """A worker's memory over so many evaluations."""
    evaluator, space = prepared()
    with executor(evaluator, 1) as running:
        answers: dict[int, Any] = dict(running.ask(resident, some_plans(space, count)))
    found = [answers[i] for i in sorted(answers)]
    print(f"a worker's memory: {found[49]:.0f} MB after 50 evaluations, {found[-1]:.0f} MB after {count}, ", end="")
    print(f"{found[-1] / found[49] - 1:+.1%}")


def searches(count: int) -> None:
    """The memory of one process over so many searches of a network, each whole."""
    import autocomp
    from autocomp.quickstart import load_network, load_samples

    net, data = load_network(), load_samples("evaluate")
    found: list[float] = []
    for seed in range(count):
        settings: dict[str, Any] = {"inputs": (256, 1, 28, 28), "trials": 24, "seed": seed, "progress": False}
        autocomp.search(net, "latency<60%", "ascend-310p3", data, **settings)
        found.append(resident_mb())
        print(f"  after {seed + 1} searches: {found[-1]:.0f} MB", flush=True)
    print(f"a driver's memory grows by {found[-1] - found[0]:.0f} MB from the first to the last of {count} searches")


def cluster() -> None:
    """Seconds until a node that joins has begun to work, and until a search has its first evaluation."""
    from ray.cluster_utils import Cluster

    import autocomp
    from autocomp.quickstart import load_network, load_samples

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    started.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = started.address
    plans = [SPACE.decode(tuple(vector)) for vector in SPACE.random(np.random.default_rng(0), 4000)]
    seen: dict[int, float] = {}
    with executor(ToyEvaluator(SPACE, sleep=0.05), "auto") as running:
        for number, (_, process) in enumerate(running.ask(worked, plans)):
            seen.setdefault(int(str(process)), time.monotonic())
            if number == 20:
                began = time.monotonic()
                started.add_node(num_cpus=1)
                joined = time.monotonic()
            if len(seen) == 2:
                break
    answered = max(seen.values()) - joined
    print(f"a node's first answer: {answered:.1f} s after it had joined, which took {joined - began:.1f} s")
    started.shutdown()
    del os.environ["RAY_ADDRESS"]
    net, data, start = load_network(), load_samples("evaluate"), time.monotonic()
    first: list[float] = []
    autocomp.search(
        net, None, "ascend-310p3", data, workers=2, trials=2, progress=False,
        on_evaluation=lambda _: first.append(time.monotonic() - start),
    )  # fmt: skip
    print(f"a search's first evaluation: {first[0]:.1f} s after the call")


def worked(evaluator: Any, plan: Plan) -> int:
    """The process that has evaluated the plan."""
    evaluator.evaluate(plan)
    return os.getpid()


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("simulate", "price", "workers", "memory", "searches", "cluster", "quick"):
        made.add_argument(f"--{name}", action="store_true")
    made.add_argument("--trials", type=int, default=20_000)
    made.add_argument("--slow", action="store_true", help="one evaluation in a hundred takes four times as long")
    made.add_argument("--batch", default="auto", help="of the simulation: a number, or auto")
    options = made.parse_args()
    batch = int(options.batch) if options.batch.isdigit() else options.batch
    if options.quick:
        simulate(64, 600, batch)
        price((100, 200), (8, 64), 1)
    if options.simulate:
        for count, trials in ((1000, options.trials), (64, options.trials // 5)):
            simulate(count, trials, batch, TIMES if options.slow else 1.0)
    if options.price:
        price((200, 500, 1000, 2000), (8, 64, 1000), 3)
    if options.workers:
        workers()
    if options.memory:
        memory(550)
    if options.searches:
        searches(10)
    if options.cluster:
        cluster()


if __name__ == "__main__":
    main()
