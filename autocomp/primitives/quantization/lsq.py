"""Learned step size quantization (LSQ): the scales of weights and inputs are trained with the network."""

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
    rounded,
    scaled_gradient,
    within_reach,
)
from autocomp.primitives.cells.layers import parameter
from autocomp.primitives.numerics.adaptive_rounding import adaptive_rounding
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.nearest_levels import best_scale, odd_levels
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer, QuantizedWeight
from autocomp.rules import checked

from .trained_quantization import TrainedQuantization


class LearnedScaleWeight(WeightFakeQuant):
    """A weight whose scale, one for each channel or one for all, has the gradient of eq. 3 times 1 / sqrt(weights of a
    scale * quant_max).

    Two bits mean -1.5, -0.5, 0.5, 1.5 times the scale: four values, symmetric around zero, whereas -1, 0, 1 would leave
    one value unused (Choi et al., "Accurate and Efficient 2-bit Quantized Neural Networks", MLSys 2019). They are
    stored as the integers -3, -1, 1, 3 of half the scale.
    """

    def __init__(self, like: np.ndarray, per_channel: bool) -> None:
        super().__init__(like, per_channel)
        self.scale = parameter(np.ones(self.scale_shape, np.float32), "scale", trains=True)
        self.half = number(0, "half")
        self.count = float(like.size // self.scale.size)

    def construct(self, weight: Any) -> Any:
        scale = ops.maximum(scaled_gradient(self.scale, ops.rsqrt(self.count * self.quant_max)), LEAST_SCALE)
        shift = self.half * self.fake_quant_enabled * scale  # its gradient turns eq. 3 into that of the shifted levels
        return (
            rounded(weight - shift, scale, -self.quant_max - 2 * self.half, self.quant_max, self.fake_quant_enabled)
            + shift
        )

    def start(self, bits: int, weight: np.ndarray) -> None:
        two = bits == 2
        assign(self.half, 0.5 if two else 0)
        if two:
            assign(self.quant_max, 1)
            rows = weight if self.per_channel else weight.reshape(1, -1)
            assign(self.scale, 2 * best_scale(rows, odd_levels(2)).reshape(self.scale_shape))
        else:
            assign(self.scale, self._best_scale(bits, weight))

    def adapted(self, weight: np.ndarray, hessian: np.ndarray, quick: bool) -> np.ndarray:
        if not self.per_channel or not 2 <= self.bits < 8:
            return weight
        step = 2 if self.bits == 2 else 1
        found = adaptive_rounding(weight, self.bits, hessian, quick, halves=self.bits == 2)
        assign(self.scale, step * found.scale)
        return within_reach(weight, found, 3 if step == 2 else 2 ** (self.bits - 1) - 1, step)

    def quantized(self, weight: np.ndarray) -> QuantizedWeight | None:
        if self.bits != 2:
            return super().quantized(weight)
        scale = self.scale_of(weight)
        column = scale.reshape(-1, *[1] * (weight.ndim - 1))
        halves = 2 * np.clip(np.rint((weight - column / 2) / column), -2, 1) + 1
        return QuantizedWeight(halves.astype(np.int8), scale / 2, 2, odd=True)

    def scale_of(self, weight: np.ndarray) -> np.ndarray:
        scale = np.maximum(self.scale.asnumpy(), np.float32(LEAST_SCALE)).reshape(-1)
        return np.broadcast_to(scale, (len(weight),)).astype(np.float32)


class LearnedScaleInput(SymmetricInput):
    """An input whose scale has the gradient of eq. 3 times 1 / sqrt(numbers of one image's input * highest level)."""

    def __init__(self, positive: bool) -> None:
        super().__init__(positive)
        self.scale = number(4 / 255, "scale", trains=True)

    def construct(self, x: Any) -> Any:
        count = float(x.size // x.shape[0])
        scale = ops.maximum(scaled_gradient(self.scale, ops.rsqrt(count * self.high)), LEAST_SCALE)
        return rounded(x, scale, self.low, self.high, self.fake_quant_enabled, bounded_below=not self.positive)

    def start(self, quantizer: ActivationQuantizer) -> None:
        assign(self.scale, max(self.largest(quantizer) / float(self.high.asnumpy()), LEAST_SCALE))

    def scale_and_zero_point(self) -> tuple[float, int]:
        return max(float(self.scale.asnumpy()), LEAST_SCALE), self.zero_point


class LSQ(TrainedQuantization):
    """Learned step size quantization (Esser et al., ICLR 2020).

    Steps and weights start where the error of the layer's output is least (:mod:`adaptive_rounding`, once ranges are
    found) instead of at 2 E|w| / sqrt(quant_max) (section 2.1), since that needs fewer training steps. First and last
    layer have 8 bits (section 3). Weights of 2 bits have four values, symmetric around zero, without zero. Inputs after
    a ReLU are unsigned, others signed.

    Args:
        weight_bits, activation_bits, first_last_bits, calibration: see :class:`TrainedQuantization`.
        per_channel: a step for each output channel of a weight; the paper has one for each layer.
    """

    name = "lsq"
    adapts = True

    @checked(RULES["LSQ"])
    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = 4,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
        per_channel: bool = True,
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration)
        self.per_channel = per_channel

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        return LearnedScaleWeight(weight, self.per_channel)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        return LearnedScaleInput(positive)
