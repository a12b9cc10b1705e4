"""Learned step size quantization (LSQ): the scales of weights and inputs are trained with the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import ops

from .calibrators import Calibration
from .cells import parameter
from .quantizers import ActivationQuantizer
from .rounding import LEAST_SCALE, Input, SymmetricInput, Weight, assign, number, rounded, scaled_gradient
from .trained_quantization import TrainedQuantization


class LearnedScaleWeight(Weight):
    """Its scale, one a channel or one in all, has the gradient of eq. 3 times 1 / sqrt(weights of a scale * top)."""

    def __init__(self, like: np.ndarray, per_channel: bool) -> None:
        super().__init__(like, per_channel)
        self.scale = parameter(np.ones(self.scale_shape, np.float32), "scale", trains=True)
        self.count = float(like.size // self.scale.size)

    def construct(self, weight: Any) -> Any:
        scale = ops.maximum(scaled_gradient(self.scale, ops.rsqrt(self.count * self.top)), LEAST_SCALE)
        return rounded(weight, scale, -self.top, self.top, self.on)

    def start(self, bits: int, weight: np.ndarray) -> None:
        assign(self.scale, self._best_scale(bits, weight))

    def scale_of(self, weight: np.ndarray) -> np.ndarray:
        scale = np.maximum(self.scale.asnumpy(), np.float32(LEAST_SCALE)).reshape(-1)
        return np.broadcast_to(scale, (len(weight),)).astype(np.float32)


class LearnedScaleInput(SymmetricInput):
    """Its scale has the gradient of eq. 3 times 1 / sqrt(numbers of one image's input * highest level)."""

    def __init__(self, positive: bool) -> None:
        super().__init__(positive)
        self.scale = number(4 / 255, "scale", trains=True)

    def construct(self, x: Any) -> Any:
        count = float(x.size // x.shape[0])
        scale = ops.maximum(scaled_gradient(self.scale, ops.rsqrt(count * self.high)), LEAST_SCALE)
        return rounded(x, scale, self.low, self.high, self.on, bounded_below=not self.positive)

    def start(self, quantizer: ActivationQuantizer) -> None:
        assign(self.scale, max(self.largest(quantizer) / float(self.high.asnumpy()), LEAST_SCALE))

    def scale_and_zero_point(self) -> tuple[float, int]:
        return max(float(self.scale.asnumpy()), LEAST_SCALE), self.zero_point


class LSQ(TrainedQuantization):
    """Learned step size quantization (Esser et al., ICLR 2020).

    Steps start where the squared error is least, instead of at 2 E|w| / sqrt(top) (section 2.1), since that needs fewer
    training steps; first and last layer at 8 bits (section 3). Inputs behind a ReLU are unsigned, others signed.

    Args:
        weight_bits, activation_bits, ends_bits, calibration: see :class:`TrainedQuantization`.
        per_channel: a step for each output channel of a weight; the paper has one for each layer.
    """

    name = "lsq"

    def __init__(
        self,
        weight_bits: int = 4,
        activation_bits: int = 4,
        ends_bits: int | None = 8,
        calibration: Calibration = "mse",
        per_channel: bool = True,
    ) -> None:
        super().__init__(weight_bits, activation_bits, ends_bits, calibration)
        self.per_channel = per_channel

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> Weight:
        return LearnedScaleWeight(weight, self.per_channel)

    def input_quantizer(self, positive: bool) -> Input:
        return LearnedScaleInput(positive)
