"""The command lines that bring an exported file onto its device."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import onnx

from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.ascend import ASCEND
from autocomp.hardware_models.runtimes.registry import title_of
from autocomp.results.point import ExportReport

from .file_forms import QAT, SIMULATED

ONNX_FRAMEWORK = 5  # as atc numbers frameworks
UNKNOWN_CHIP = "<the chip's name as npu-smi info shows it, behind Ascend>"


def commands(report: ExportReport, device: Device | None) -> tuple[str, ...]:
    """For a shell on a machine with the device's tools; none where the file needs no conversion."""
    if device is None or report.format != "onnx" or report.form == SIMULATED:
        return ()
    if device.runtime is ASCEND:
        return _ascend(report, device)
    stem, title = report.path.with_suffix(""), title_of(device.data)
    if title == "tensorrt":
        integers = " --int8" * bool(report.form)  # of a float model trtexec would invent the scales
        return (_line("trtexec", onnx=report.path, saveEngine=f"{stem}.engine") + f"{integers} --fp16",)
    if title == "lite":
        return (_line("converter_lite", fmk="ONNX", modelFile=report.path, outputFile=stem),)
    return ()


def _ascend(report: ExportReport, device: Device) -> tuple[str, ...]:
    model, stem = report.path, report.path.with_suffix("")
    before: tuple[str, ...] = ()
    if report.form == QAT:
        before = (_line("amct_onnx convert", model=model, save_path=stem),)
        model = Path(f"{stem}_deploy_model.onnx")
    atc = _line(
        "atc", model=model, framework=ONNX_FRAMEWORK, output=stem, input_shape=input_shapes(report.path),
        soc_version=soc_version(device), precision_mode="force_fp16",
    )  # fmt: skip
    return (*before, atc)


def _line(tool: str, **options: object) -> str:
    return " ".join([tool, *(f"--{name}={shlex.quote(str(value))}" for name, value in options.items())])


def input_shapes(path: Path) -> str:
    """``x:1,3,224,224;mask:1,12``, as atc takes it."""
    graph = onnx.load(path, load_external_data=False).graph
    return ";".join(
        f"{value.name}:{','.join(str(size.dim_value) for size in value.type.tensor_type.shape.dim)}"
        for value in graph.input
    )


def soc_version(device: Device) -> str:
    """atc's name of the chip: Ascend310P3 for ascend-310p3; a placeholder for a device of another name."""
    name = device.name.partition(":")[0]
    match = re.fullmatch(r"ascend-(310[a-z]?\d?|910(?:a|b\d?))", name)
    return UNKNOWN_CHIP if match is None else f"Ascend{match[1].upper()}"
