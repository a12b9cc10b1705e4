"""Quantizers that first move scales, or shifts, between layers' inputs and their weights; in float nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.layer_pass import DividedInput, ScaledLayer, visit_layers, with_bias
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.scale_takers import SharedInput, bias_of, scaled_parameters, shared_inputs
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph, Plan

from .layerwise import LayerwiseRounding
from .trained_quantization import CALIBRATED

ROWS = 256  # of a tensor, on which scales are compared
Move = tuple[np.ndarray, np.ndarray | None]  # the scales and the shift of a tensor's channels
INSIDE = ".1"  # of a ScaledLayer: the layer


class ScaledQuantization(LayerwiseRounding):
    """Subclasses choose the scales of a tensor's channels."""

    exponents: dict[str, float]  # of each layer, after ``equivalent`` or ``apply``

    def scales(self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, float]:
        """The scales, (in,), and the exponent that gave them.

        weights: (out, in) of the layers that read the tensor x, (n, in); rows: some of x's.
        """
        raise NotImplementedError

    def moves(
        self, weights: list[np.ndarray], rows: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, float]:
        """The scales, the shift that is subtracted before, (in,) each, and what gave them; arguments of ``scales``."""
        scales, exponent = self.scales(weights, rows, x)
        return scales, None, exponent

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

    def _found(self, net: Any, graph: NetworkGraph, arrays: tuple[np.ndarray, ...]) -> dict[SharedInput, Move]:
        """net: a copy of the float network, in which one layer after the other is seen."""
        firsts = {shared.layers[0]: shared for shared in shared_inputs(graph)}
        if not firsts:
            raise NoEffectError(f"{self.name} found no nn.Dense that runs once, whose input it could scale")
        found: dict[SharedInput, Move] = {}
        self.exponents = {}
        cells = {layer: cell_at(net, layer) for shared in firsts.values() for layer in shared.layers}

        def visit(path: str, values: np.ndarray) -> None:
            shared = firsts[path]
            x = values.reshape(-1, shared.width)
            rows = x[np.linspace(0, len(x) - 1, min(ROWS, len(x))).astype(np.int64)]
            weights = [cells[layer].weight.asnumpy() for layer in shared.layers]
            scales, shift, exponent = self.moves(weights, rows, x)
            found[shared] = scales, shift
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
        return super().apply(scaled, inputs, calibrate, None if plan is None else renamed_plan(plan, scaled))

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Round the float network's weights again for these bits, with the same scales; compiles nothing."""
        super().set_plan(net_q, None if plan is None else renamed_plan(plan, state_of(net_q).original))


def _moved(net: Any, graph: NetworkGraph, found: Mapping[SharedInput, Move]) -> Any:
    twin = copy_network(net)
    names = {id(parameter): parameter.name for parameter in twin.get_parameters()}
    scales = {shared: scale for shared, (scale, _) in found.items()}
    shifts = {shared: shift for shared, (_, shift) in found.items() if shift is not None}
    changed = scaled_parameters(parameters_of(net), graph, scales, shifts)
    for parameter in twin.get_parameters():
        if parameter.name in changed:
            parameter.set_data(ms.Tensor(changed[parameter.name]))
    new: dict[str, Any] = {}
    for shared, (scale, shift) in found.items():
        for layer in shared.layers:
            node, cell = graph.nodes[graph.layers[layer]], cell_at(twin, layer)
            cell = with_bias(cell, changed[bias_of(node)]) if node.bias is None and shift is not None else cell
            before = _before(shared, scale, shift)
            new[layer] = cell if before is None else ScaledLayer(before, cell)
    replace_cells(twin, new)
    rename_parameters(twin, names)
    return twin


def _before(shared: SharedInput, scale: np.ndarray, shift: np.ndarray | None) -> DividedInput | None:
    """What stands before the layers, where parameters cannot take the scale or the shift."""
    shift = None if shift is None or not shift.any() else shift
    if shared.takers is None:
        return DividedInput(scale, shift) if shift is not None or (scale != 1).any() else None
    if shift is None or shared.shift_taker is not None:
        return None
    return DividedInput(np.ones_like(scale), shift / scale)


def renamed_plan(plan: Plan | Mapping[str, Any], scaled: Any) -> dict[str, Any]:
    """The plan for the network in which products stand before some layers, from one with the layers' old names."""
    divided = {path for path, cell in scaled.cells_and_names() if isinstance(cell, ScaledLayer)}
    return {f"{name}{INSIDE}" if name.partition("/")[2] in divided else name: value for name, value in plan.items()}
