"""Plans that fail are counted by their reason; many for one reason end the search with it, wherever they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measure, Measurement, Scores
from autocomp.search_spaces import Plan
from autocomp.study.executors import executor
from autocomp.study.failures import Failures
from autocomp.study.study import Study
from tests.toy import SENSITIVITY, ToyEvaluator, toy, toy_costs

MISSING = "ModuleNotFoundError: No module named 'mine'"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all tests: it takes seconds to start."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def study(evaluator: ToyEvaluator, workers: int | str | None = None, **settings: Any) -> Study:
    """workers: "threads" evaluates three plans at a time in this process."""
    if workers == "threads":
        evaluator.at_once, workers = 3, None  # type: ignore[attr-defined]
    chosen: dict[str, Any] = {"trials": 30, "sampler": "nsga2"} | settings
    return Study(evaluator.space, executor(evaluator, workers), partial(toy_costs, evaluator.space), **chosen)


class FailingEvaluator(ToyEvaluator):
    """Fails for the plans with an even key, each with the same reason; the float network works."""

    reason = MISSING

    def evaluate(self, plan: Plan) -> Measurement:
        if plan and int(plan.key, 16) % 2 == 0:
            raise EvaluationError(self.reason)
        return super().evaluate(plan)


class Spread(FailingEvaluator):
    """Its failures have many reasons."""

    def evaluate(self, plan: Plan) -> Measurement:
        self.reason = f"reason {plan.key}"
        return super().evaluate(plan)


class Ruining(FailingEvaluator):
    reason = "outputs are not finite"


class Raising(FailingEvaluator):
    """Raises errors of another kind, which name the plan."""

    def evaluate(self, plan: Plan) -> Measurement:
        if plan and int(plan.key, 16) % 2 == 0:
            raise ZeroDivisionError(f"no value under {plan}")
        return ToyEvaluator.evaluate(self, plan)


class LoadedOnce(ToyEvaluator):
    """Only the first worker can load it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        assert self.log is not None
        os.close(os.open(f"{self.log}.lock", os.O_CREAT | os.O_EXCL))


class Unscored(ToyEvaluator):
    """Evaluates plans, but has nothing that a scoring pass needs."""


WORKERS = [None, "threads", 2]


class TestEvaluations:
    @pytest.mark.parametrize("workers", WORKERS)
    @pytest.mark.parametrize(
        ("kind", "reason"),
        [(FailingEvaluator, MISSING), (Raising, "ZeroDivisionError: no value under ...")],
    )
    def test_many_for_one_reason_end_the_search(
        self, workers: int | str | None, kind: type[FailingEvaluator], reason: str
    ) -> None:
        running = study(kind(toy(4)[0]), workers)
        records = running.run()
        assert running.stopped == f"{len(running.failures)} of {running.done} evaluations failed: {reason}"
        assert 0 < len(records) < running.done < 30
        assert running.notes == (running.stopped,)

    def test_a_worker_that_cannot_load_the_evaluator_gets_no_plans(self, tmp_path: Path) -> None:
        running = study(LoadedOnce(toy(4)[0], sleep=0.05, log=str(tmp_path / "log")), 2)
        records = running.run()
        assert len(records) == 30 and running.stopped == "30 evaluations" and running.notes == ()

    def test_where_none_can_load_it_the_search_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "log.lock").touch()
        with pytest.raises(EvaluationError, match="float network could not be evaluated: the evaluator cannot be"):
            study(LoadedOnce(toy(4)[0], log=str(tmp_path / "log")), 2).run()

    @pytest.mark.parametrize("workers", [None, "threads"])
    @pytest.mark.parametrize("kind", [Spread, Ruining])
    def test_others_do_not(self, kind: type[FailingEvaluator], workers: str | None) -> None:
        running = study(kind(toy(4)[0]), workers)
        running.run()
        assert running.stopped == "30 evaluations" and len(running.failures) > 7
        assert running.notes[0].startswith(f"{len(running.failures)} of 30 evaluations failed")

    def test_none_is_noted(self) -> None:
        quiet = study(toy(4)[1])
        quiet.run()
        assert quiet.notes == ()


def measured(evaluator: ToyEvaluator, measure: Measure) -> Scores:
    plans = [Plan({knob.name: value}) for knob in evaluator.space.knobs for value in knob.values[1:]]
    measure(plans)
    return Scores(tuple(tuple(SENSITIVITY[value] for value in knob.values) for knob in evaluator.space.knobs))


@pytest.mark.parametrize("workers", WORKERS)
def test_scores_that_cannot_be_measured_end_the_search(workers: int | str | None) -> None:
    evaluator = Unscored(toy(4)[0])
    running = study(evaluator, workers, sampler="frontier", scores=partial(measured, evaluator))
    records = running.run()
    assert len(records) == 5, "the float network and one format in all layers each"
    assert running.stopped is not None and "of 28 plans could not be scored: AttributeError: " in running.stopped
    assert running.notes[0] == f"the search ended after 5 evaluations by {running.stopped}"


class TestCount:
    def add(self, reasons: Sequence[str]) -> Failures:
        found, plan = Failures(), Plan({"format/a": "w8"})
        for reason in reasons:
            found.add(EvaluationError(f"plan {plan} could not be evaluated: {reason}"), plan)
        return found

    @pytest.mark.parametrize(
        ("reasons", "total", "most"),
        [
            (["a"] * 4, 15, ("a", 4)),
            (["a"] * 4, 16, None),
            (["a"] * 3, 3, None),
            (["a", "b"] * 4, 12, ("a", 4)),
            (["outputs are not finite"] * 9 + ["a"] * 5, 16, ("a", 5)),
            (["outputs are not finite"] * 9, 9, None),
            ([], 9, None),
        ],
    )
    def test_more_than_a_quarter_and_at_least_four(
        self, reasons: list[str], total: int, most: tuple[str, int] | None
    ) -> None:
        assert self.add(reasons).most(total) == most

    def test_the_note_names_the_most_frequent(self) -> None:
        assert self.add(["a"] * 2).note(9, "evaluations failed") == "2 of 9 evaluations failed: a"
        assert self.add(["a", "b", "b"]).note(9, "evaluations failed") == "3 of 9 evaluations failed (2 of them): b"
        assert self.add([]).note(9, "evaluations failed") == ""

    def test_a_long_reason_is_cut(self) -> None:
        assert len(self.add(["x" * 1000] * 4).note(4, "failed")) < 330
