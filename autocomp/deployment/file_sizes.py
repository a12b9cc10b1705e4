"""Holds the size of a written file against the one predicted for files of its own form."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autocomp.hardware_models import Device
from autocomp.results.point import ExportReport
from autocomp.search_spaces import Plan, SearchSpace

MINDIR = "mindir"  # the form for which sizes are predicted, unless the device's file names another one


@dataclass(frozen=True)
class FileSizes:
    """Predicts the size of a plan's file as MindIR and as ONNX; costs are predicted for one of the two alone."""

    device: Device
    space: SearchSpace
    batch: int = 1

    @property
    def form(self) -> str:
        """Of the files that ``Cost.size_mb`` is predicted for."""
        return str(self.device.data.get("container", MINDIR))

    def predicted_mb(self, plan: Plan, form: str) -> float:
        chip = replace(self.device, data={**self.device.data, "container": form})
        workload = self.space.workload(self.space.encode(plan)[None], self.batch)
        return float(chip.costs(workload).size_mb[0])

    def with_prediction(self, plan: Plan, report: ExportReport) -> ExportReport:
        """The report with the prediction for a file of its form."""
        predicted = self.predicted_mb(plan, report.format)
        return replace(report, predicted_mb=predicted, of_cost=report.format == self.form)
