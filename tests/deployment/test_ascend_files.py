"""Files that a point is exported to on a device under atc, MindSpore, Lite or TensorRT, and the commands for them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import autocomp
from autocomp.deployment.commands import commands, soc_version
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.deployment.mindspore_files import integer_operators
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error, run_onnx
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan
from tests.conftest import Subject

BATCH = 4


@pytest.fixture
def subject(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def deployer_of(subject: Subject, name: str) -> NetworkDeployer:
    sizes = FileSizes(device(name), subject.space, BATCH)
    return NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4), BATCH, sizes=sizes)


def in_format(subject: Subject, text: str) -> Plan:
    return Plan({f"format/{layer}": text for layer in subject.graph.layers})


def kinds(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def options(line: str) -> dict[str, str]:
    return dict(part.removeprefix("--").split("=", 1) for part in shlex.split(line) if part.startswith("--"))


def test_a_device_under_atc_gets_the_form_that_atc_compiles(subject: Subject, tmp_path: Path) -> None:
    report = deployer_of(subject, "ascend-310p3").export(in_format(subject, "w8a8"), tmp_path / "net.onnx")
    assert {"AscendQuant", "AscendDequant"} < kinds(report.path) and report.form == "deployable"
    assert autocomp.validate_ascend(report.path).valid and report.kind == "onnx"
    assert "(deployable)" in str(report) and report.commands[0] in str(report)


@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w8", "w4"])
def test_the_size_of_a_file_for_atc_is_predicted(subject: Subject, tmp_path: Path, text: str) -> None:
    """4-bit weights have a byte there."""
    report = deployer_of(subject, "ascend-310p3").export(in_format(subject, text), tmp_path / "net.onnx")
    assert report.predicted_mb == pytest.approx(report.size_mb, rel=0.02)


def test_the_command_line_for_atc_is_complete(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "a folder, 文件+x=1" / "net.onnx"
    report = deployer_of(subject, "ascend-310p3").export(in_format(subject, "w8a8"), path)
    (line,) = report.commands
    assert line.startswith("atc ") and options(line) == {
        "model": str(path),
        "framework": "5",
        "output": str(path.with_suffix("")),
        "input_shape": "x:4,3,12,12",
        "soc_version": "Ascend310P3",
        "precision_mode": "force_fp16",
    }


def test_the_toolkits_form_is_asked_for_and_stands_beside_the_other(subject: Subject, tmp_path: Path) -> None:
    report = deployer_of(subject, "ascend-310p3").export(in_format(subject, "w8a8"), tmp_path / "net.qat.onnx", "qat")
    assert (report.form, report.kind) == ("qat", "onnx, qat")
    assert {"QuantizeLinear", "DequantizeLinear"} < kinds(report.path)
    convert, atc = report.commands
    assert convert.startswith("amct_onnx convert ")
    assert options(convert) == {"model": str(report.path), "save_path": str(tmp_path / "net.qat")}
    assert options(atc)["model"] == f"{tmp_path / 'net.qat'}_deploy_model.onnx"
    assert autocomp.validate_ascend(report.path).form == "training"


def test_a_simulated_file_takes_any_batch_and_has_no_command(subject: Subject, tmp_path: Path) -> None:
    plan = in_format(subject, "w8a8")
    report = deployer_of(subject, "ascend-310p3").export(plan, tmp_path / "net.onnx", "simulated")
    assert (report.form, report.commands) == ("simulated", ())
    assert len(run_onnx(report.path, (subject.x[:7],))[0]) == 7


def test_a_mindir_file_for_a_device_under_atc_says_that_it_is_simulated(subject: Subject, tmp_path: Path) -> None:
    deployer = deployer_of(subject, "ascend-310p3")
    assert deployer.export(in_format(subject, "w8a8"), tmp_path / "a.mindir").form == "simulated"
    assert deployer.export(in_format(subject, "w8"), tmp_path / "b.mindir").form == ""


def test_a_file_for_atc_can_be_run_here(subject: Subject, tmp_path: Path) -> None:
    deployer, plan = deployer_of(subject, "ascend-310p3"), in_format(subject, "w8a8")
    deployer.export(plan, tmp_path / "net.onnx")
    network = autocomp.load_deployed(tmp_path / "net.onnx")
    assert network.inputs[0].shape == (BATCH, 3, 12, 12)
    simulated = deployer.export(plan, tmp_path / "simulated.onnx", "simulated")
    x = subject.x[:BATCH]
    assert norm_error(network.run(x)[0], run_onnx(simulated.path, (x,))[0]) < 0.02


@pytest.mark.parametrize(("name", "ending"), [("gpu", "onnx"), ("ascend:mindspore", "onnx"), ("ascend", "mindir")])
def test_the_toolkits_form_is_for_onnx_files_under_atc(
    subject: Subject, tmp_path: Path, name: str, ending: str
) -> None:
    with pytest.raises(ValueError, match=r"^form='qat' is an \.onnx file for a device under atc, but got"):
        deployer_of(subject, name).export(Plan(), tmp_path / f"net.{ending}", "qat")
    assert not list(tmp_path.iterdir())


def test_a_device_of_floats_gets_a_float_file_with_static_shapes(subject: Subject, tmp_path: Path) -> None:
    """MindSpore Lite's converter takes no dynamic shape."""
    report = deployer_of(subject, "cpu:lite").export(Plan(), tmp_path / "net.onnx")
    sizes = [size.dim_value for size in onnx.load(report.path).graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [BATCH, 3, 12, 12] and report.form == ""
    (line,) = report.commands
    assert line.startswith("converter_lite ") and options(line)["outputFile"] == str(tmp_path / "net")


def test_tensorrt_and_this_processor_have_their_own_commands(tmp_path: Path) -> None:
    report = ExportReport(tmp_path / "net.onnx", "onnx", 0.3, 0.0)
    begin = f"trtexec --onnx={tmp_path}/net.onnx --saveEngine={tmp_path}/net.engine"
    assert commands(report, device("gpu")) == (f"{begin} --fp16",)  # it would invent scales for a file of floats
    assert commands(replace(report, form="deployable"), device("gpu")) == (f"{begin} --int8 --fp16",)
    assert commands(report, device("cpu")) == commands(report, None) == ()


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("ascend-310", "Ascend310"),
        ("ascend-310p3", "Ascend310P3"),
        ("ascend-310b1", "Ascend310B1"),
        ("ascend-910a", "Ascend910A"),
        ("ascend-910b4", "Ascend910B4"),
    ],
)
def test_atc_is_told_the_chip(name: str, chip: str) -> None:
    assert soc_version(device(name)) == chip


