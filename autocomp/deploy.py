"""From a plan to a network that runs: a MindSpore Cell, a MindIR or an ONNX file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

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
from .primitives.realise import Parameters, Realisation
from .search_spaces import Plan, SearchSpace

Arrays = tuple[np.ndarray, ...]


class NetworkDeployer:
    """Carries plans out on copies of the user's network; a :class:`autocomp.front.Deployer`.

    realise: a plan in numbers. samples: inputs on which exported files are compared. batch: for which MindIR files
    are written; ONNX files take any.
    """

    def __init__(
        self,
        net: Any,
        space: SearchSpace,
        parameters: Parameters,
        realise: Callable[[Plan], Realisation],
        samples: Arrays,
        batch: int = 1,
    ) -> None:
        self._float, self.space, self.parameters, self.realise = net, space, parameters, realise
        self.samples, self.batch = samples, batch

    def net(self, plan: Plan) -> Any:
        """The converted network, in evaluation mode."""
        return convert(self._float, self.space.graph, self.parameters, self.realise(plan))

    def export(self, plan: Plan, path: str | os.PathLike[str]) -> ExportReport:
        """Write, load again, compare, and only then put the file in its place."""
        ending = export_format(path)
        realisation = self.realise(plan)
        net = convert(self._float, self.space.graph, self.parameters, realisation)
        rounded = any(state.activation is not None for state in realisation.layers.values())
        inputs = tuple(np.resize(x, (self.batch, *x.shape[1:])) for x in self.samples)
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
        data: bytes = onnx_network(self.space.graph, self.parameters, realisation, style).SerializeToString()
        return data

    def store(self, folder: pathlib.Path, plans: Iterable[Plan]) -> None:
        """What :func:`autocomp.load` needs to carry these plans out again, beside the network itself."""
        from .restore import store

        store(folder, self, plans)
