"""Post-training quantizers that see one layer's input at a time, after the layers before it have been rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import CompressionState, state_of
from autocomp.primitives.cells.conversion import MADE_OF
from autocomp.primitives.cells.fake_quant import RowInput, assign
from autocomp.primitives.cells.layer_pass import visit_layers
from autocomp.primitives.cells.layers import RoundedLayer, parameter
from autocomp.primitives.cells.trained_layers import TrainedDense, TrainedLayer
from autocomp.primitives.numerics.calibrators import Calibration, range_of, seen_in
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.numerics.weight_grids import WeightGrid, fit_grid, grid_of, parts_of
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, NetworkGraph, Node, Plan

from .ranged_weight import RangedWeight, check_zero_points
from .round_to_nearest import RoundToNearest
from .rounding_settings import RoundingSettings
from .trained_quantization import CALIBRATED


class GridWeight(RangedWeight):
    """A weight on a grid that stays as it was set."""

    def __init__(self, like: np.ndarray, symmetric: bool, inputs: int | None) -> None:
        super().__init__(like, symmetric, inputs)
        self.scale = parameter(np.ones(self.scale_shape, np.float32), "scale")
        self.zero = parameter(np.zeros(self.scale_shape, np.float32), "zero")

    def _scale_and_zero(self, parted: Any) -> tuple[Any, Any]:
        return self.scale, self.zero

    def start(self, bits: int, weight: np.ndarray) -> None:
        self.set_grid(fit_grid(weight.reshape(len(weight), -1), bits, self.parts, self.symmetric))

    def set_grid(self, grid: WeightGrid) -> None:
        assign(self.scale, grid.scale)
        assign(self.zero, grid.zero)

    def quantized(self, weight: np.ndarray) -> QuantizedWeight | None:
        if self.bits == FLOAT_BITS:
            return None
        form = self.scale_shape[:2]
        scale, zero = self.scale.asnumpy().reshape(form), self.zero.asnumpy().reshape(form)
        return WeightGrid(scale, zero, self.bits, self.symmetric).stored(weight)


class LayerwiseRounding(RoundToNearest):
    """Rounds the layers one after the other in a single forward pass: each sees the inputs that the rounded layers
    before it compute, and no other layer's input is held. A layer that runs several times is seen the first time.

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer; None: as all others.
        group_size: so many inputs of an output channel share a scale, or, where a layer's inputs are not a multiple of
            it, the largest divisor; None: all of them.
        symmetric_weights: ranges of weights symmetric around zero; otherwise they have a zero point, too.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".
    """

    name = "layerwise"
    dynamic = False  # whether each row of a dense layer's input has a range of its own

    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = FLOAT_BITS,
        first_last_bits: int | None = None,
        group_size: int | None = None,
        symmetric_weights: bool = True,
        calibration: Calibration = "mse",
    ) -> None:
        check_zero_points(symmetric_weights, True)
        super().__init__(
            RoundingSettings(
                weight_bits,
                activation_bits,
                first_last_bits,
                calibration,
                symmetric_weights=symmetric_weights,
                group_size=group_size,
            )
        )

    def _layer(self, layer: Any, graph: NetworkGraph, path: str, norm: Any) -> TrainedLayer:
        found = super()._layer(layer, graph, path, norm)
        if self.dynamic and isinstance(found, TrainedDense):
            found.input_quantizer = RowInput()
        return found

    def convert(self, net_q: Any) -> Any:
        """A new Cell for deployment: BatchNorm folded, weights stored as integers, inputs rounded."""
        net, layers = super().convert(net_q), state_of(net_q).layers
        dynamic = {path: layer.input_quantizer.bits for path, layer in layers.items() if is_dynamic(layer)}
        if not dynamic:
            return net
        vars(net).pop(MADE_OF, None)  # it is traced as it is
        for path, bits in dynamic.items():
            rounding = RowInput()
            rounding.set_bits(bits)
            replace_cells(net, {path: RoundedLayer(rounding, cell_at(net, path))})
        rename_parameters(net)
        return net

    def rounded(self, node: Node, weight: np.ndarray, bits: int, x: np.ndarray) -> QuantizedWeight:
        """The weight, (out, in / groups, ...), rounded for the layer's input x, (n, ...) float32."""
        parts = parts_of(weight.shape[1], self.group_size)
        return fit_grid(weight.reshape(len(weight), -1), bits, parts, self.symmetric_weights).stored(weight)

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> GridWeight:
        return GridWeight(weight, self.symmetric_weights, self.group_size)

    @checked(RULES["apply"])
    def apply(
        self, net: Any, inputs: Any = None, calibrate: Any = None, plan: Plan | Mapping[str, Any] | None = None
    ) -> Any:
        """A new Cell with rounded weights; arguments as for :meth:`TrainedQuantization.apply`.

        ValueError without samples to calibrate on.
        """
        need_samples(self.name, calibrate)
        return super().apply(net, inputs, calibrate, plan)

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Round the float network's weights again for these bits; compiles nothing."""
        applied = state_of(net_q)
        if applied.samples:
            _restore(applied)
        super().set_plan(net_q, plan)
        if applied.samples:
            self._round(net_q)

    def calibrate(self, net_q: Any, arrays: tuple[np.ndarray, ...]) -> None:
        """Round all weights and find the ranges of inputs on these samples, (n, ...) each; at most 256 of them."""
        state_of(net_q).samples = tuple(array[:CALIBRATED] for array in arrays)
        self._round(net_q)

    def _round(self, net_q: Any) -> None:
        applied = state_of(net_q)

        def visit(path: str, x: np.ndarray) -> None:
            layer = applied.layers[path]
            if layer.weight_quantizer.bits < FLOAT_BITS:
                self._round_layer(applied, path, layer, x)
            if layer.input_quantizer.bits < FLOAT_BITS:
                bits = layer.input_quantizer.bits
                layer.input_quantizer.start(range_of(seen_in([x]), bits, self.calibration))

        visit_layers(net_q, applied.layers, applied.samples, visit)
        applied.calibrated = True

    def _round_layer(self, applied: CompressionState, path: str, layer: TrainedLayer, x: np.ndarray) -> None:
        node, quantizer = applied.graph.nodes[applied.graph.layers[path]], layer.weight_quantizer
        found = self.rounded(node, layer.in_rows(layer.weight.asnumpy()), quantizer.bits, x)
        quantizer.set_grid(grid_of(found))
        assign(layer.weight, layer.in_rows(found.dequantized()))


def _restore(applied: CompressionState) -> None:
    """The float network's weights."""
    original = {parameter.name: parameter for parameter in applied.original.get_parameters()}
    for layer in applied.layers.values():
        assign(layer.weight, original[layer.weight.name].asnumpy())


def is_dynamic(layer: TrainedLayer) -> bool:
    return isinstance(layer.input_quantizer, RowInput) and layer.input_quantizer.bits < FLOAT_BITS
