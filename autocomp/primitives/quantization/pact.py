"""Parameterized clipping activation (PACT): the level at which inputs are clipped is trained with the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.fake_quant import (
    InputFakeQuant,
    SymmetricInput,
    WeightFakeQuant,
    assign,
    number,
    to_steps,
)
from autocomp.primitives.cells.layers import NO_BOUND
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer
from autocomp.rules import checked

from .simqat import MaxScaledWeight
from .trained_quantization import TrainedQuantization


class ClippedInput(SymmetricInput):
    """y = round(clip(x, 0, alpha) * high / alpha) * alpha / high (eq. 1, 2), with dy/dalpha = 1 where x is clipped,
    else 0 (eq. 3).

    Where inputs can be negative, the lower bound is the lowest level, alpha * low / high.
    """

    def __init__(self, positive: bool) -> None:
        super().__init__(positive)
        self.alpha = number(4, "alpha", trains=True)

    def construct(self, x: Any) -> Any:
        alpha = (
            ops.maximum(self.alpha, LEAST_SCALE) + (1 - self.fake_quant_enabled) * NO_BOUND
        )  # without rounding no clipping
        clipped = ops.minimum(x, alpha)
        if not self.positive:
            clipped = ops.maximum(clipped, alpha * (self.low / self.high))
        scale = ops.stop_gradient(ops.maximum(self.alpha, LEAST_SCALE) / self.high)
        return to_steps(clipped, scale, self.fake_quant_enabled)

    def start(self, quantizer: ActivationQuantizer) -> None:
        assign(self.alpha, max(self.largest(quantizer), LEAST_SCALE))

    def scale_and_zero_point(self) -> tuple[float, int]:
        return float(np.float32(max(float(self.alpha.asnumpy()), LEAST_SCALE)) / self.high.asnumpy()), self.zero_point


class PACT(TrainedQuantization):
    """Parameterized clipping activation (Choi et al., 2018, arXiv:1805.06085).

    alpha is a trained parameter, so the optimizer's weight decay is the paper's L2 regularisation of it (section 3.1).
    It starts at the calibrated range instead of 10, since the network is trained already. Weights are rounded as in
    :class:`SimQAT`; the paper's DoReFa form passes them through a tanh, which would change a trained network before the
    first step. First and last layer have 8 bits; in the paper they are float.

    Args:
        weight_bits, activation_bits, first_last_bits, calibration: see :class:`TrainedQuantization`.
    """

    name = "pact"

    @checked(RULES["PACT"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = 4,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration)

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        return MaxScaledWeight(weight, per_channel=True)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        return ClippedInput(positive)
