"""The scoring pass of a study is made once and kept where the evaluations are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from autocomp.budget import Budget
from autocomp.evaluators import Scores
from autocomp.executors import InProcess
from autocomp.ledger import Ledger
from autocomp.study import Study
from tests.toy import DAMAGE, ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)


def study(calls: list[int], storage: Path | None = None, fingerprint: str = "toy", sampler: str = "frontier") -> Study:
    def scores() -> Scores:
        calls.append(1)
        return Scores(tuple(tuple(DAMAGE[value] for value in knob.values) for knob in SPACE.knobs))

    return Study(
        SPACE,
        InProcess(ToyEvaluator(SPACE)),
        partial(toy_costs, SPACE),
        budget=Budget.parse("latency<70%, accuracy>-20%"),
        sampler=sampler,
        trials=26,
        ledger=Ledger(SPACE, storage, fingerprint),
        scores=scores,
    )


def test_scores_are_measured_once_and_stored(tmp_path: Path) -> None:
    calls: list[int] = []
    first = study(calls, tmp_path / "run.db").run()
    again = study(calls, tmp_path / "run.db")
    assert [record.plan for record in again.run()] == [record.plan for record in first]
    assert again.reused == len(first) == 26
    assert len(calls) == 1


def test_scores_of_another_network_are_not_used(tmp_path: Path) -> None:
    calls: list[int] = []
    study(calls, tmp_path / "run.db", "one").run()
    study(calls, tmp_path / "run.db", "other").run()
    assert len(calls) == 2


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_that_need_no_scores_cost_none(sampler: str) -> None:
    calls: list[int] = []
    study(calls, sampler=sampler).run()
    assert not calls


def test_the_budget_reaches_the_sampler() -> None:
    found = study([])
    records = found.run()
    assert found._problem().floor == pytest.approx(records[0].measurement.accuracy - 0.2)
    assert all(record.cost.latency_ms <= 0.7 * records[0].cost.latency_ms for record in records[1:])
    assert sum(record.violation <= 0 for record in records) > 10
