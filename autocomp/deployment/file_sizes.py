"""Sets what is measured of a written file beside what was predicted: its size, and on this machine its latency."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.onnxruntime import ONNXRUNTIME
from autocomp.measurement.processor import threads_of
from autocomp.measurement.profiling import typical_ms
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan, SearchSpace

from .commands import commands
from .file_forms import QAT, SIMULATED

SECONDS = 0.3  # of measuring a file
ATC = "atc"


@dataclass(frozen=True)
class FileSizes:
    """Predicts the size of a plan's file as MindIR and as ONNX; costs are predicted for one of the two alone."""

    device: Device
    space: SearchSpace
    batch: int = 1

    def predicted_mb(self, plan: Plan, form: str) -> float:
        """form: "mindir", "onnx", "atc", ONNX with AscendQuant and AscendDequant, or "qat", for atc's toolkit."""
        chip = replace(self.device, data={**self.device.data, "container": form})
        workload = self.space.workload(self.space.encode(plan)[None], self.batch)
        return float(chip.costs(workload).size_mb[0])

    def _of_file(self, plan: Plan, report: ExportReport) -> float:
        """Predicted for the form that the file has."""
        return self.predicted_mb(plan, self.container(report))

    def container(self, report: ExportReport) -> str:
        """The name of the form that the file has, as :meth:`predicted_mb` takes it."""
        if report.form == QAT:
            return QAT
        atc = self.device.runtime.container == ATC and report.form != SIMULATED
        return ATC if atc and report.format == "onnx" else report.format

    def measured_ms(self, report: ExportReport, inputs: tuple[np.ndarray, ...]) -> float | None:
        """Milliseconds of an inference; None where the device is not this machine's processor, measured.

        inputs: arrays of the deployment's batch.
        """
        threads = threads_of(self.device.name)
        if threads is None or self.device.runtime is not ONNXRUNTIME or report.format != "onnx":
            return None
        return typical_ms(report.path.read_bytes(), inputs, threads, SECONDS)

    def beside_measured(self, plan: Plan, report: ExportReport, inputs: tuple[np.ndarray, ...]) -> ExportReport:
        """The report with the prediction for a file of its form, and its latency where it can be measured."""
        predicted = self._of_file(plan, report)
        of_cost = self.container(report) == self.device.form
        latency = self.measured_ms(report, inputs)
        lines = commands(report, self.device)
        return replace(report, predicted_mb=predicted, of_cost=of_cost, latency_ms=latency, commands=lines)
