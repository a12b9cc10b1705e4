"""Searching for low-bit weights (SLB): a softmax over its few values is trained for each weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import (
    InputFakeQuant,
    WeightFakeQuant,
    assign,
    number,
    scaled_gradient,
    within_reach,
)
from autocomp.primitives.cells.layers import ms, parameter
from autocomp.primitives.cells.training_callbacks import BeforeEvaluation, CalibrateBatchNorm, Schedule
from autocomp.primitives.numerics.adaptive_rounding import adaptive_rounding
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.nearest_levels import best_scale, odd_levels
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS

from .lsq import LearnedScaleInput, LearnedScaleWeight
from .trained_quantization import TrainedQuantization

MOST_BITS = 4  # most bits of a weight that is searched
LOGIT_STEP = 2.0  # divided by scale^2 it multiplies the logits' gradient, so that their weight moves like a trained one
START_SHARPNESS = 2.0  # of the first choice for a trained weight, per squared distance of two values


class ChosenWeight(WeightFakeQuant):
    """w = sum_k p_k v_k with p = softmax(logits / temperature) in training, otherwise the likeliest value (eq. 3, 6).

    The values are -s and s for 1 bit, -s, -s/3, s/3, s for 2 bits, and above that 2^b - 1 even steps from -s to s, with
    zero: the paper's 2^b-th value would not fit into a b-bit integer without a zero point. There is an s for each
    output channel. It has the least squared error on the first weight, or, once inputs have been observed, on the
    layer's output (:mod:`adaptive_rounding`), and is then fixed; the first choice are the values found there.

    A logit moves the weight by s times the share that it shifts, and its gradient is s times that of the weight: with
    one learning rate for all parameters it would hardly move. Its gradient is therefore multiplied by 2 / s^2. Then an
    undecided weight of two values moves like a weight that is trained itself.
    """

    def __init__(self, like: np.ndarray, bits: int) -> None:
        super().__init__(like, per_channel=True)
        self.levels = levels_of(bits)
        self.step = int(self.levels[1] - self.levels[0])
        self.width = bits
        self.values = parameter(self.levels.astype(np.float32), "values")
        self.scale = parameter(np.ones(self.scale_shape, np.float32), "scale")
        self.logits = parameter(np.zeros((len(self.levels), *like.shape), np.float32), "logits", trains=True)
        self.temperature = number(1, "temperature")
        self.softmax = ops.Softmax(0)
        self.count = len(self.levels)
        self.column = (self.count, *[1] * like.ndim)

    def construct(self, weight: Any) -> Any:
        if self.training:
            logits = scaled_gradient(self.logits, LOGIT_STEP / (self.scale * self.scale))
            return self._mixed(self.softmax(logits / self.temperature), weight)
        return self.deployed(weight)

    def deployed(self, weight: Any) -> Any:
        """The weight with every element at its likeliest value."""
        likeliest = ops.equal(self.logits, ops.amax(self.logits, 0, keepdims=True)).astype(ms.float32)
        return ops.stop_gradient(self._mixed(likeliest, weight))

    def _mixed(self, shares: Any, weight: Any) -> Any:
        chosen = (shares * self.values.reshape(self.column)).sum(0) * self.scale
        return self.fake_quant_enabled * chosen + (1 - self.fake_quant_enabled) * weight

    def start(self, bits: int, weight: np.ndarray) -> None:
        if bits != self.width:
            raise ValueError(
                f"the values of an SLB weight were laid out for {self.width} bits, but a plan needs {bits}"
            )
        self._begin(weight, best_scale(weight, self.levels))

    def _begin(self, weight: np.ndarray, scale: np.ndarray) -> None:
        distance = weight[None] / scale - self.levels.reshape(self.column)
        assign(self.scale, scale)
        assign(self.logits, -START_SHARPNESS * (distance / self.step) ** 2)

    def adapted(self, weight: np.ndarray, hessian: np.ndarray, quick: bool) -> np.ndarray:
        if self.bits < FLOAT_BITS:
            found = adaptive_rounding(weight, self.width, hessian, quick, halves=self.step == 2)
            self._begin(
                within_reach(weight, found, int(self.levels[-1]), self.step), found.scale.reshape(self.scale_shape)
            )
        return weight

    @property
    def bits(self) -> int:
        return self.width if float(self.fake_quant_enabled.asnumpy()) else FLOAT_BITS

    def quantized(self, weight: np.ndarray) -> QuantizedWeight | None:
        if self.bits == FLOAT_BITS:
            return None
        integers = self.levels[self.logits.asnumpy().argmax(0)].astype(np.int8)
        return QuantizedWeight(integers, self.scale.asnumpy().reshape(-1), self.width, odd=self.step == 2)


def levels_of(bits: int) -> np.ndarray:
    """The integers of the values: (-1, 1), (-3, -1, 1, 3), (-7 .. 7), ..."""
    if bits <= 2:
        return odd_levels(bits)
    return np.arange(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1))


class SLB(TrainedQuantization):
    """Searching for low-bit weights (Yang et al., NeurIPS 2020).

    Every weight is a softmax over its few values. The temperature is 1 during the warm-up, then falls exponentially to
    1 / ``sharpest``, and stays there (section 3.2: exponential decay was best). Then every weight takes its likeliest
    value. BatchNorm's statistics are those of the network with the likeliest values (state batch normalisation, section
    3.3), and are estimated once more at the end of the training.

    First and last layer have ``first_last_bits`` with a learned scale (in the paper they are float). Weights with more
    than 4 bits have too many values to be searched; they are rounded with a learned scale (:class:`LSQ`), and so are
    inputs.

    Args:
        weight_bits: 1, 2, 3 or 4, or 32 for none. activation_bits, first_last_bits, calibration: see
            :class:`TrainedQuantization`.
        warm_up, settled: shares of the training at which the temperature begins to fall and has fallen.
        sharpest: the temperature at the start divided by that at the end.
        state_batchnorm: collect the statistics of the likeliest values while training; costs one more convolution.
        calibration_batches: of the training set, for BatchNorm's statistics at the end of the training; 0: none.
    """

    name = "slb"
    adapts = True

    @checked(RULES["SLB"])
    def __init__(
        self,
        weight_bits: int = 2,
        activation_bits: int = 8,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
        warm_up: float = 0.2,
        settled: float = 0.8,
        sharpest: float = 30.0,
        state_batchnorm: bool = True,
        calibration_batches: int = 20,
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration)
        if not 0 <= warm_up <= settled <= 1:
            raise ValueError(
                "warm_up and settled must be shares of the training, the first no larger than the second, "
                f"but got warm_up={warm_up}, settled={settled}"
            )
        if sharpest < 1:
            raise ValueError(f"sharpest must be 1 or more, but got sharpest={sharpest}")
        self.warm_up, self.settled, self.sharpest = warm_up, settled, sharpest
        self.state_batchnorm, self.calibration_batches = state_batchnorm, calibration_batches

    def _check_bits(self, argument: str, bits: int) -> None:
        least, most = (1, 4) if argument == "weight_bits" else (2, 8)
        if bits != FLOAT_BITS and not least <= bits <= most:
            raise ValueError(
                f"{argument} must be {least} to {most}, or {FLOAT_BITS} for none, but got {argument}={bits}"
            )

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        return ChosenWeight(weight, bits) if bits <= MOST_BITS else LearnedScaleWeight(weight, per_channel=True)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        return LearnedScaleInput(positive)

    def state_of(self, norm: Any, bits: int) -> Any:
        if norm is None or not self.state_batchnorm or bits > MOST_BITS:
            return None
        state = type(norm)(norm.num_features, eps=norm.eps, momentum=0.9, affine=False)
        for mine, its in ((state.moving_mean, norm.moving_mean), (state.moving_variance, norm.moving_variance)):
            mine.set_data(its.value())
        return state

    def temperature(self, progress: float) -> float:
        """The temperature at a share of the training, 0 to 1."""
        fallen = (progress - self.warm_up) / max(self.settled - self.warm_up, 1e-9)
        return float(self.sharpest ** -np.clip(fallen, 0, 1))

    def callbacks(self) -> list[Any]:
        found = [own for own in super().callbacks() if not isinstance(own, CalibrateBatchNorm)]
        net_q = self._last
        temperatures = [weight.temperature for weight in chosen_weights(net_q)]
        found.append(Schedule(temperatures, self.temperature))
        if self.state_batchnorm:
            found.append(BeforeEvaluation(lambda: take_state(net_q)))
        if self.calibration_batches:
            found.append(CalibrateBatchNorm(net_q, self.calibration_batches, temperatures))
        return found


def chosen_weights(net_q: Any) -> list[ChosenWeight]:
    layers = state_of(net_q).layers.values()
    return [layer.weight_quantizer for layer in layers if isinstance(layer.weight_quantizer, ChosenWeight)]


def take_state(net_q: Any) -> None:
    """Sets BatchNorm's running statistics to those of the likeliest values."""
    for layer in state_of(net_q).layers.values():
        if layer.state is not None:
            assign(layer.norm.moving_mean, layer.state.moving_mean.asnumpy())
            assign(layer.norm.moving_variance, layer.state.moving_variance.asnumpy())
