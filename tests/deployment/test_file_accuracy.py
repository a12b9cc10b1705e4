"""The accuracy of a written ONNX file beside the reported one."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_accuracy import FileAccuracy
from autocomp.evaluators.user_metric import UserMetric
from autocomp.primitives.choices import Choices
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan
from tests.conftest import Subject
from tests.fronts import front


def test_a_file_has_the_accuracy_that_its_plan_was_evaluated_with(
    named_subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject = named_subject("residual")
    deployer = NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4))
    for i, plan in enumerate([Plan(), *subject.plans(2)]):
        report = deployer.export(plan, tmp_path / f"{i}.onnx")
        reported = subject.evaluator.evaluate(plan)
        assert report.samples == reported.samples == 64
        assert report.accuracy == pytest.approx(reported.accuracy, abs=1 / 64)
    assert deployer.export(Plan(), tmp_path / "unchecked.onnx", check_accuracy=False).accuracy is None
    few = NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4), evaluates=False)
    assert few.export(Plan(), tmp_path / "few.onnx").accuracy is None


def test_the_file_is_judged_and_not_the_network(named_subject: Callable[[str], Subject], tmp_path: Path) -> None:
    """By a metric that tells files of different plans apart."""
    subject = named_subject("residual")
    judge = copy.copy(subject.evaluator)
    judge.measure = UserMetric(lambda outputs, labels: float(np.abs(np.tanh(outputs)).mean()))
    deployer = NetworkDeployer(subject.net, judge, (subject.x,), Choices((), 4))
    plans = [Plan(), *subject.plans(3)]
    found = [deployer.export(plan, tmp_path / f"{i}.onnx").accuracy for i, plan in enumerate(plans)]
    assert len(set(found)) == len(plans)
    np.testing.assert_allclose(np.array(found, float), [judge.evaluate(plan).accuracy for plan in plans], atol=5e-3)
    report = deployer.export(Plan(), tmp_path / "0.onnx", check_accuracy=False)
    other = dataclasses.replace(report, path=tmp_path / "1.onnx")
    assert FileAccuracy(judge).beside_reported(other).accuracy == found[1] != found[0]


class Recorded:
    """A deployer whose files have this accuracy."""

    def __init__(self, accuracy: float, samples: int) -> None:
        self.accuracy, self.samples = accuracy, samples

    def export(
        self, plan: Plan, path: str | Path, form: str | None = None, check_accuracy: bool = True
    ) -> ExportReport:
        report = ExportReport(Path(path), "onnx", 0.25, 1e-7)
        found = ExportReport(Path(path), "onnx", 0.25, 1e-7, accuracy=self.accuracy, samples=self.samples)
        return found if check_accuracy else report

    def layers(self, plans: Iterable[Plan]) -> None:
        return None


@pytest.mark.parametrize(
    ("accuracy", "samples", "warns"), [(0.8805, 2000, False), (0.871, 2000, True), (0.871, 99, False)]
)
def test_a_difference_beyond_a_fifth_of_a_point_is_a_warning_with_both_figures(
    accuracy: float, samples: int, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    result = front([(0.88, 0.5, 0.3)], deployer=Recorded(accuracy, samples))
    point = next(point for point in result if not point.is_float)
    with caplog.at_level(logging.WARNING, "autocomp"):
        report = point.export("net.onnx")
    said = [record.getMessage() for record in caplog.records]
    wanted = "net.onnx has the accuracy 87.1 %, but the plan was measured with 88.0 % on the same 2000 samples"
    assert said == ([wanted] if warns else [])
    assert point.measured["accuracy"] == accuracy and f"accuracy {100 * accuracy:.1f} % measured" in str(report)


def test_a_file_is_compared_with_what_was_measured_not_with_what_other_samples_are_expected_to_give(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = front([(0.88, 0.5, 0.3)], deployer=Recorded(0.88, 2000))
    point = replace(next(point for point in result if not point.is_float), accuracy=0.87, observed=0.88)
    with caplog.at_level(logging.WARNING, "autocomp"):
        point.export("net.onnx")
    assert not caplog.records


def test_the_table_shows_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    result = front([(0.88, 0.5, 0.3), (0.8, 0.4, 0.2)], deployer=Recorded(0.871, 2000))
    point = next(point for point in result if point.accuracy == 0.88)
    point.export("net.onnx", check_accuracy=False)
    assert "of the .onnx file, run by onnxruntime" not in " ".join(str(result).split())
    point.export("net.onnx")
    row = next(line.split() for line in str(result).splitlines() if "87.1" in line)
    assert row[row.index("88.0") + 1] == "87.1"
    assert "accuracy of the .onnx file, run by onnxruntime" in " ".join(str(result).split())
