from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost
from autocomp.problem.budget import Budget
from autocomp.problem.record import Record
from autocomp.samplers import Outcome, sampler_names
from autocomp.search_spaces import Plan
from autocomp.study.executors import executor
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy, toy_costs

Found = list[tuple[tuple[int, ...], float, float]]


def found(records: Sequence[Record]) -> Found:
    return [(record.vector, record.measurement.accuracy, record.violation) for record in records]


def study(evaluator: ToyEvaluator | None = None, workers: int | None = None, **settings: Any) -> Study:
    evaluator = evaluator or toy(4)[1]
    chosen: dict[str, Any] = {"trials": 30, "sampler": "nsga2"} | settings
    return Study(evaluator.space, executor(evaluator, workers), partial(toy_costs, evaluator.space), **chosen)


def counted(tmp_path: Path, **settings: Any) -> tuple[ToyEvaluator, Path]:
    """An evaluator that logs each plan, and the log."""
    log = tmp_path / "log"
    log.touch()
    return ToyEvaluator(toy(4)[0], log=str(log), **settings), log


class TestRun:
    @pytest.mark.parametrize("name", sampler_names())
    def test_float_first_then_each_plan_once(self, name: str) -> None:
        search = study(sampler=name)
        records = search.run()
        assert records[0].plan == Plan() and records[0].vector == (0,) * 8
        assert len({record.vector for record in records}) == len(records) == search.done
        assert len(records) == (20 if name == "uniform" else 30)

    def test_a_record_holds_what_was_found(self) -> None:
        search = study(budget=Budget.parse("latency<50%, accuracy>-1%"))
        for record in search.run():
            assert search.space.decode(record.vector) == record.plan
            assert record.measurement.samples == 2000
            assert record.cost == toy_costs(search.space, np.array([record.vector]))[0]
            constraint_violation = record.cost.latency_ms / search.float_cost.latency_ms / 0.5 - 1
            lost = search.records[0].measurement.accuracy - 0.01 - record.measurement.accuracy
            assert record.violation == pytest.approx(max(constraint_violation, lost))

    @pytest.mark.parametrize("name", sampler_names())
    def test_same_seed_same_records(self, name: str) -> None:
        assert found(study(sampler=name, seed=5).run()) == found(study(sampler=name, seed=5).run())

    def test_running_again_starts_anew(self) -> None:
        search = study()
        assert found(search.run()) == found(search.run())

    def test_more_trials_begin_with_the_fewer(self) -> None:
        assert found(study(trials=40).run())[:21] == found(study(trials=21).run())

    def test_one_trial_is_the_float_network(self) -> None:
        assert [record.plan for record in study(trials=1).run()] == [Plan()]

    def test_small_space_is_exhausted(self) -> None:
        evaluator = toy(2, formats=("float", "w8", "w4"), ratios=(1.0, 0.5))[1]
        search = study(evaluator, trials=500)
        assert len({record.vector for record in search.run()}) == 36
        assert search.stopped is not None and search.stopped.startswith("no more plans")

    def test_nothing_to_choose(self) -> None:
        search = study(toy(0)[1])
        assert len(search.run()) == 1
        assert search.stopped is not None and "nothing to choose" in search.stopped

    def test_too_costly_plans_are_not_evaluated(self, tmp_path: Path) -> None:
        evaluator, log = counted(tmp_path)
        search = study(evaluator, budget=Budget.parse("latency<35%"), sampler="auto", trials=40)
        records = search.run()
        assert len(records) == 40 and records[0].violation > 0
        assert all(record.violation <= 0 for record in records[1:])
        evaluated = {line.split(" ", 1)[1] for line in log.read_text().splitlines()}
        assert evaluated == {str(record.plan) for record in records}

    def test_auto_finds_better_plans_than_chance(self) -> None:
        budget = Budget.parse("latency<60%")

        def best(name: str, seed: int) -> float:
            records = study(budget=budget, sampler=name, seed=seed, trials=60).run()
            return max(record.measurement.accuracy for record in records if record.violation <= 0)

        for seed in range(2):
            assert best("auto", seed) > best("random", seed)


