"""Which plans a search trains in rounds, by which primitives, and what becomes of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from autocomp.deployment import recovery as module
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.recovery import (
    COMPARED,
    FURTHER,
    LEAST_STEPS,
    POOL,
    ROUNDS,
    Recovery,
    assignments,
    rank_correlation,
    usual_epochs,
)
from autocomp.deployment.remote.plan_trainer import PlanTrainer, Training
from autocomp.deployment.tuned_files import TrainedWeights
from autocomp.deployment.tuning import Tuner
from autocomp.evaluators import Measurement
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.problem.data import Data
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Format, Plan, SearchSpace, split_value
from autocomp.study.answers import question_of
from autocomp.study.executors import InProcess
from autocomp.study.study import Study
from tests.clock import FakeClock
from tests.toy import ToyEvaluator, toy_accuracy, toy_costs, toy_space

OFFERED = ("lsq", "slb")
SPACE = SearchSpace(
    toy_space().graph,
    tuple(replace(knob, trainers=OFFERED if knob.kind == "format" else ()) for knob in toy_space().knobs),
)
DATA = Data(train=np.zeros((640, 1, 2, 2), np.float32))  # 10 steps of 64
FLOAT = 0.92


class Trainer:
    """A deployer that trains nothing: its plans win back more the more steps they have had, by SLB more than by LSQ."""

    def __init__(self) -> None:
        self.made: list[tuple[Plan, FineTuning, TrainedWeights | None]] = []
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
        self.made.append((plan, settings, start))
        self.meanwhile(progress)
        steps = (start.steps if start else 0) + cast(int, settings.steps)
        won = (1 - 0.98**steps) * (1.0 if "@slb" in str(plan) else 0.9)
        before = toy_accuracy(SPACE, Plan({name: split_value(value)[0] for name, value in plan.items()}))
        found = Measurement(before + won * max(FLOAT - before, 0), samples=2000, fidelity=f"{steps} steps")
        return self.trained(TrainedWeights(plan, "lsq", {"weight": np.arange(3.0)}, found, steps)), found

    def trained(self, weights: TrainedWeights) -> Any:
        return SimpleNamespace(weights=weights, layers=lambda plans: None)


def study(**settings: Any) -> Study:
    costs = partial(toy_costs, SPACE)
    return Study(SPACE, InProcess(ToyEvaluator(SPACE)), costs, trials=33, progress=False, **settings)


def front_of(given: Study) -> ParetoSet:
    return ParetoSet(given.run(), device="cpu", objectives=("latency", "size"))


def recovery(trainer: Trainer, given: Study, folder: Path | None = None, epochs: float = 18.0) -> Recovery:
    tuner = Tuner(cast(NetworkDeployer, trainer), FineTuning(batch=64), DATA, given, folder)
    return Recovery(tuner, SPACE, epochs)


@pytest.fixture
def front() -> ParetoSet:
    return front_of(study())


class TestRounds:
    def test_half_of_them_goes_on_from_where_it_was(self, front: ParetoSet) -> None:
        trainer = Trainer()
        before = front.hypervolume()
        recovery(trainer, study()).run(front)
        by_round = Counter(settings.steps for _, settings, _ in trainer.made)
        first = 180 // (ROUNDS * POOL)
        assert by_round == {first: POOL, 2 * first: -(-POOL // 2), 4 * first: -(-POOL // 4)}
        assert sum(cast(int, settings.steps) for _, settings, _ in trainer.made) <= 180 + 4 * first
        for plan, settings, start in trainer.made:
            assert (start is None) == (settings.steps == first)
            assert start is None or (start.plan == plan and start.steps == cast(int, settings.steps) - first)
        assert len({settings.seed for _, settings, _ in trainer.made}) == ROUNDS, "other samples in each round"
        assert front.hypervolume() > before and len(front.tuned) == len({plan for plan, _, _ in trainer.made})

    def test_points_name_who_trained_them(self, front: ParetoSet) -> None:
        trainer = Trainer()
        recovery(trainer, study()).run(front)
        for point in front.tuned:
            for name, value in point.plan.items():
                kind, by = name.partition("/")[0], split_value(value)[1]
                assert by in OFFERED if kind == "format" else by == ""
        assert {"lsq", "slb"} <= {split_value(v)[1] for point in front.tuned for v in point.plan.values()}
        compared = Counter(tuple(SPACE.encode(plan)) for plan in dict.fromkeys(plan for plan, _, _ in trainer.made))
        assert 1 <= sum(count == 2 for count in compared.values()) <= COMPARED and max(compared.values()) == 2

    def test_the_plan_and_its_costs_stay(self, front: ParetoSet) -> None:
        recovery(Trainer(), study()).run(front)
        known = {point.vector: point for point in front.evaluated}
        for point in front.tuned:
            assert (SPACE.encode(point.plan) == point.vector).all() and point.cost == known[point.vector].cost


def chosen_by(predict: Callable[[Plan], float], front: ParetoSet) -> Trainer:
    """What is trained where an elastic network predicts so."""
    trainer = Trainer()
    given = recovery(trainer, study())
    Recovery(given.tuner, SPACE, 18.0, predict).run(front)
    return trainer


class TestElasticNetwork:
    """Half of the rounds' plans win back what their accuracy before does not say."""

    @staticmethod
    def hidden(plan: Plan) -> float:
        """What plans win back here: nothing where the first layer is rounded."""
        return 0.5 if "format/l0" in plan else 0.9

    def test_better_than_before_it_chooses_further_plans(
        self, front: ParetoSet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tuned(self: Trainer, plan: Plan, *_: Any) -> tuple[Any, Measurement]:
            self.made.append((plan, cast(FineTuning, _[1]), None))
            found = Measurement(TestElasticNetwork.hidden(plan) + len(plan) / 1000, samples=2000, fidelity="1 step")
            return self.trained(TrainedWeights(plan, "lsq", {}, found, 1)), found

        monkeypatch.setattr(Trainer, "fine_tune", tuned)
        trainer = chosen_by(lambda plan: self.hidden(plan) + len(plan) / 1000 - 0.3, front)
        told = next(note for note in front.notes if "the elastic network ranks" in note)
        assert re.search(r"^the elastic network ranks \d trained plans with a correlation of 1\.00, accuracies", told)
        assert re.search(r"without training with -?0\.\d\d: it chose", told)
        assert told.endswith(f"it chose {FURTHER} further plans")
        first = 180 // (ROUNDS * POOL)
        in_first_round = [plan for plan, settings, _ in trainer.made if settings.steps == first]
        assert len(in_first_round) == len(set(in_first_round)) == POOL + FURTHER
        assert all(len(plan) for plan in in_first_round[POOL:])

    def test_no_better_than_before_it_chooses_none(self, front: ParetoSet) -> None:
        trainer = chosen_by(lambda plan: 1 - toy_accuracy(SPACE, plan), front)
        assert any(note.endswith("it chose no plans") for note in front.notes)
        alone = Trainer()
        recovery(alone, study()).run(again := front_of(study()))
        assert [plan for plan, _, _ in trainer.made] == [plan for plan, _, _ in alone.made]
        assert list(again) == list(front)

    def test_too_few_plans_say_nothing(self, front: ParetoSet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "POOL", 2)
        chosen_by(lambda plan: toy_accuracy(SPACE, plan), front)
        assert any("trained plans are too few to check it" in note for note in front.notes)

    def test_ranks(self) -> None:
        assert rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
        assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
        assert rank_correlation([1, 1, 1, 1], [4, 3, 2, 1]) == 0


class TestAssignments:
    PLANS = assignments(Plan({"format/l0": "w4a8", "format/l1": "w8a8", "keep/l1": 0.5}), SPACE)

    def test_each_trainer_where_it_reaches(self) -> None:
        expected = [{"format/l0": f"w4a8@{by}", "format/l1": "w8a8@lsq", "keep/l1": 0.5} for by in OFFERED]
        assert [dict(plan) for plan in self.PLANS] == expected

    def test_slb_has_four_bits_at_most(self) -> None:
        values = [split_value(value) for plan in self.PLANS for value in plan.values()]
        assert all(Format.parse(str(chosen)).weight_bits <= 4 for chosen, by in values if by == "slb")

    def test_one_bit_is_left_to_slb(self) -> None:
        plan = Plan({"format/l0": "w1a8@slb", "format/l1": "w2a8"})
        first = assignments(plan, SPACE)[0]
        assert first["format/l0"] == "w1a8@slb" and first["format/l1"] == "w2a8@lsq"

    def test_without_formats_there_is_one(self) -> None:
        plan = Plan({"keep/l1": 0.5})
        assert assignments(plan, SPACE) == [plan]


class TestEnd:
    def test_nothing_is_trained_twice(self, front: ParetoSet, tmp_path: Path) -> None:
        first, second = Trainer(), Trainer()
        recovery(first, study(), tmp_path).run(front)
        again = front_of(study())
        recovery(second, study(), tmp_path).run(again)
        assert first.made and not second.made
        assert list(again) == list(front) and again.tuned == front.tuned

    def test_what_was_stopped_goes_on(self, tmp_path: Path) -> None:
        whole, stopped, rest = Trainer(), Trainer(), Trainer()
        undisturbed, front = front_of(study()), front_of(study())
        recovery(whole, study()).run(undisturbed)

        def killed(_: Any) -> None:
            if len(stopped.made) == POOL + 2:
                raise KeyboardInterrupt

        stopped.meanwhile = killed
        recovery(stopped, study(), tmp_path).run(front)
        assert "the training was interrupted" in front.notes and len(front.tuned) == POOL
        again = front_of(study())
        recovery(rest, study(), tmp_path).run(again)
        assert len(stopped.made) - 1 + len(rest.made) == len(whole.made)
        assert list(again) == list(undisturbed)

    def test_a_failed_training_costs_one_plan(self, front: ParetoSet) -> None:
        trainer = Trainer()

        def fails_once(_: Any) -> None:
            trainer.meanwhile = lambda progress: None
            raise RuntimeError("out of memory\n\n----\n- C++ Call Stack: (For framework developers)")

        trainer.meanwhile = fails_once
        recovery(trainer, study()).run(front)
        assert len(front.tuned) == POOL - 1
        assert any(note.endswith("ended without a network: out of memory") for note in front.notes)

    def test_the_time_limit_holds(self, front: ParetoSet, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = FakeClock.install(monkeypatch)
        trainer, given = Trainer(), study(time_limit=100.0)

        def takes_a_while(_: Any) -> None:
            clock.now += 40

        trainer.meanwhile = takes_a_while
        recovery(trainer, given).run(front)
        assert len(trainer.made) == 3 == len(front.tuned)

    def test_a_front_without_plans_is_left_alone(self) -> None:
        trainer, of_float = Trainer(), front_of(study()).float_point
        records = [record for record in study().run() if not record.plan]
        alone = ParetoSet(records, device="cpu", objectives=("latency", "size"))
        recovery(trainer, study()).run(alone)
        assert not trainer.made and list(alone) == [replace(of_float, deployer=None)]


class Team(InProcess):
    """Two workers that are this process; questions travel as they do to workers."""

    started = 0

    def __enter__(self) -> InProcess:
        Team.started += 1
        return super().__enter__()

    def ask(self, question: Any, plans: Any, more: Any = None) -> Any:
        for i, plan in enumerate(plans):
            part: Any = question_of(question, plan)
            assert part is question or (set(part.settings) == {plan} and set(part.starts) <= {plan})
            for _, found in super().ask(part, [plan]):
                yield i, found


def side_by_side(trainer: Trainer, given: Study, folder: Path | None = None) -> Recovery:
    tuner = Tuner(cast(NetworkDeployer, trainer), FineTuning(batch=64), DATA, given, folder, Team)
    return Recovery(tuner, SPACE, 18.0)


class TestWorkers:
    def test_the_front_is_that_of_one(self, front: ParetoSet, tmp_path: Path) -> None:
        alone, together = Trainer(), Trainer()
        Team.started = 0
        recovery(alone, study()).run(front)
        several = front_of(study())
        side_by_side(together, study(), tmp_path).run(several)
        assert Team.started == 1 and list(several) == list(front) and several.tuned == front.tuned
        assert [(plan, given) for plan, given, _ in together.made] == [(plan, given) for plan, given, _ in alone.made]
        starts = [start and start.steps for _, _, start in alone.made]
        assert [start and start.steps for _, _, start in together.made] == starts
        again, third = front_of(study()), Trainer()
        side_by_side(third, study(), tmp_path).run(again)
        assert not third.made and list(again) == list(front), "nothing is trained twice"

    def test_what_was_stopped_goes_on(self, front: ParetoSet, tmp_path: Path) -> None:
        whole, stopped, rest = Trainer(), Trainer(), Trainer()
        recovery(whole, study()).run(front)

        def killed(_: Any) -> None:
            if len(stopped.made) == POOL + 2:
                raise KeyboardInterrupt

        stopped.meanwhile = killed
        side_by_side(stopped, study(), tmp_path).run(cut := front_of(study()))
        assert "the training was interrupted" in cut.notes and len(cut.tuned) == POOL
        side_by_side(rest, study(), tmp_path).run(again := front_of(study()))
        assert len(stopped.made) - 1 + len(rest.made) == len(whole.made)
        assert list(again) == list(front)

    def test_a_failed_training_costs_one_plan_and_is_not_tried_again(self, front: ParetoSet) -> None:
        trainer = Trainer()

        def fails_once(_: Any) -> None:
            trainer.meanwhile = lambda progress: None
            raise RuntimeError("out of memory\n\n----\n- C++ Call Stack: (For framework developers)")

        trainer.meanwhile = fails_once
        side_by_side(trainer, study()).run(front)
        assert len(front.tuned) == POOL - 1
        assert any(note.endswith("ended without a network: out of memory") for note in front.notes)

    def test_the_time_limit_ends_a_training(self, front: ParetoSet) -> None:
        trainer = Trainer()
        tuner = side_by_side(trainer, study()).tuner
        trainer.meanwhile = lambda progress: progress(3, 10, 0.5)
        found = Training({Plan(): FineTuning()}, {}, 0.0)(PlanTrainer(tuner.deployer, cast(Any, None)), Plan())
        assert found == "the time limit was reached at step 3 of 10"

    def test_without_workers_that_can_be_sent_to_it_goes_on_here(self, front: ParetoSet) -> None:
        def none(_: Any) -> Any:
            raise TypeError("an evaluator for Ray workers must be picklable, but got evaluator.net (a Net)")

        trainer, alone = Trainer(), Trainer()
        tuner = Tuner(cast(NetworkDeployer, trainer), FineTuning(batch=64), DATA, study(), None, none)
        Recovery(tuner, SPACE, 18.0).run(front)
        recovery(alone, study()).run(again := front_of(study()))
        assert list(front) == list(again) and len(trainer.made) == len(alone.made)


@pytest.mark.parametrize(("trials", "samples"), [(24, 100), (200, 2000), (200, 10_000), (1000, 2000)])
def test_the_usual_extent_follows_from_the_call(trials: int, samples: int) -> None:
    tuner = recovery(Trainer(), study()).tuner
    epochs = usual_epochs(trials, samples, tuner)
    assert Recovery(tuner, SPACE, epochs).steps >= LEAST_STEPS
    assert epochs * 640 <= max(trials * min(samples, 2000), ROUNDS * POOL * LEAST_STEPS * 64)
