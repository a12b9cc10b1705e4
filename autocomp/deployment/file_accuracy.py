"""The accuracy of a written file, on the samples that the search evaluated plans on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.engines import batch_of, joined
from autocomp.process.counting_bar import counted
from autocomp.results.point import ExportReport

from .deployed import load_deployed

BATCH = 32  # most samples at once


@dataclass(frozen=True)
class FileAccuracy:
    """Runs ONNX files in onnxruntime, as :func:`autocomp.load_deployed` does.

    progress: whether a bar is shown; None shows it where standard error is a terminal.
    """

    evaluator: PlanEvaluator
    progress: bool | None = None

    def beside_reported(self, report: ExportReport) -> ExportReport:
        """The report with the file's accuracy; unchanged without labels, and for a form that onnxruntime does not
        read."""
        if report.format != "onnx" or self.evaluator.labels is None:
            return report
        samples, scale = len(self.evaluator.inputs[0]), self.evaluator.scale
        return replace(report, accuracy=self._accuracy(report), samples=samples, scale=scale)

    def _accuracy(self, report: ExportReport) -> float:
        known, network = self.evaluator, load_deployed(report.path)
        size = fixed_batch(report.path) or min(BATCH, batch_of(known.space.graph))
        count = len(known.inputs[0])
        parts: list[tuple[np.ndarray, ...]] = []
        for start in counted(range(0, count, size), f"accuracy of {report.path.name}", self.progress):
            parts.append(network.run(*(_filled(array[start : start + size], size) for array in known.inputs)))
        outputs = known.engine.described_outputs
        found = zip(outputs, joined(outputs, parts), strict=True)
        return known.accuracy_of(tuple(output.rows(array, np.arange(count)) for output, array in found))


def _filled(batch: np.ndarray, size: int) -> np.ndarray:
    """The last batch filled up with samples, since a file may take one size alone."""
    return batch if len(batch) == size else np.resize(batch, (size, *batch.shape[1:]))


def fixed_batch(path: Path) -> int:
    """The batch that the file's first input has; 0 where it takes any."""
    model = onnx.load(path, load_external_data=False)
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    return int(dimensions[0].dim_value) if dimensions else 0