class TestBadEvaluations:
    def test_failures_are_left_out_and_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        clean = study().run()
        nan, broken = clean[2].plan.key, clean[5].plan.key
        space, _, _ = toy(4)
        search = study(ToyEvaluator(space, nan=(nan,), broken=(broken,)))
        with caplog.at_level(logging.WARNING, "autocomp"):
            records = search.run()
        assert len(records) == 28 and search.done == 30
        assert not {nan, broken} & {record.plan.key for record in records}
        messages = [record.getMessage() for record in caplog.records]
        assert sum("its accuracy is NaN" in text and str(clean[2].plan) in text for text in messages) == 1
        assert sum("the toy is broken" in text and str(clean[5].plan) in text for text in messages) == 1

    @pytest.mark.parametrize("kind", ["nan", "broken"])
    def test_a_float_network_that_fails_raises(self, kind: str) -> None:
        failing: dict[str, Any] = {kind: (Plan().key,)}
        with pytest.raises(EvaluationError, match=r"float network .*(NaN|broken)"):
            study(ToyEvaluator(toy(4)[0], **failing)).run()


class Clock(ToyEvaluator):
    """Raises or waits at its nth evaluation."""

    count: int = 0
    at: int = 10
    error: type[BaseException] | None = None

    def evaluate(self, plan: Plan) -> Measurement:
        self.count += 1
        if self.count == self.at and self.error is not None:
            raise self.error
        return super().evaluate(plan)


