"""Searches that look at a part of the samples, and measure the front on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.evaluators.low_fidelity import FIRST, estimate, evaluate_subset
from autocomp.problem.budget import Budget
from autocomp.problem.record import Record
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan, SearchSpace
from autocomp.study.executors import executor
from autocomp.study.ledger import Ledger
from autocomp.study.study import INTERRUPTED, Study
from tests.toy import toy, toy_accuracy, toy_costs

TOTAL = 20_000
SPACE = toy(4)[0]


@dataclass
class Samples:
    """Right on each sample that is easy enough for the plan's accuracy, and on some by chance."""

    space: SearchSpace
    log: str | None = None
    broken: str = ""  # on all samples
    interrupts: int = -1  # the evaluation of all samples in which Ctrl-C comes
    seconds: float = 0.0  # that an evaluation of all samples says it takes

    key = "samples"

    @cached_property
    def _difficulty(self) -> np.ndarray:
        return np.random.default_rng(0).random(TOTAL)

    @cached_property
    def _noise(self) -> np.ndarray:
        return np.random.default_rng(1).normal(0, 0.02, TOTAL)

    def right(self, plan: Plan) -> np.ndarray:
        shift = np.random.default_rng(int(plan.key[:8], 16)).integers(TOTAL)
        return self._difficulty + np.roll(self._noise, shift) < toy_accuracy(self.space, plan)

    def evaluate_subset(self, plan: Plan) -> Measurement:
        self._note("part", plan)
        right, of_float = self.right(plan), self.right(Plan())
        accuracy, error = estimate(right[:FIRST], of_float[:FIRST], float(of_float.mean()), TOTAL)
        return Measurement(accuracy, samples=FIRST, fidelity=f"{FIRST} of {TOTAL} samples", error=error)

    def evaluate(self, plan: Plan) -> Measurement:
        self._note("all", plan)
        if plan.key == self.broken:
            raise EvaluationError("the toy is broken")
        self.interrupts -= 1
        if self.interrupts == -1:
            raise KeyboardInterrupt
        accuracy = float(self.right(plan).mean())
        return Measurement(accuracy, samples=TOTAL, fidelity=f"{TOTAL} samples", seconds=self.seconds)

    def _note(self, how: str, plan: Plan) -> None:
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{how} {plan}\n")


def study(evaluator: Samples | None = None, workers: int | None = None, **settings: Any) -> Study:
    evaluator = evaluator or Samples(SPACE)
    chosen: dict[str, Any] = {"trials": 60, "sampler": "nsga2", "evaluate_subset": evaluate_subset} | settings
    return Study(SPACE, executor(evaluator, workers), partial(toy_costs, SPACE), **chosen)


def front_of(search: Study) -> ParetoSet:
    return ParetoSet(search.records, device="toy", budget=search.budget, objectives=search.objectives)


def found(records: Sequence[Record]) -> list[tuple[Plan, Measurement]]:
    return [(record.plan, record.measurement) for record in records]


@pytest.mark.parametrize(
    "budget", ["", "latency<50%", "latency<60%, accuracy>-2%", "size<35%, latency<35%, accuracy>-0.001%"]
)
@pytest.mark.parametrize("seed", range(3))
def test_all_of_the_front_is_measured_on_all_samples(budget: str, seed: int) -> None:
    search = study(seed=seed, budget=Budget.parse(budget), trials=100)
    evaluator, records = Samples(SPACE), search.run()
    front = front_of(search)
    assert {point.samples for point in front} == {TOTAL} == {records[0].measurement.samples}
    assert {point.accuracy for point in front} <= {float(evaluator.right(record.plan).mean()) for record in records}
    assert any(record.measurement.samples == FIRST for record in records)
    assert len(records) == 100 and not any("samples" in note for note in front.notes)


@pytest.mark.parametrize("seed", range(3))
def test_little_is_lost_and_much_is_saved(seed: int) -> None:
    search = study(seed=seed, trials=100)
    records, evaluator = search.run(), Samples(SPACE)
    whole = [Record(r.plan, r.vector, evaluator.evaluate(r.plan), r.cost, r.violation) for r in records]
    every = ParetoSet(whole, device="toy", objectives=search.objectives)
    assert front_of(search).hypervolume() > 0.97 * every.hypervolume()
    assert sum(record.measurement.samples == TOTAL for record in records) <= 26


def test_the_same_with_workers() -> None:
    assert found(study(workers=2, trials=20).run()) == found(study(trials=20).run())


class TestStored:
    def test_stopped_anywhere_it_ends_alike(self, tmp_path: Path) -> None:
        expected = found(study().run())
        for done in (5, 44):
            file, log = tmp_path / f"{done}.db", tmp_path / f"{done}.log"
            study(trials=done, ledger=Ledger(SPACE, file)).run()
            again = study(Samples(SPACE, log=str(log)), ledger=Ledger(SPACE, file))
            assert found(again.run()) == expected
            assert again.reused == done
            noted = log.read_text().splitlines()
            assert len(set(noted)) == len(noted)
            assert {line for line in noted if line.startswith("part")} == {f"part {p}" for p, _ in expected[done:]}

    def test_nothing_is_measured_twice(self, tmp_path: Path) -> None:
        file, log = tmp_path / "a.db", tmp_path / "log"
        expected = found(study(ledger=Ledger(SPACE, file)).run())
        assert found(study(Samples(SPACE, log=str(log)), ledger=Ledger(SPACE, file)).run()) == expected
        assert not log.exists()

    @pytest.mark.parametrize("confirmed", [0, 4])
    def test_stopped_while_the_front_is_measured(self, confirmed: int, tmp_path: Path) -> None:
        expected = found(study().run())
        file, log = tmp_path / "a.db", tmp_path / "log"
        first = study(Samples(SPACE, interrupts=1 + confirmed), ledger=Ledger(SPACE, file))
        records = first.run()
        assert first.stopped == INTERRUPTED and len(records) == 60
        assert sum(record.measurement.samples == TOTAL for record in records) == 1 + confirmed
        front = front_of(first)
        if confirmed:
            assert {point.samples for point in front} == {TOTAL} and len(front) > 1
        else:
            left = sum(point.samples == FIRST for point in front)
            text = f"{left} of these points were measured on {FIRST} of {TOTAL} samples, since the search was stopped"
            assert left > 10 and front.notes[0].startswith(text)
        again = study(Samples(SPACE, log=str(log)), ledger=Ledger(SPACE, file))
        assert found(again.run()) == expected
        assert "part" not in log.read_text()


def test_a_plan_that_fails_on_all_samples_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    whole = study()
    whole.run()
    broken = next(point.plan for point in front_of(whole) if point.plan)
    search = study(Samples(SPACE, broken=broken.key))
    assert broken not in {record.plan for record in search.run()}
    assert {point.samples for point in front_of(search)} == {TOTAL}
    assert "the toy is broken" in caplog.text


def test_the_time_limit_leaves_time_for_the_front() -> None:
    """An evaluation on all samples says that it takes longer than half of the limit: half of it is kept."""
    search = study(Samples(SPACE, seconds=100.0), time_limit=3.0, trials=100_000)
    search.run()
    assert search.stopped == "the time limit of 3 s"
    assert {point.samples for point in front_of(search)} == {TOTAL}