def test_a_chip_whose_name_atc_does_not_know_is_left_to_the_user() -> None:
    assert "npu-smi info" in soc_version(device("ascend-910c"))


def test_outputs_of_every_sample_are_compared(subject: Subject, tmp_path: Path) -> None:
    report = deployer_of(subject, "ascend-310p3").export(in_format(subject, "w8a8"), tmp_path / "net.onnx")
    assert 0 < report.max_relative_error < 0.02
    assert np.isfinite(report.max_relative_error)


@pytest.mark.parametrize("text", ["w8a8", "w4a8"])
def test_mindspore_on_an_ascend_gets_its_dense_layers_in_integers(
    named_subject: Callable[[str], Subject], tmp_path: Path, text: str
) -> None:
    """Convolutions have no operator in integers in MindSpore: the mixed form, as the cost model credits it."""
    subject, chip = named_subject("concatenating"), device("ascend:mindspore")
    dense = [layer for layer, i in subject.graph.layers.items() if subject.graph.nodes[i].kind == "dense"]
    able = [
        layer for layer, i in subject.graph.layers.items() if chip.runtime.multiplies_integers(subject.graph.nodes[i])
    ]
    plan = Plan({f"format/{layer}": text for layer in dense})
    report = deployer_of(subject, "ascend:mindspore").export(plan, tmp_path / "net.mindir")
    assert report.form == "deployable" and report.max_relative_error < 1e-3
    assert integer_operators(report.path) == len(dense) == len(able) == 2


@pytest.mark.parametrize("text", ["w8", "w4"])
def test_mindspore_reads_weights_of_dense_layers_as_they_are_stored(
    named_subject: Callable[[str], Subject], tmp_path: Path, text: str
) -> None:
    """The chip has a kernel for 8 and for 4 bits; the other layers are as everywhere."""
    subject = named_subject("concatenating")
    dense = [layer for layer, i in subject.graph.layers.items() if subject.graph.nodes[i].kind == "dense"]
    report = deployer_of(subject, "ascend-910b1:mindspore").export(in_format(subject, text), tmp_path / "net.mindir")
    assert report.form == "deployable" and report.max_relative_error < 1e-4
    assert report.size_mb == pytest.approx(report.predicted_mb, rel=0.05)  # of 14 KB, most of which are names
    assert integer_operators(report.path) == len(dense) == 2


def test_without_dense_layers_in_integers_and_on_request_a_mindir_file_is_as_everywhere(
    named_subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    subject = named_subject("concatenating")
    deployer = deployer_of(subject, "ascend:mindspore")
    assert integer_operators(deployer.export(in_format(subject, "w4"), tmp_path / "a.mindir").path) == 0
    report = deployer.export(in_format(subject, "w8a8"), tmp_path / "b.mindir", "simulated")
    assert report.form == "simulated" and integer_operators(report.path) == 0
