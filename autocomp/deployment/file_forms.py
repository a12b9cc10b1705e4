"""Which form a file gets: the one that the device's runtime takes, or another one that the user asks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from autocomp.errors import ExportError
from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.ascend import ASCEND
from autocomp.hardware_models.runtimes.lite import LITE_FLOATS
from autocomp.hardware_models.runtimes.registry import title_of
from autocomp.primitives.export.ascend.checking import checked_model
from autocomp.primitives.export.ascend.deployable import QUANT, deployable_model
from autocomp.primitives.export.ascend.integer_form import in_standard_operators
from autocomp.primitives.export.ascend.training_form import training_model
from autocomp.primitives.export.files import ROUNDED, compare, export_format, run_onnx, written_whole
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.results.point import ExportReport
from autocomp.search_spaces import NetworkGraph

Arrays = tuple[np.ndarray, ...]
Model = Callable[[NetworkGraph, Parameters, CompressedWeights, int], onnx.ModelProto]
DEPLOYABLE, QAT, SIMULATED = "deployable", "qat", "simulated"


@dataclass(frozen=True)
class AscendFile:
    """A file for an Ascend. form: its name for users. model: writes it, for one batch."""

    form: str
    model: Model

    def write(
        self, graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, inputs: Arrays,
        path: str | os.PathLike[str], evaluated: Callable[[Arrays], Arrays], tolerance: float,
    ) -> ExportReport:  # fmt: skip
        """Write the file, check it against the documented rules, and compare what it computes.

        evaluated: the network in memory.
        """
        model = self.model(graph, parameters, compressed, len(inputs[0]))
        check = checked_model(model, Path(path))
        if not check.valid:
            raise ExportError(f"the file would break a rule of Ascend's tools: {check.problems[0]}")
        again = evaluated if tolerance == ROUNDED else None
        with written_whole(path) as draft:
            draft.write_bytes(model.SerializeToString())
            error = compare(run_ascend, draft, inputs, evaluated(inputs), tolerance, again)
            size = draft.stat().st_size
        return ExportReport(Path(path), "onnx", size / 1e6, error, form=self.form if check.layers else "")


ASCEND_FILES = {DEPLOYABLE: AscendFile(DEPLOYABLE, deployable_model), QAT: AscendFile(QAT, training_model)}


def run_ascend(path: Path, inputs: Arrays) -> Arrays:
    """The outputs of a file for an Ascend, evaluated by onnxruntime in the same integers."""
    return run_onnx(in_standard_operators(onnx.load(path)).SerializeToString(), inputs)


def runnable(file: Path) -> str | bytes:
    """What onnxruntime runs of an ONNX file: the file, or what a file for an Ascend computes."""
    data = file.read_bytes()
    if QUANT.encode() not in data:
        return str(file)
    translated: bytes = in_standard_operators(onnx.load_from_string(data)).SerializeToString()
    return translated


def file_form(device: Device | None, path: str | os.PathLike[str], form: str | None) -> AscendFile | None:
    """The form of a file that ``deploy.export`` does not write; None where it does. MindSpore Lite's converter takes
    what atc takes, in floats: an early opset, and static shapes.

    device: that the network was searched for, None where it is not known. ValueError where the form does not fit.
    """
    ending = export_format(path)
    atc = device is not None and device.runtime is ASCEND
    if form == QAT and (not atc or ending != ".onnx"):
        runtime = "no known device" if device is None else f"{device.name} ({title_of(device.data)})"
        raise ValueError(f"form='qat' is an .onnx file for a device under atc, but got {ending} for {runtime}")
    floats = device is not None and device.runtime is LITE_FLOATS
    if ending != ".onnx" or form == SIMULATED or not (atc or floats):
        return None
    return ASCEND_FILES[form or DEPLOYABLE]


def form_written(device: Device | None, ending: str, in_integers: bool) -> str:
    """What ``deploy.export`` writes: the form that the device's runtime takes, or a simulation with MindSpore's or
    ONNX's own operators, which any computer runs.

    in_integers: whether the plan rounds inputs of layers.
    """
    if not in_integers:
        return ""
    takes = device is not None and ending == ".onnx" and ending[1:] in device.runtime.reads
    return DEPLOYABLE if takes and device is not None and device.runtime is not ASCEND else SIMULATED
