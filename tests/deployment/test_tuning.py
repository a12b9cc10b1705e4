"""Which plans a search trains for its budget, and what becomes of them; the training itself: test_fine_tuning.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.tuned_files import TrainedWeights
from autocomp.deployment.tuning import FINALISTS, LEAST_DIFFERENCE, Tuner, settings_of
from autocomp.evaluators import Measurement
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.problem.budget import Budget
from autocomp.problem.data import Data
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess
from autocomp.study.study import Study
from tests.clock import FakeClock
from tests.toy import ToyEvaluator, toy_accuracy, toy_costs, toy_space

SPACE = toy_space()
BUDGET = Budget.parse("latency<30%, accuracy>-1%")
DATA = Data(train=np.zeros((4, 1, 2, 2)))


class Trainer:
    """A deployer that trains nothing: it wins back a share of what a plan lost."""

    def __init__(self, won: float) -> None:
        self.won, self.trained_plans = won, list[Plan]()
        self.evaluator = SimpleNamespace(key="toy")
        self.meanwhile: Callable[[Any], None] = lambda progress: None

    def fine_tune(
        self,
        plan: Plan,
        train: Any,
        settings: FineTuning,
        progress: Any,
        start: TrainedWeights | None = None,
        live: Any = None,
    ) -> tuple[Any, Measurement]:
        self.trained_plans.append(plan)
        self.meanwhile(progress)
        before = toy_accuracy(SPACE, plan)
        found = Measurement(before + self.won * (0.92 - before), samples=2000, fidelity=f"{settings.epochs} epochs")
        weights = TrainedWeights(plan, "lsq", {"weight": np.arange(3.0)}, found)
        return self.trained(weights), found

    def trained(self, weights: TrainedWeights) -> Any:
        return SimpleNamespace(weights=weights, layers=lambda plans: None)


def study(**settings: Any) -> Study:
    costs = partial(toy_costs, SPACE)
    return Study(SPACE, InProcess(ToyEvaluator(SPACE)), costs, budget=BUDGET, trials=33, progress=False, **settings)


def found_by(given: Study) -> ParetoSet:
    return ParetoSet(given.run(), device="cpu", budget=BUDGET, objectives=("latency",))


def tuner(trainer: Trainer, given: Study, folder: Path | None = None, **settings: Any) -> Tuner:
    return Tuner(cast(NetworkDeployer, trainer), FineTuning(**settings), DATA, given, folder)


@pytest.fixture
def front() -> ParetoSet:
    return found_by(study())


class TestChoice:
    def test_the_budget_is_reached_by_the_most_accurate(self, front: ParetoSet) -> None:
        trainer = Trainer(won=0.999)
        missing = front.short_of_accuracy()
        assert not front.feasible and "fine-tuning may win back" in front.notes[0]
        tuner(trainer, study()).reach_budget(front)
        assert front.feasible and list(front) == list(front.tuned) and len(front) == 1
        (point,) = front
        assert trainer.trained_plans == [missing[0].plan] and point.plan == missing[0].plan
        assert point.accuracy > 0.91 and point.violation <= 0 and point.cost == missing[0].cost
        assert front.pick("accuracy>-1%") is point
        assert len(front.evaluated) == 33 and missing[0] in front.evaluated

    def test_others_come_in_question_where_one_is_not_enough(
        self, front: ParetoSet, caplog: pytest.LogCaptureFixture
    ) -> None:
        trainer = Trainer(won=0.01)
        with caplog.at_level(logging.INFO, logger="autocomp"):
            tuner(trainer, study()).reach_budget(front)
        assert not front.feasible and len(trainer.trained_plans) == FINALISTS == len(front.tuned)
        vectors = np.array([SPACE.encode(plan) for plan in trainer.trained_plans])
        for i, vector in enumerate(vectors):
            assert all((vector != other).mean() >= LEAST_DIFFERENCE for other in vectors[:i])
        assert "fine-tuning did not reach the budget: the most accurate is" in front.notes[-1]
        assert "may win back" not in front.notes[0]
        assert sum(record.message.startswith("fine-tuned: ") for record in caplog.records) == FINALISTS

    def test_only_the_accuracy_may_be_missing(self, front: ParetoSet) -> None:
        missing = front.short_of_accuracy(Budget.parse("latency<27%, accuracy>-1%"))
        accuracies = [point.accuracy for point in missing]
        assert 0 < len(missing) < len(front.evaluated) and accuracies == sorted(accuracies, reverse=True)
        assert all(point.ratio("latency") <= 0.27 and not point.is_float for point in missing)
        assert front.short_of_accuracy(Budget.parse("latency<27%")) == []


class TestEnd:
    def test_a_failed_training_is_told_and_another_plan_tried(self, front: ParetoSet) -> None:
        trainer = Trainer(won=0.999)

        def fails_once(progress: Any) -> None:
            trainer.meanwhile = lambda progress: None
            raise RuntimeError("out of memory\n\n----\n- C++ Call Stack: (For framework developers)")

        trainer.meanwhile = fails_once
        tuner(trainer, study()).reach_budget(front)
        assert front.feasible and len(trainer.trained_plans) == 2
        assert front.notes[-1].endswith("ended without a network: out of memory")

    def test_the_time_limit_holds_within_a_training(self, front: ParetoSet, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = FakeClock.install(monkeypatch)
        trainer, given = Trainer(won=0.999), study(time_limit=100.0)
        steps: list[int] = []

        def trains(progress: Any) -> None:
            for step in range(1, 11):
                steps.append(step)
                clock.now += 30
                progress(step, 10, 0.5)

        trainer.meanwhile = trains
        tuner(trainer, given).reach_budget(front)
        assert steps == [1, 2, 3, 4] and not front.feasible and len(trainer.trained_plans) == 1
        assert front.notes[-1].endswith("the time limit was reached at step 4 of 10")

    def test_ctrl_c_leaves_what_there_is(self, front: ParetoSet) -> None:
        trainer = Trainer(won=0.01)

        def second_is_interrupted(progress: Any) -> None:
            if len(trainer.trained_plans) == 2:
                raise KeyboardInterrupt

        trainer.meanwhile = second_is_interrupted
        tuner(trainer, study()).reach_budget(front)
        assert len(front.tuned) == 1 and "the fine-tuning was interrupted" in front.notes


class TestKept:
    def test_what_was_trained_is_found_again(self, front: ParetoSet, tmp_path: Path) -> None:
        trainer, again = Trainer(won=0.999), found_by(study())
        tuner(trainer, study(), tmp_path).reach_budget(front)
        tuner(trainer, study(), tmp_path).reach_budget(again)
        assert len(trainer.trained_plans) == 1 and list(again) == list(front)
        weights = cast(Any, again[0].deployer).weights
        np.testing.assert_array_equal(weights.parameters["weight"], np.arange(3.0))

    @pytest.mark.parametrize("change", [{"epochs": 3}, {"rate": 0.1}, {"seed": 1}])
    def test_another_training_is_another_network(self, front: ParetoSet, tmp_path: Path, change: Any) -> None:
        trainer = Trainer(won=0.999)
        tuner(trainer, study(), tmp_path).reach_budget(front)
        tuner(trainer, study(), tmp_path, **change).reach_budget(found_by(study()))
        assert len(trainer.trained_plans) == 2

    def test_a_damaged_file_is_made_again(
        self, front: ParetoSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        trainer = Trainer(won=0.999)
        tuner(trainer, study(), tmp_path).reach_budget(front)
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:100])
        again = found_by(study())
        tuner(trainer, study(), tmp_path).reach_budget(again)
        assert len(trainer.trained_plans) == 2 and list(again) == list(front)
        assert f"{path} must hold a fine-tuned network, but it cannot be read" in caplog.text

    def test_a_full_disk_loses_no_network(
        self, front: ParetoSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        tuner(Trainer(won=0.999), study(), tmp_path / "file").reach_budget(front)
        assert front.feasible and "the fine-tuned network is in memory alone" in caplog.text


def test_bad_arguments() -> None:
    assert settings_of(0, 5) is None and settings_of(3, 5) == FineTuning(epochs=3, seed=5)
    assert settings_of(FineTuning(batch=7), 5) == FineTuning(batch=7)
    with pytest.raises(ValueError, match=r"fine_tune must be at least 0 epochs, but got fine_tune=-1"):
        settings_of(-1, 0)
    for wrong in (True, "2", 1.5):
        with pytest.raises(TypeError, match=r"fine_tune must be a number of epochs or FineTuning, but got "):
            settings_of(wrong, 0)  # type: ignore[arg-type]
