"""Quantizers that first move scales between layers' inputs and their weights; in float nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.layer_pass import DividedInput, ScaledLayer, visit_layers
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.scale_takers import SharedInput, scaled_parameters, shared_inputs
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph, Plan

from .layerwise import LayerwiseRounding
from .trained_quantization import CALIBRATED

ROWS = 256  # of a tensor, on which scales are compared
INSIDE = ".1"  # of a ScaledLayer: the layer


class ScaledQuantization(LayerwiseRounding):
    """Subclasses choose the scales of a tensor's channels."""

    exponents: dict[str, float]  # of each layer, after ``equivalent`` or ``apply``

    def scales(self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
        """The scales, (in,), and the exponent that gave them.

        weights: (out, in) of the layers that read the tensor x, (n, in); rows: some of x's.
        """
        raise NotImplementedError

    @checked(RULES["equivalent"])
    def equivalent(self, net: Any, inputs: Any = None, calibrate: Any = None) -> Any:
        """A new Cell of the network's own class that computes the same in float, with the scales moved.

        Where a LayerNorm, RMSNorm or dense layer before the tensor can take its scale, only parameters change.
        Elsewhere a product is put in front of the layer. ``exponents`` then has the chosen exponent of each layer.

        Raises:
            TypeError: net is no Cell. ValueError: there are no samples. NoEffectError: it has no nn.Dense that runs
            once.
        """
        net = as_float32(net)
        need_samples(self.name, calibrate, "equivalent")
        arrays = calibrate if isinstance(calibrate, tuple) else (calibrate,)
        graph = trace(net, inputs_for(net, arrays if inputs is None else inputs))
        twin = copy_network(net)
        found = self._found(twin, graph, tuple(array[:CALIBRATED] for array in arrays))
        return _moved(net, graph, found).set_train(net.training)

    def _found(self, net: Any, graph: NetworkGraph, arrays: tuple[np.ndarray, ...]) -> dict[SharedInput, np.ndarray]:
        """net: a copy of the float network, in which one layer after the other is seen."""
        firsts = {shared.layers[0]: shared for shared in shared_inputs(graph)}
        if not firsts:
            raise NoEffectError(f"{self.name} found no nn.Dense that runs once, whose input it could scale")
        found: dict[SharedInput, np.ndarray] = {}
        self.exponents = {}
        cells = {layer: cell_at(net, layer) for shared in firsts.values() for layer in shared.layers}

        def visit(path: str, values: np.ndarray) -> None:
            shared = firsts[path]
            x = values.reshape(-1, shared.width)
            rows = x[np.linspace(0, len(x) - 1, min(ROWS, len(x))).astype(np.int64)]
            weights = [cells[layer].weight.asnumpy() for layer in shared.layers]
            found[shared], exponent = self.scales(weights, rows, x)
            self.exponents |= dict.fromkeys(shared.layers, exponent)

        visit_layers(net, {path: cells[path] for path in firsts}, arrays, visit)
        return found

    @checked(RULES["apply"])
    def apply(
        self, net: Any, inputs: Any = None, calibrate: Any = None, plan: Plan | Mapping[str, Any] | None = None
    ) -> Any:
        """A new Cell with scales moved that rounds; arguments as for :meth:`TrainedQuantization.apply`.

        ValueError without samples to calibrate on.
        """
        scaled = self.equivalent(net, inputs, calibrate)
        return super().apply(scaled, inputs, calibrate, None if plan is None else _renamed(plan, scaled))

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Round the float network's weights again for these bits, with the same scales; compiles nothing."""
        super().set_plan(net_q, None if plan is None else _renamed(plan, state_of(net_q).original))


def _moved(net: Any, graph: NetworkGraph, scales: Mapping[SharedInput, np.ndarray]) -> Any:
    twin = copy_network(net)
    names = {id(parameter): parameter.name for parameter in twin.get_parameters()}
    changed = scaled_parameters(parameters_of(net), graph, scales)
    for parameter in twin.get_parameters():
        if parameter.name in changed:
            parameter.set_data(ms.Tensor(changed[parameter.name]))
    new = {
        layer: ScaledLayer(DividedInput(scale), cell_at(twin, layer))
        for shared, scale in scales.items()
        if shared.takers is None and (scale != 1).any()
        for layer in shared.layers
    }
    replace_cells(twin, new)
    rename_parameters(twin, names)
    return twin


def _renamed(plan: Plan | Mapping[str, Any], scaled: Any) -> dict[str, Any]:
    """The plan for the network in which products stand before some layers, with the layers' old names."""
    divided = {path for path, cell in scaled.cells_and_names() if isinstance(cell, ScaledLayer)}
    return {f"{name}{INSIDE}" if name.partition("/")[2] in divided else name: value for name, value in plan.items()}
