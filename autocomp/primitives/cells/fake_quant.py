"""Rounding inside a network that trains: the forward pass rounds, the backward pass uses the gradient without rounding.

    y = ((clip(x * (1 / s), low, high) + R) - R) * s,    R = 1.5 * 2^23

Next to R float32 has no bits for a fraction. So the addition rounds, half to even, and the subtraction restores the
level. Both have gradient 1, so automatic differentiation of this line alone gives

* the straight-through estimator (Bengio et al. 2013), with the clipped gradient of Jacob et al. 2018 (section 3), and
* for a step s that trains, dy/ds = round(x / s) - x / s inside the bounds and the bound outside: LSQ's gradient (Esser
  et al., ICLR 2020, eq. 3).

No custom gradient is needed, so it runs the same in graph and PyNative mode and can be exported. With ``enabled`` = 0
the numbers are not rounded. Bits, and whether rounding is enabled, are parameters, so that another plan compiles
nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer, QuantizedWeight, quantize_weight
from autocomp.search_spaces import FLOAT_BITS

from .layers import NO_BOUND, ROUNDER, ms, parameter

REACH = 0.4  # largest distance of a weight to the level it must round to, in steps


def to_steps(x: Any, scale: Any, enabled: Any) -> Any:
    """x rounded to the nearest multiple of scale; x must be within the bounds already."""
    rounder = enabled * ROUNDER
    step = enabled * scale + (1 - enabled)
    return ((x * (1 / step) + rounder) - rounder) * step


def rounded(x: Any, scale: Any, low: Any, high: Any, enabled: Any, bounded_below: bool = True) -> Any:
    """x rounded to a level of a quantizer.

    x: any shape; scale: broadcasts to x; low, high: scalars, the lowest and highest level; enabled: 1, or 0 for no
        rounding.
    bounded_below: False where x is never below the lowest level, which saves an operation on x.
    """
    rounder = enabled * ROUNDER
    step = enabled * scale + (1 - enabled)
    far = (1 - enabled) * NO_BOUND
    levels = ops.minimum(x * (1 / step), high + far)
    if bounded_below:
        levels = ops.maximum(levels, low - far)
    return ((levels + rounder) - rounder) * step


def scaled_gradient(x: Any, factor: Any) -> Any:
    """x, with a gradient that is multiplied by ``factor``."""
    held = ops.stop_gradient(x)
    return held + (x - held) * factor


def number(value: float, name: str, trains: bool = False) -> Any:
    return parameter(np.float32(value), name, trains)


def assign(target: Any, value: Any) -> None:
    """Sets a parameter so that compiled graphs always use the new value, unlike ``set_data``."""
    ops.assign(target, ms.Tensor(np.asarray(value, np.float32).reshape(target.shape)))


class WeightFakeQuant(nn.Cell):
    """Rounds a layer's weight. Subclasses define its scale.

    like: (out, ...) float32, the weight when the layer is wrapped. ``quant_max``: the highest integer.
    """

    def __init__(self, like: np.ndarray, per_channel: bool) -> None:
        super().__init__()
        self.per_channel = per_channel
        self.scale_shape = (len(like), *[1] * (like.ndim - 1)) if per_channel else (1,) * like.ndim
        self.quant_max = number(127, "top")
        self.fake_quant_enabled = number(0, "on")

    def set_bits(self, bits: int, weight: np.ndarray) -> None:
        """bits: 2 to 8, or 32 for no rounding."""
        assign(self.fake_quant_enabled, bits < FLOAT_BITS)
        if bits < FLOAT_BITS:
            assign(self.quant_max, 2 ** (bits - 1) - 1)
            self.start(bits, weight)

    def start(self, bits: int, weight: np.ndarray) -> None:
        """Sets the first scale for this number of bits."""
        raise NotImplementedError

    def adapted(self, weight: np.ndarray, hessian: np.ndarray, quick: bool) -> np.ndarray:
        """Sets the scale for the least error of the layer's output, and returns a weight that rounds to the levels for
        it.

        The arguments are those of :func:`autocomp.primitives.numerics.adaptive_rounding.adaptive_rounding`.
        """
        return weight

    def scale_of(self, weight: np.ndarray) -> np.ndarray:
        """(out,) float32: the scale of the trained weight."""
        raise NotImplementedError

    @property
    def bits(self) -> int:
        return (
            int(np.log2(float(self.quant_max.asnumpy()) + 1)) + 1
            if float(self.fake_quant_enabled.asnumpy())
            else FLOAT_BITS
        )

    def quantized(self, weight: np.ndarray) -> QuantizedWeight | None:
        """The rounded weight in integers; None without rounding."""
        if self.bits == FLOAT_BITS:
            return None
        quant_max, scale = float(self.quant_max.asnumpy()), self.scale_of(weight)
        column = scale.reshape(-1, *[1] * (weight.ndim - 1))
        integers = np.clip(np.rint(weight / column), -quant_max, quant_max).astype(np.int8)
        return QuantizedWeight(integers, scale, self.bits)

    def _best_scale(self, bits: int, weight: np.ndarray) -> np.ndarray:
        """The scale with the least squared error, in the shape ``scale_shape``."""
        rows = weight if self.per_channel else weight.reshape(1, -1)
        return quantize_weight(rows, bits).scale.reshape(self.scale_shape)


def within_reach(weight: np.ndarray, found: QuantizedWeight, top: int, step: int = 1) -> np.ndarray:
    """The nearest weight that lies safely within the bin of the given level.

    top: the highest level. step: the distance of two levels. Both in integers.
    """
    unit = found.scale.reshape(-1, *[1] * (weight.ndim - 1))
    reach, integers = REACH * step * unit, found.integers.astype(np.float32)
    low = np.where(integers == -top, -np.inf, integers * unit - reach)
    high = np.where(integers == top, np.inf, integers * unit + reach)
    return np.clip(weight, low, high).astype(np.float32)


class InputFakeQuant(nn.Cell):
    """Rounds a layer's input, with one scale for the tensor.

    positive: the input is never negative (the output of a ReLU); its levels then start at 0.
    """

    def __init__(self, positive: bool) -> None:
        super().__init__()
        self.positive = positive
        self.fake_quant_enabled = number(0, "on")
        self.levels = number(255, "levels")

    def set_bits(self, bits: int) -> None:
        """bits: 2 to 8, or 32 for no rounding."""
        assign(self.fake_quant_enabled, bits < FLOAT_BITS)
        if bits < FLOAT_BITS:
            assign(self.levels, 2**bits - 1)

    def start(self, quantizer: ActivationQuantizer) -> None:
        """Start from the range that calibration found."""
        raise NotImplementedError

    def scale_and_zero_point(self) -> tuple[float, int]:
        raise NotImplementedError

    @property
    def bits(self) -> int:
        return (
            int(np.log2(float(self.levels.asnumpy()) + 1)) if float(self.fake_quant_enabled.asnumpy()) else FLOAT_BITS
        )

    def quantizer(self) -> ActivationQuantizer | None:
        return None if self.bits == FLOAT_BITS else ActivationQuantizer(*self.scale_and_zero_point(), self.bits)


class SymmetricInput(InputFakeQuant):
    """Levels 0 .. 2^b - 1 where the input is never negative, else -2^(b-1) .. 2^(b-1) - 1, with zero point 0."""

    def __init__(self, positive: bool) -> None:
        super().__init__(positive)
        self.low = number(0 if positive else -128, "low")
        self.high = number(255 if positive else 127, "high")

    def set_bits(self, bits: int) -> None:
        super().set_bits(bits)
        if bits < FLOAT_BITS:
            low = 0 if self.positive else -(2 ** (bits - 1))
            assign(self.low, low)
            assign(self.high, 2**bits - 1 + low)

    @property
    def zero_point(self) -> int:
        return -int(self.low.asnumpy())

    def largest(self, quantizer: ActivationQuantizer) -> float:
        """The largest magnitude of a range."""
        low, high = quantizer.bounds
        return max(high, 0.0 if self.positive else -low) * quantizer.scale


class RowInput(InputFakeQuant):
    """Rounds each row of a tensor (..., channels) with the scale of its own largest magnitude, symmetric."""

    def __init__(self) -> None:
        super().__init__(positive=False)

    def construct(self, x: Any) -> Any:
        top = (self.levels - 1) * 0.5
        largest = ops.stop_gradient(ops.amax(ops.abs(x), -1, keepdims=True))
        return rounded(x, ops.maximum(largest / top, LEAST_SCALE), -top, top, self.fake_quant_enabled)

    def start(self, quantizer: ActivationQuantizer) -> None:
        """Nothing: ranges are found while the network runs."""

    def quantizer(self) -> ActivationQuantizer | None:
        return None
