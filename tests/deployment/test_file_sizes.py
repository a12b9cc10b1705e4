"""The size of a file against the prediction for files of its form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autocomp.deployment.file_sizes import FileSizes
from autocomp.hardware_models import device
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan
from tests.conftest import Subject


@pytest.mark.parametrize(("name", "form"), [("ascend", "mindir"), ("ascend-910b1", "mindir"), ("gpu", "onnx")])
def test_costs_are_predicted_for_the_devices_own_form(
    name: str, form: str, named_subject: Callable[[str], Subject]
) -> None:
    subject, chip = named_subject("residual"), device(name)
    sizes, (plan,) = FileSizes(chip, subject.space), subject.plans(1)
    assert sizes.form == form
    cost = chip.costs(subject.space.workload(subject.space.encode(plan)[None]))[0]
    assert sizes.predicted_mb(plan, form) == pytest.approx(cost.size_mb)


@pytest.mark.parametrize("name", ["ascend", "gpu"])
def test_the_two_forms_differ_in_what_they_add_to_the_weights(
    name: str, named_subject: Callable[[str], Subject]
) -> None:
    subject = named_subject("residual")
    sizes = FileSizes(device(name), subject.space, batch=4)
    weights = 4 * sum(parameter.size for parameter in subject.parameters.values()) / 1e6
    predicted = {form: sizes.predicted_mb(Plan(), form) for form in ("mindir", "onnx")}
    assert predicted["mindir"] != predicted["onnx"]
    assert all(0.9 * weights < value < 1.5 * weights for value in predicted.values())


def test_a_report_says_which_prediction_is_its_own(named_subject: Callable[[str], Subject]) -> None:
    sizes = FileSizes(device("gpu"), named_subject("residual").space)
    for form in ("mindir", "onnx"):
        report = sizes.with_prediction(Plan(), ExportReport(Path(f"a.{form}"), form, 0.3, 0.0))
        assert report.predicted_mb == sizes.predicted_mb(Plan(), form)
        assert report.of_cost == (form == "onnx")
