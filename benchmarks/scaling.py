"""What width gives, and what it costs: workers busy, the driver's time, and the front of a batch of 8, 64 and 1,000.

    python benchmarks/scaling.py --simulate          # virtual time, 64 and 1,000 workers
    python benchmarks/scaling.py --price             # hypervolume at so many evaluations, by batch
    python benchmarks/scaling.py --workers           # plans a minute of 1 and 2 Ray workers and of threads
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

    def map(self, plans: Sequence[Plan]) -> Generator[tuple[int, Any], None, None]:
        return self.ask(None, plans)

    def ask(self, question: Any, plans: Sequence[Plan]) -> Generator[tuple[int, Any], None, None]:
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
            end, i = heapq.heappop(running)
            self.now = max(end, self.now)
            found = self.evaluator.evaluate(plans[i])
            self.done += 1
            self.marks.append((self.done, self.driver))
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
        f"{running.now:7.0f} s, the driver {per(running, 100):.2f} ms an evaluation until 100, "
        f"{per(running, trials):.2f} ms until {trials:,}, hypervolume {found.front.volume:.4f}",
        flush=True,
    )


def per(running: Simulated, count: int) -> float:
    """Milliseconds of the driver an evaluation, from the first to so many."""
    return 1000 * running.marks[count - 1][1] / count


def price(evaluations: Sequence[int], batches: Sequence[int], seeds: int) -> None:
    for batch in batches:
        found = [study(InProcess(ToyEvaluator(SPACE)), batch, max(evaluations), seed=seed) for seed in range(seeds)]
        cells = [f"{count:5,}: {np.mean([volume(one, count) for one in found]):.4f}" for count in evaluations]
        print(f"batch {batch:5,}   {'   '.join(cells)}", flush=True)


def volume(found: Study, count: int) -> float:
    points = np.array([found.front.point(record) for record in found.records[:count]])
    return float(hypervolume(points, np.ones(points.shape[1])))


def workers() -> None:
    """Plans a minute of the quick start's network, three times in turns."""
    from search_methods import NETWORKS

    evaluator = NETWORKS["quickstart"]().job.evaluator
    evaluator.engine.threads = 1
    rng = np.random.default_rng(0)
    space = evaluator.space
    plans = [space.decode(tuple(vector)) for vector in space.random(rng, 60)]
    ways: dict[str, int | None] = {"1 worker": 1, "2 workers": 2, "threads": None}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, count in ways.items():
            with executor(evaluator, count) as running:
                dict(running.map(plans[:4]))
                start = time.monotonic()
                dict(running.map(plans[4:]))
                found[name].append(60 * (len(plans) - 4) / (time.monotonic() - start))
    for name, rates in found.items():
        print(f"{name:10} {np.median(rates):7.0f} plans a minute ({', '.join(f'{rate:.0f}' for rate in rates)})")
    print(f"2 workers over 1: {np.median(found['2 workers']) / np.median(found['1 worker']):.2f}")


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("simulate", "price", "workers", "quick"):
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
        for count, trials in ((64, options.trials // 5), (1000, options.trials)):
            simulate(count, trials, batch, TIMES if options.slow else 1.0)
    if options.price:
        price((200, 500, 1000, 2000), (8, 64, 1000), 3)
    if options.workers:
        workers()


if __name__ == "__main__":
    main()