class TestStopping:
    def test_time_limit_keeps_what_was_found(self) -> None:
        space, _, _ = toy(4)
        search = study(ToyEvaluator(space, sleep=0.05), time_limit=0.6, trials=10_000)
        start = time.monotonic()
        records = search.run()
        assert time.monotonic() - start < 2
        assert 2 <= len(records) <= 13
        assert search.stopped == "the time limit of 0.6 s"
        assert found(records) == found(study(trials=len(records)).run())

    def test_patience_ends_it_when_the_front_no_longer_grows(self) -> None:
        search = study(sampler="random", patience=2, trials=10_000)
        records = search.run()
        assert search.stopped == "no growth of the front in 2 batches"
        assert 17 <= len(records) < 1000 and (len(records) - 1) % 8 == 0
        patient = study(sampler="random", trials=len(records) + 8)
        assert found(patient.run())[: len(records)] == found(records) and str(patient.stopped).endswith("evaluations")

    def test_ctrl_c_keeps_what_was_found(self) -> None:
        evaluator = Clock(toy(4)[0])
        evaluator.error = KeyboardInterrupt
        search = study(evaluator)
        records = search.run()
        assert found(records) == found(study(trials=9).run())
        assert search.stopped == "interrupted"

    def test_ctrl_c_before_anything_was_found_is_let_through(self) -> None:
        evaluator = Clock(toy(4)[0])
        evaluator.error, evaluator.at = KeyboardInterrupt, 1
        with pytest.raises(KeyboardInterrupt):
            study(evaluator).run()

    def test_an_error_keeps_what_was_found(self, caplog: pytest.LogCaptureFixture) -> None:
        class Full(Ledger):
            def add(self, plan: Plan, measurement: Measurement, cost: Cost, violations: object) -> None:
                if len(self) == 5:
                    raise OSError("No space left on device")
                super().add(plan, measurement, cost, {})

        search = study(ledger=Full(toy(4)[0]))
        assert len(search.run()) == 6
        assert search.stopped == "an error: No space left on device"
        assert "No space left on device" in caplog.text

    def test_progress_is_shown_when_asked_for(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rich.console.Console.is_terminal", True)
        study(progress=True, budget=Budget.parse("latency<60%")).run()
        shown = capsys.readouterr()
        assert "30/30" in shown.err and "hypervolume" in shown.err and shown.out == ""
        monkeypatch.undo()
        study(progress=None).run()
        assert capsys.readouterr().err == ""


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.toy import ToyEvaluator, toy
from autocomp.problem.budget import Budget
from autocomp.study.executors import executor
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study

space, _, costs = toy(4)
evaluator = ToyEvaluator(space, sleep={sleep}, log={log!r})
Study(
    space, executor(evaluator), costs, sampler="auto", trials=40, budget=Budget.parse("latency<60%"),
    ledger=Ledger(space, {storage!r}, "toy"),
).run()
"""


class TestResume:
    def test_killed_and_resumed_equals_undisturbed(self, tmp_path: Path) -> None:
        storage, log = tmp_path / "run.db", tmp_path / "log"
        root = str(Path(__file__).parents[2])
        script = SCRIPT.format(root=root, sleep=0.1, log=str(log), storage=str(storage))
        process = subprocess.Popen([sys.executable, "-c", script])
        deadline = time.monotonic() + 60
        while not (log.exists() and len(log.read_text().splitlines()) >= 14):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        started = log.read_text().splitlines()

        space = toy(4)[0]
        settings: dict[str, Any] = {"sampler": "auto", "trials": 40, "budget": Budget.parse("latency<60%")}
        resumed = study(ToyEvaluator(space, log=str(log)), ledger=Ledger(space, storage, "toy"), **settings)
        records = resumed.run()
        assert found(records) == found(study(**settings).run())
        # Whatever was asked for was finished before the next was: at most the last one started is made again.
        assert resumed.reused in (len(started) - 1, len(started))
        assert len(log.read_text().splitlines()) == len(started) + 40 - resumed.reused

    def test_nothing_is_evaluated_twice(self, tmp_path: Path) -> None:
        evaluator, log = counted(tmp_path)
        ledgers = [Ledger(evaluator.space, tmp_path / "run.db", "toy") for _ in range(2)]
        first = found(study(evaluator, ledger=ledgers[0], trials=20).run())
        ledger = Ledger(evaluator.space, tmp_path / "run.db", "toy")
        second = study(evaluator, ledger=ledger, trials=30)
        assert found(second.run())[:20] == first
        assert second.reused == 20 and len(log.read_text().splitlines()) == 30

    def test_another_budget_uses_the_evaluations_again(self, tmp_path: Path) -> None:
        evaluator, _ = counted(tmp_path)
        study(evaluator, ledger=Ledger(evaluator.space, tmp_path / "run.db", "toy"), sampler="uniform").run()
        again = study(
            evaluator,
            ledger=Ledger(evaluator.space, tmp_path / "run.db", "toy", ("macs",)),
            objectives=("macs",),
            budget=Budget.parse("macs<60%"),
            sampler="uniform",
        )
        again.run()
        assert again.reused > 5


def test_ray_equals_serial() -> None:
    settings: dict[str, Any] = {"budget": Budget.parse("latency<60%"), "sampler": "auto"}
    assert found(study(workers=2, **settings).run()) == found(study(**settings).run())


class TestArguments:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"sampler": "annealing"}, "unknown sampler 'annealing'; known: amc, architectures, auto"),
            ({"trials": 0}, "trials must be at least 1, but got trials=0"),
            ({"batch": 0}, "batch must be 'auto' or at least 1"),
            ({"patience": 0}, "patience must be at least 1, but got patience=0"),
            ({"time_limit": 0}, "time_limit must be a number of seconds above 0"),
            ({"objectives": ("speed",)}, r"objectives must be of latency, .* objectives=\('speed',\)"),
            ({"objectives": ()}, "objectives must be of"),
        ],
    )
    def test_wrong_ones_are_named(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            study(**settings)

    def test_a_sampler_of_ones_own(self) -> None:
        class Counting:
            at = 0

            def ask(self, count: int) -> list[np.ndarray]:
                self.at += 1
                return [np.array([self.at % 5, 0, 0, 0, 0, 0, 0, 0])]

            def tell(self, outcomes: Sequence[Outcome]) -> None: ...

        records = study(sampler=Counting(), trials=5).run()
        assert [record.vector[0] for record in records] == [0, 1, 2, 3, 4]


def test_ledger_trials_are_for_optuna_to_read(tmp_path: Path) -> None:
    import optuna

    evaluator, _ = counted(tmp_path)
    search = study(
        evaluator, ledger=Ledger(evaluator.space, tmp_path / "run.db", "toy"), budget=Budget.parse("latency<60%")
    )
    records = search.run()
    stored = optuna.load_study(study_name="autocomp-toy latency size", storage=f"sqlite:///{tmp_path / 'run.db'}")
    assert stored.metric_names == ["accuracy", "latency_ms", "size_mb"]
    for record, trial in zip(records, stored.trials, strict=True):
        assert trial.values == [record.measurement.accuracy, record.cost.latency_ms, record.cost.size_mb]
        assert trial.params["format/l0"] == record.plan.get("format/l0", "float")
        assert trial.constraints == {"latency<60%": pytest.approx(record.violation)}
        assert json.loads(trial.user_attrs["plan"]) == dict(record.plan)
        assert trial.user_attrs["cost"]["latency_ms"] == record.cost.latency_ms
