"""Simulated quantization-aware training (SimQAT): trains with rounding, with ranges that are observed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.cells.fake_quant import InputFakeQuant, WeightFakeQuant, assign, number, rounded
from autocomp.primitives.cells.layers import parameter
from autocomp.primitives.cells.training_callbacks import AtStep
from autocomp.primitives.numerics.calibrators import Calibration
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer
from autocomp.rules import checked

from .ranged_weight import RangedWeight, check_zero_points
from .trained_quantization import TrainedQuantization

OBSERVED = 32  # images in a batch whose extremes are observed
Observer = Literal["ema", "minmax"]


class MaxScaledWeight(WeightFakeQuant):
    """Symmetric; the scale follows the largest magnitude of each output channel, or of the tensor, at every step.

    Below 8 bits the magnitude is multiplied by the ratio with the least squared error when the bits are set.

    norm: the BatchNorm after the layer. With it the weight is rounded as it will be deployed, with the BatchNorm folded
        into it: ``round(w * gamma / sigma) * sigma / gamma`` with the running sigma (Krishnamoorthi 2018, section
        3.2.2; with one convolution: BatchNorm normalises by the batch's statistics until it is frozen). With a scale
        per channel that changes nothing, since a channel's factor becomes a part of its scale; with one scale for the
        tensor it does.
    """

    def __init__(self, like: np.ndarray, per_channel: bool, norm: Any = None) -> None:
        super().__init__(like, per_channel)
        self.axes = tuple(range(1, like.ndim)) if per_channel else tuple(range(like.ndim))
        self.ratio = parameter(np.ones(self.scale_shape, np.float32), "ratio")
        self.norm = norm if not per_channel else None
        self.column = (len(like), *[1] * (like.ndim - 1))
        if self.norm is not None:
            self.gamma, self.variance = norm.gamma, norm.moving_variance
            self.epsilon = float(norm.eps)

    def construct(self, weight: Any) -> Any:
        if self.norm is None:
            return rounded(weight, self._scale(weight), -self.quant_max, self.quant_max, self.fake_quant_enabled)
        factor = ops.stop_gradient(self._factor())
        folded = weight * factor
        return rounded(folded, self._scale(folded), -self.quant_max, self.quant_max, self.fake_quant_enabled) / factor

    def _scale(self, weight: Any) -> Any:
        largest = ops.stop_gradient(ops.amax(ops.abs(weight), self.axes, keepdims=True))
        return ops.maximum(largest * self.ratio / self.quant_max, LEAST_SCALE)

    def _factor(self) -> Any:
        factor = self.gamma / ops.sqrt(self.variance + self.epsilon)
        safe = ops.where(ops.abs(factor) < LEAST_SCALE, ops.ones_like(factor), factor)
        return safe.reshape(self.column)

    def start(self, bits: int, weight: np.ndarray) -> None:
        folded = weight * self._numpy_factor(weight)
        best, largest = self._best_scale(bits, folded), np.abs(folded).max(self.axes, keepdims=True)
        ratio = best * (2 ** (bits - 1) - 1) / np.maximum(largest, LEAST_SCALE)
        assign(self.ratio, np.where(largest > LEAST_SCALE, ratio, 1))

    def _numpy_factor(self, weight: np.ndarray) -> np.ndarray:
        if self.norm is None:
            return np.ones(self.column, np.float32)
        factor = self.gamma.asnumpy() / np.sqrt(self.variance.asnumpy() + np.float32(self.epsilon))
        return np.where(np.abs(factor) < LEAST_SCALE, 1, factor).astype(np.float32).reshape(self.column)

    def scale_of(self, weight: np.ndarray) -> np.ndarray:
        """One scale for each channel; the factor of a folded BatchNorm is divided out of it."""
        factor = self._numpy_factor(weight)
        largest = np.abs(weight * factor).max(self.axes, keepdims=True)
        scale = np.maximum(largest * self.ratio.asnumpy() / self.quant_max.asnumpy(), np.float32(LEAST_SCALE))
        return np.broadcast_to(scale / factor, self.column).astype(np.float32).reshape(-1)


class ObservedInput(InputFakeQuant):
    """Asymmetric (or symmetric), over the range observed so far: extremes of batches, or their moving average.

    The first batches have the weights 1, 1/2, 1/3, ... until ``momentum`` is reached, so that no start value is needed.
    Zero is always in the range and exact. Only the first 32 images of each batch are observed.
    """

    def __init__(self, positive: bool, observer: Observer, symmetric: bool, momentum: float) -> None:
        super().__init__(positive)
        self.observer, self.symmetric, self.momentum = observer, symmetric, momentum
        self.low, self.high = number(0, "low"), number(0, "high")
        self.seen = number(0, "seen")
        self.frozen = number(0, "frozen")

    def construct(self, x: Any) -> Any:
        low, high = self.low, self.high
        if self.training:
            low, high = self._observe(ops.stop_gradient(x)[:OBSERVED])
        if self.symmetric and not self.positive:
            zero = (self.levels + 1) / 2
            scale = ops.maximum(ops.maximum(high, -low) / (zero - 1), LEAST_SCALE)
        else:
            scale = ops.maximum((high - low) / self.levels, LEAST_SCALE)
            zero = ops.floor(-low / scale + 0.5)
        return rounded(x, scale, -zero, self.levels - zero, self.fake_quant_enabled, bounded_below=not self.positive)

    def _observe(self, x: Any) -> tuple[Any, Any]:
        low = self.low * 0 if self.positive else ops.minimum(ops.amin(x), 0.0)
        high = ops.maximum(ops.amax(x), 0.0)
        moves = 1 - self.frozen
        if self.observer == "minmax":
            low, high = ops.minimum(self.low, low), ops.maximum(self.high, high)
            share = moves
        else:
            share = moves * ops.maximum(1 / (self.seen + 1), self.momentum)
        low, high = self.low + share * (low - self.low), self.high + share * (high - self.high)
        ops.assign(self.low, low)
        ops.assign(self.high, high)
        ops.assign(self.seen, self.seen + moves)
        return low, high

    def start(self, quantizer: ActivationQuantizer) -> None:
        low, high = quantizer.bounds
        assign(self.low, low * quantizer.scale)
        assign(self.high, high * quantizer.scale)
        assign(self.seen, 1)

    def freeze(self) -> None:
        assign(self.frozen, 1)

    def scale_and_zero_point(self) -> tuple[float, int]:
        low, high, levels = (np.float32(p.asnumpy()) for p in (self.low, self.high, self.levels))
        if self.symmetric and not self.positive:
            zero = (levels + 1) / 2
            return float(max(max(high, -low) / (zero - 1), np.float32(LEAST_SCALE))), int(zero)
        scale = max(np.float32((high - low) / levels), np.float32(LEAST_SCALE))
        return float(scale), int(np.floor(-low / scale + np.float32(0.5)))


class SimQAT(TrainedQuantization):
    """Simulated quantization-aware training (Jacob et al., CVPR 2018; Krishnamoorthi 2018, arXiv:1806.08342).

    Weights are symmetric, without a zero point (Krishnamoorthi, section 2.2: integer kernels are faster without),
    inputs are asymmetric. BatchNorm is folded on conversion. With a scale for each channel that is exact, whether or
    not training folded it. With one scale for the tensor, training rounds the folded weight, in the form with one
    convolution: the form with two (a second one, in float, for the batch's statistics) costs twice as much, and is the
    same as soon as BatchNorm is frozen.

    Args:
        weight_bits, activation_bits, first_last_bits, calibration: see :class:`TrainedQuantization`.
        per_channel: a scale for each output channel of a weight, otherwise one scale.
        symmetric: ranges of inputs symmetric around zero. symmetric_weights: the same for weights; otherwise they have
            a zero point for each output channel.
        observer: "ema", the moving average of batches' extremes with this momentum, or "minmax".
        delay: steps before anything is rounded; ranges are observed meanwhile.
        freeze_observers: steps after which ranges are fixed. freeze_batchnorm: steps after which BatchNorm normalises
            by its running statistics; that compiles the network once more. None: never.
    """

    name = "simqat"

    @checked(RULES["SimQAT"])
    def __init__(
        self,
        weight_bits: int = 8,
        activation_bits: int = 8,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
        per_channel: bool = True,
        symmetric: bool = False,
        observer: Observer = "ema",
        momentum: float = 0.01,
        delay: int = 0,
        freeze_observers: int | None = None,
        freeze_batchnorm: int | None = None,
        symmetric_weights: bool = True,
    ) -> None:
        super().__init__(weight_bits, activation_bits, first_last_bits, calibration)
        if observer not in ("ema", "minmax"):
            raise ValueError(f"observer must be 'ema' or 'minmax', but got {observer!r}")
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], but got momentum={momentum}")
        for argument, steps in (
            ("delay", delay),
            ("freeze_observers", freeze_observers),
            ("freeze_batchnorm", freeze_batchnorm),
        ):
            if steps is not None and steps < 0:
                raise ValueError(f"{argument} must be a number of steps, 0 or more, but got {argument}={steps}")
        check_zero_points(symmetric_weights, per_channel)
        self.per_channel, self.symmetric, self.observer, self.momentum = per_channel, symmetric, observer, momentum
        self.symmetric_weights = symmetric_weights
        self.delay, self.freeze_observers, self.freeze_batchnorm = delay, freeze_observers, freeze_batchnorm

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        if not self.symmetric_weights:
            return RangedWeight(weight, symmetric=False)
        return MaxScaledWeight(weight, self.per_channel, norm)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        return ObservedInput(positive, self.observer, self.symmetric or self.signed_inputs, self.momentum)

    def callbacks(self) -> list[Any]:
        found = super().callbacks()
        net_q = self._last
        if self.delay:
            found.append(Delay(self.delay, net_q))
        if self.freeze_observers is not None:
            found.append(AtStep(self.freeze_observers, lambda _: freeze_observers(net_q)))
        if self.freeze_batchnorm is not None:
            found.append(AtStep(self.freeze_batchnorm, lambda arguments: freeze_batchnorm(arguments.train_network)))
        return found


class Delay(AtStep):
    """Rounds nothing before this step."""

    def __init__(self, step: int, net_q: Any) -> None:
        super().__init__(step, lambda _: self._switch(on=True))
        self.switches = [
            quantizer.fake_quant_enabled
            for layer in state_of(net_q).layers.values()
            for quantizer in (layer.weight_quantizer, layer.input_quantizer)
        ]
        self.were: list[float] = []

    def on_train_begin(self, run_context: Any) -> None:
        self.were = [float(switch.asnumpy()) for switch in self.switches]
        self._switch(on=False)

    def on_train_end(self, run_context: Any) -> None:
        self._switch(on=True)

    def _switch(self, on: bool) -> None:
        for switch, was in zip(self.switches, self.were, strict=True):
            assign(switch, was if on else 0)


def freeze_observers(net_q: Any) -> None:
    """Ranges of inputs are fixed from now on."""
    for layer in state_of(net_q).layers.values():
        if isinstance(layer.input_quantizer, ObservedInput):
            layer.input_quantizer.freeze()


def freeze_batchnorm(train_network: Any) -> None:
    """BatchNorm normalises by its running statistics from now on; the network compiles again at its next step."""
    for cell in train_network.cells():
        freeze_batchnorm(cell)
    if isinstance(train_network, nn.BatchNorm2d | nn.BatchNorm1d | nn.BatchNorm3d):
        train_network.use_batch_statistics = False
    train_network.compile_cache.clear()
