"""AdaRound as an algorithm: rounds weights for the least error of the layer's output, without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from autocomp.primitives.arguments import RULES, need_samples
from autocomp.primitives.cells.compression_state import CompressionState, state_of
from autocomp.primitives.cells.fake_quant import WeightFakeQuant, assign, rounded
from autocomp.primitives.cells.layers import parameter
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.patches import Hessian
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.numerics.quantizers import LEAST_SCALE
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, Format, Plan, SearchSpace

from .round_to_nearest import RoundToNearest
from .rounding_settings import RoundingSettings


class SetWeight(WeightFakeQuant):
    """A weight that is rounded already; the scale gives its integers."""

    def __init__(self, like: np.ndarray) -> None:
        super().__init__(like, per_channel=True)
        self.scale = parameter(np.ones(self.scale_shape, np.float32), "scale")

    def construct(self, weight: Any) -> Any:
        return rounded(weight, self.scale, -self.quant_max, self.quant_max, self.fake_quant_enabled)

    def start(self, bits: int, weight: np.ndarray) -> None:
        assign(self.scale, np.maximum(self._best_scale(bits, weight), LEAST_SCALE))

    def scale_of(self, weight: np.ndarray) -> np.ndarray:
        return np.asarray(self.scale.asnumpy().reshape(-1))


class AdaRound(RoundToNearest):
    """Adaptive rounding (Nagel et al., ICML 2020) with bias correction (Nagel et al., ICCV 2019, section 4.2).

    Below 8 bits each weight is rounded up or down for the least error of the layer's output on calibration images (eq.
    13); :mod:`autocomp.primitives.numerics.adaptive_rounding` is the solver. The bias compensates the shift of the
    output's mean by the rounding. A search always rounds in the same way.

    >>> adaround = AdaRound(weight_bits=4, activation_bits=32)
    >>> deploy = adaround.convert(adaround.apply(net, calibrate=images))

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none. first_last_bits: least number of bits in the first and
            last layer.
        calibration: of inputs' ranges: "mse", "minmax", "percentile" or "kl".
    """

    name = "adaround"
    adapts = True

    @checked(RULES["AdaRound"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = FLOAT_BITS,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
    ) -> None:
        super().__init__(RoundingSettings(weight_bits, activation_bits, first_last_bits, calibration))

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        return SetWeight(weight)

    @checked(RULES["apply"])
    def apply(
        self, net: Any, inputs: Any = None, calibrate: Any = None, plan: Plan | Mapping[str, Any] | None = None
    ) -> Any:
        """A new Cell with rounded weights and corrected biases; arguments as for :meth:`TrainedQuantization.apply`.

        ValueError without samples to calibrate on.
        """
        need_samples(self.name, calibrate)
        net_q = super().apply(net, inputs, calibrate, plan)
        self.set_plan(net_q, plan)  # again, with the moments of layers' inputs
        return net_q

    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Round the float network's weights again for these bits; compiles nothing."""
        super().set_plan(net_q, plan)
        applied = state_of(net_q)
        weight_bits = {path: layer.weight_quantizer.bits for path, layer in applied.layers.items()}
        for path, state in _rounded_anew(applied, weight_bits).items():
            layer = applied.layers[path]
            assign(layer.weight, layer.in_rows(state.weight))
            if layer.has_bias:
                assign(layer.bias, state.bias)
            if state.quantized is not None:
                assign(layer.weight_quantizer.scale, state.quantized.scale)


def _rounded_anew(applied: CompressionState, weight_bits: Mapping[str, int]) -> dict[str, Any]:
    graph = applied.graph
    patches: Mapping[str, Hessian] = applied.patches
    compressor = PlanCompressor(SearchSpace(graph, ()), parameters_of(applied.original), patches=patches)
    formats = {path: Format(bits) for path, bits in weight_bits.items()}
    states = compressor.of(np.ones(graph.unit_count, bool), formats).layers
    return {path: states[path] for path in applied.layers}
