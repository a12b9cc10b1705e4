"""From a plan to a network that runs: a MindSpore Cell, a MindIR or an ONNX file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from .evaluators import PlanEvaluator
from .front import ExportReport
from .primitives.convert import convert
from .primitives.export import (
    EXACT,
    ROUNDED,
    compare,
    export_format,
    export_mindir,
    run_mindir,
    run_onnx,
    written_whole,
)
from .primitives.onnx_network import Style, onnx_network
from .primitives.platform import forward
from .primitives.realise import Realisation
from .search_spaces import Plan

Arrays = tuple[np.ndarray, ...]


class NetworkDeployer:
    """Carries plans out on copies of the user's network; a :class:`autocomp.front.Deployer`.

    evaluator: says what a plan makes of the network, and has the samples on which files are compared. calibration:
    what it was calibrated on. batch: for which MindIR files are written; ONNX files take any. granularity: the
    device's, with which the space was laid out.
    """

    def __init__(
        self, net: Any, evaluator: PlanEvaluator, calibration: Arrays, batch: int = 1, granularity: int = 1
    ) -> None:
        self._float, self.evaluator, self.calibration = net, evaluator, calibration
        self.batch, self.granularity = batch, granularity

    def net(self, plan: Plan) -> Any:
        """The converted network, in evaluation mode."""
        return convert(self._float, self.evaluator.space.graph, self.evaluator.parameters, self.evaluator.realise(plan))

    def export(self, plan: Plan, path: str | os.PathLike[str]) -> ExportReport:
        """Write, load again, compare, and only then put the file in its place."""
        ending = export_format(path)
        realisation = self.evaluator.realise(plan)
        net = convert(self._float, self.evaluator.space.graph, self.evaluator.parameters, realisation)
        rounded = any(state.activation is not None for state in realisation.layers.values())
        inputs = tuple(np.resize(x, (self.batch, *x.shape[1:])) for x in self.evaluator.inputs)
        with written_whole(path) as draft:
            if ending == ".mindir":
                export_mindir(net, inputs, draft)
            else:
                draft.write_bytes(self._onnx(realisation))
            run = run_mindir if ending == ".mindir" else run_onnx
            error = compare(run, draft, inputs, forward(net, inputs), ROUNDED if rounded else EXACT)
            size = draft.stat().st_size
        return ExportReport(pathlib.Path(path), ending[1:], size / 1e6, error)

    def _onnx(self, realisation: Realisation) -> bytes:
        style = Style(integer_weights=True)
        data: bytes = onnx_network(
            self.evaluator.space.graph, self.evaluator.parameters, realisation, style
        ).SerializeToString()
        return data

    def store(self, folder: pathlib.Path, plans: Iterable[Plan]) -> None:
        """What :func:`autocomp.load` needs to carry plans out again, beside the network itself."""
        from .restore import store

        store(folder, self)
