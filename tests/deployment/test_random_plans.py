"""Random plans: every form is written, loaded again and agrees, and has the size that was predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from tests.conftest import Subject

NAMES = 0.0025  # MB, of names and shapes, which these networks of 10 to 30 KB have much of


@pytest.mark.parametrize("name", ["residual", "concatenating", "depthwise"])
def test_files_of_random_plans_agree_and_have_the_predicted_size(
    name: str, named_subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject = named_subject(name)
    sizes = FileSizes(device("ascend"), subject.space)
    deployer = NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4), sizes=sizes)
    plans = subject.plans(4, seed=11)
    files = [*((plan, "onnx") for plan in plans), (plans[0], "mindir"), (plans[1], "safetensors")]
    for i, (plan, form) in enumerate(files):
        report = deployer.export(plan, tmp_path / f"{i}.{form}")
        assert report.path.stat().st_size == round(1e6 * report.size_mb)
        if form == "safetensors":
            assert report.max_relative_error == 0
        else:
            assert report.size_mb == pytest.approx(report.predicted_mb, abs=NAMES)
        if form == "onnx":
            assert report.accuracy == pytest.approx(subject.evaluator.evaluate(plan).accuracy, abs=1 / 64)
