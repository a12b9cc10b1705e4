"""Wide batches: what is proposed does not depend on which plan ends first, and a slow plan idles nobody."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess, executor
from autocomp.study.groups import divided, usual_batch
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)


class Shuffled(InProcess):
    """Plans end in any order, as on workers of different speed; the slowest, if it is told, as late as it can."""

    def __init__(self, seed: int, slowest: int | None = None) -> None:
        super().__init__(ToyEvaluator(SPACE))
        self._rng, self._slowest, self.begun_before = np.random.default_rng(seed), slowest, 0

    def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
        left: list[int] = []
        begun = 0
        while more is not None and more():
            pass
        while left or begun < len(plans):
            left += range(begun, len(plans))
            begun = len(plans)
            others = [i for i in left if i != self._slowest]
            i = int(self._rng.choice(others or left))
            if i == self._slowest:
                self.begun_before = begun
            left.remove(i)
            yield i, question(self._evaluator, plans[i])


def study(running: InProcess, batch: int, ledger: Ledger | None = None, **settings: Any) -> Study:
    given: dict[str, Any] = {"sampler": "nsga2", "trials": 64, "seed": 3} | settings
    return Study(SPACE, running, partial(toy_costs, SPACE), batch=batch, ledger=ledger, **given)


def found(search: Study) -> list[tuple[Plan, float]]:
    return [(record.plan, record.measurement.accuracy) for record in search.run()]


@pytest.mark.parametrize(("sampler", "batch"), [("nsga2", 8), ("nsga2", 24), ("nsga2", 40), ("frontier", 24)])
def test_the_same_plans_in_the_same_order_whatever_ends_first(sampler: str, batch: int) -> None:
    undisturbed = found(study(InProcess(ToyEvaluator(SPACE)), batch, sampler=sampler))
    assert len(undisturbed) == 64
    for seed in range(2):
        assert found(study(Shuffled(seed), batch, sampler=sampler)) == undisturbed


def test_patience_ends_it_at_the_same_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autocomp.study.progress.GROWTH", 0.1)
    first, second = (study(Shuffled(seed), 24, trials=400, patience=2) for seed in range(2))
    assert found(first) == found(second)
    assert first.stopped == second.stopped == "no growth of the front in 2 batches"


def test_a_slow_plan_holds_up_what_is_a_batch_behind_it_and_nothing_before() -> None:
    running = Shuffled(0, slowest=3)
    found(study(running, 40))
    assert running.begun_before == 40
    running = Shuffled(0, slowest=3)
    found(study(running, 8))
    assert running.begun_before == 8


def test_a_wide_search_that_was_stopped_is_continued(tmp_path: Path) -> None:
    class Stopping(Shuffled):
        def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
            for number, answer in enumerate(super().ask(question, plans, more)):
                yield answer
                if number == 50:
                    raise KeyboardInterrupt

    stopped = study(Stopping(1), 24, Ledger(SPACE, tmp_path / "run.db", "toy"))
    assert 50 < len(found(stopped)) < 64 and stopped.stopped == "interrupted"
    again = study(Shuffled(2), 24, Ledger(SPACE, tmp_path / "run.db", "toy"))
    assert found(again) == found(study(Shuffled(4), 24))
    assert again.reused == len(stopped.records)


def test_how_a_batch_is_divided() -> None:
    assert [divided(batch) for batch in (1, 8, 12, 64, 8000)] == [(1, 1), (8, 1), (6, 2), (8, 8), (500, 16)]
    assert all(size * groups >= batch for batch in range(1, 500) for size, groups in [divided(batch)])


def test_the_usual_batch() -> None:
    assert [usual_batch(workers, 200) for workers in (1, 8, 9, 64, 1000)] == [8, 8, 96, 96, 1000]
    assert [usual_batch(workers, 20_000) for workers in (8, 9, 64, 1000)] == [8, 128, 512, 8000]


def test_workers_begin_while_the_rest_of_a_batch_is_proposed() -> None:
    seen: list[tuple[int, bool]] = []

    class Watching(InProcess):
        def ask(self, question: Any, plans: Sequence[Plan], more: Any = None) -> Generator[tuple[int, Any], None, None]:
            def watched() -> bool:
                seen.append((len(plans), more()))
                return seen[-1][1]

            yield from super().ask(question, plans, watched)

    found(study(Watching(ToyEvaluator(SPACE)), 24))
    float_network, batch = seen[0], seen[1:]
    assert float_network == (1, False)
    assert batch == [(8, True), (16, True), (24, False)]


@pytest.mark.parametrize("workers", [None, 1])
def test_plans_that_join_are_evaluated(workers: int | None) -> None:
    plans = [SPACE.decode((i % 5, i % 4, 1, 1, 0, 0, 0, 0)) for i in range(6)]
    begun = plans[:2]

    def more() -> bool:
        further = plans[len(begun) : len(begun) + 2]
        begun.extend(further)
        return bool(further)

    with executor(ToyEvaluator(SPACE), workers) as running:
        results = dict(running.map(begun, more))
    assert results == {i: ToyEvaluator(SPACE).evaluate(plan) for i, plan in enumerate(plans)}
