"""The limit of an evaluation in this process, the end of the process, and the callback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.evaluators import Measurement
from autocomp.search_spaces import NetworkGraph, Node, Plan, SearchSpace
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.limits import usual_limit
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

ROOT = Path(__file__).resolve().parents[2]
SPACE = toy_space(4)
PLANS = [SPACE.decode((i % 5, i % 4, i % 3, 1, 0, 0, 0, 0)) for i in range(12)]


class Hanging(ToyEvaluator):
    """Hangs for one plan."""

    def evaluate(self, plan: Plan) -> Measurement:
        if plan == PLANS[3]:
            time.sleep(1000)
        return super().evaluate(plan)


def hanging(at_once: int) -> InProcess:
    evaluator = Hanging(SPACE)
    evaluator.at_once = at_once  # type: ignore[attr-defined]
    return InProcess(evaluator)


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_plan_that_hangs_costs_its_limit_and_no_more(at_once: int) -> None:
    running = hanging(at_once)
    running.evaluation_limit = 0.5
    found = dict(running.map(PLANS))
    said = f"plan {PLANS[3]} could not be evaluated: it took longer than the limit of 0.5 s"
    assert str(found.pop(3)) == said
    assert found == {i: ToyEvaluator(SPACE).evaluate(plan) for i, plan in enumerate(PLANS) if i != 3}


def study(**settings: Any) -> Study:
    given: dict[str, Any] = {"sampler": "nsga2", "trials": 12} | settings
    return Study(SPACE, InProcess(ToyEvaluator(SPACE)), partial(toy_costs, SPACE), **given)


def test_the_usual_limit_follows_from_the_float_network(monkeypatch: pytest.MonkeyPatch) -> None:
    found = study()
    monkeypatch.setattr(ToyEvaluator, "evaluate", lambda *_: Measurement(0.5, samples=9, seconds=3.0))
    found.run()
    assert found.executor.evaluation_limit == 120
    given = study(evaluation_limit=7)
    given.run()
    assert given.executor.evaluation_limit == 7


def test_a_large_network_has_more_time_to_round_its_weights() -> None:
    layer = Node("conv", "conv", "Conv2D", (), (1, 512, 7, 7), weight_shape=(512, 512, 3, 3))
    space = SearchSpace(NetworkGraph((layer, layer), (1,)), ())
    assert usual_limit(space, 1.0) == pytest.approx(80 + 2 * 512 * 512 * 9 * 30e-6)


def test_each_measurement_is_reported_and_an_error_in_the_report_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Measurement] = []

    def report(measurement: Measurement) -> None:
        seen.append(measurement)
        raise KeyError("mine")

    found = study(on_evaluation=report)
    assert [record.measurement for record in found.run()] == seen and len(seen) == 12
    assert "on_evaluation raised KeyError: 'mine'" in caplog.text


class Wide(InProcess):
    """Seems to have so many workers."""

    wanted = 20

    @property
    def width(self) -> int:
        return self.wanted


@pytest.mark.parametrize(("wanted", "batch"), [(1, 8), (8, 8), (9, 16), (20, 24), (1000, 1000)])
def test_the_batch_follows_from_the_workers_wanted(wanted: int, batch: int) -> None:
    found = study(batch="auto", trials=1)
    found.executor = Wide(ToyEvaluator(SPACE))
    found.executor.wanted = wanted
    found.run()
    assert found.batch == batch


def test_the_same_search_keeps_its_batch_with_other_workers(tmp_path: Path) -> None:
    def found(executor: InProcess) -> tuple[int, list[Plan]]:
        running = study(batch="auto", trials=40, ledger=Ledger(SPACE, tmp_path / "run.db", "toy"))
        running.executor = executor
        running.run()
        return running.batch, [record.plan for record in running.records]

    first = found(Wide(ToyEvaluator(SPACE)))
    assert first[0] == 24 and found(InProcess(ToyEvaluator(SPACE))) == first


def main() -> None:
    """What test below runs in a process of its own: one plan hangs in a thread when Ctrl-C comes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in hanging(3).map(PLANS):
            sys.stdout.write("found\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write("interrupted\n")


def test_the_first_ctrl_c_ends_the_process_though_a_plan_hangs() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.study.test_limits"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(len(PLANS) - 1):
        assert process.stdout.readline() == "found\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == "interrupted\n" and process.returncode == 0


if __name__ == "__main__":
    main()
