"""Rounds numbers to few bits: weights per output channel and symmetric, activations per tensor and asymmetric.

    q = clip(round(x / scale) + zero_point, low, high)        x' = (q - zero_point) * scale

(Jacob et al., CVPR 2018, eq. 1; Krishnamoorthi 2018, section 2.) Rounding is half to even, as in ONNX's QuantizeLinear.
Weights use the narrow range -(2^(b-1) - 1) .. 2^(b-1) - 1 without a zero point, unless one is given. So a sign or a
positive factor of a channel (BatchNorm folding) changes only the scale, not the integers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

LEAST_SCALE = 1e-8
LEAST_FOLDED, MOST_BIAS = 1e-20, 2.0**30
MOST_PAIRED = 127.0  # levels; rounding two of them adds at most 1, and 128 * 255 fits into 16 bits
WIDER = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # scales between the narrowest and that without clipped pairs
CLIP_RATIOS = np.linspace(1.0, 0.4, 25)  # tried for the least squared error of a tensor
COARSE, FINE = (
    np.linspace(1.0, 0.4, 7),
    (0.05, -0.05, 0.025, -0.025),
)  # tried for each channel: first COARSE, then around the best


@dataclass(frozen=True)
class QuantizedWeight:
    """The weight is ``(integers - zero_point) * scale``.

    integers: in the shape of the weight, (out, ...) int8. scale: (out,) float32, or (out, parts) where each row is
        divided into equal parts of its inputs, with a scale each. zero_point: int8 in the shape of scale; None: 0.
    odd: whether the integers are 2^bits odd numbers around zero, as (-3, -1, 1, 3) of 2 bits.
    """

    integers: np.ndarray
    scale: np.ndarray
    bits: int
    zero_point: np.ndarray | None = None
    odd: bool = False

    def dequantized(self) -> np.ndarray:
        levels = self.integers.reshape(*self.scale.shape, -1).astype(np.float32)
        if self.zero_point is not None:
            levels -= self.zero_point[..., None]
        return (levels * self.scale[..., None]).reshape(self.integers.shape)

    def rows(self, kept: np.ndarray) -> QuantizedWeight:
        """kept: (out,) bool."""
        zero_point = None if self.zero_point is None else self.zero_point[kept]
        return replace(self, integers=self.integers[kept], scale=self.scale[kept], zero_point=zero_point)

    def times(self, factor: np.ndarray) -> QuantizedWeight:
        """The weight with each row multiplied by a factor, (out,), of any sign: the integers stay the same."""
        scale = self.scale * factor.reshape(-1, *[1] * (self.scale.ndim - 1))
        return replace(self, scale=scale.astype(np.float32))

    def with_positive_scale(self) -> QuantizedWeight:
        """The same weight; where a row's scale is negative, the signs of its integers are changed instead."""
        negative = self.scale < 0
        turn = negative[..., None]
        levels = self.integers.reshape(*self.scale.shape, -1)
        zero_point = self.zero_point
        if zero_point is None:
            levels = np.where(turn, -levels, levels)
        else:  # the lowest integer has no negative: ~q = -1 - q
            levels, zero_point = np.where(turn, ~levels, levels), np.where(negative, ~zero_point, zero_point)
        integers = levels.reshape(self.integers.shape)
        return replace(self, integers=integers, scale=np.abs(self.scale), zero_point=zero_point)


@dataclass(frozen=True)
class ActivationQuantizer:
    """A tensor's range in ``bits`` bits: levels 0 .. 2^bits - 1."""

    scale: float
    zero_point: int
    bits: int

    @property
    def symmetric(self) -> bool:
        """Whether the range is symmetric around zero: its levels are signed integers with zero point 0."""
        return self.zero_point == 2 ** (self.bits - 1)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest level of round(x / scale), without the zero point."""
        return float(-self.zero_point), float(2**self.bits - 1 - self.zero_point)

    @property
    def above_zero(self) -> ActivationQuantizer:
        """All levels for the part of the range above zero; a symmetric range stays."""
        if self.symmetric or not 0 < self.zero_point < 2**self.bits - 1:
            return self
        return ActivationQuantizer(self.scale * self.bounds[1] / (2**self.bits - 1), 0, self.bits)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        scale = np.float32(self.scale)
        return np.clip(np.rint(x / scale), *self.bounds).astype(np.float32) * scale


def quantize_weight(
    weight: np.ndarray, bits: int, search_clip: bool | None = None, paired: bool = False
) -> QuantizedWeight:
    """Round a weight (out, ...) to the nearest of 2^bits - 1 levels per output channel.

    search_clip: choose for every channel the clipping with the least squared error (as in Banner et al., NeurIPS 2019);
        by default below 8 bits. An all-zero channel gets scale 1.
    paired: no two neighbours among the inputs have levels whose magnitudes add up to more than 128. Processors without
        VNNI add two products of an 8-bit input and a weight in 16 bits, and would saturate.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be in 2..8, but got bits={bits}")
    top = 2 ** (bits - 1) - 1
    rows = weight.reshape(len(weight), -1).astype(np.float32)
    largest = np.abs(rows).max(1, initial=0)
    full = np.where(largest > 0, largest / top, 1).astype(np.float32)
    scale = full
    if paired and bits == 8:
        return _quantize_paired(weight, full)
    if search_clip if search_clip is not None else bits < 8:
        best, ratio = np.full(len(rows), np.inf, np.float32), np.ones(len(rows), np.float32)
        for tried in COARSE:
            best, ratio = _better(rows, full, top, best, ratio, np.full(len(rows), tried, np.float32))
        for step in FINE:
            best, ratio = _better(rows, full, top, best, ratio, np.minimum(ratio + np.float32(step), 1))
        scale = full * ratio
    return QuantizedWeight(_round(rows, scale, top).astype(np.int8).reshape(weight.shape), scale, bits)


def _quantize_paired(weight: np.ndarray, full: np.ndarray) -> QuantizedWeight:
    """full: (out,), the scales without clipping. Wider scales are tried until no pair is above the limit; of narrower
    ones the few pairs that are above it are clipped, and the least squared error decides."""
    last = np.moveaxis(weight.astype(np.float32), 1, -1)  # channels run fastest, as they are multiplied
    rows = last.reshape(len(weight), -1)
    widest = np.maximum(full, _pairs(np.abs(rows)).sum(2).max(1, initial=0) / MOST_PAIRED)
    least, levels, scale = np.full(len(rows), np.inf, np.float32), np.zeros_like(rows), full
    for share in WIDER:
        tried = (full + share * (widest - full)).astype(np.float32)
        found = _clip_pairs(_round(rows, tried, 127))
        error = ((found * tried[:, None] - rows) ** 2).sum(1)
        better = error < least
        levels[better], least = found[better], np.minimum(least, error)
        scale = np.where(better, tried, scale)
    integers = np.ascontiguousarray(np.moveaxis(levels.reshape(last.shape), -1, 1)).astype(np.int8)
    return QuantizedWeight(integers, scale, 8)


def saturates(weight: QuantizedWeight) -> bool:
    """Whether two neighbouring inputs of 255 would exceed 16 bits, see ``paired`` of :func:`quantize_weight`."""
    rows = np.abs(np.moveaxis(weight.integers.astype(np.int16), 1, -1).reshape(len(weight.integers), -1))
    return bool(_pairs(rows).sum(2).max(initial=0) > MOST_PAIRED + 1)


def with_room_for_bias(weight: QuantizedWeight, bias: np.ndarray | None, input_scale: float) -> QuantizedWeight:
    """The weight with scales so wide that the bias, (out,), is a 32-bit integer times the scales of weight and input.

    A BatchNorm that is folded in may have made a channel's weights next to nothing, and its scale 0, beside the bias:
    then the weights lose digits that the bias drowns.
    """
    positive = weight.with_positive_scale()
    needed = np.zeros_like(positive.scale) if bias is None else np.abs(bias) / (np.float32(input_scale) * MOST_BIAS)
    scale = np.maximum(np.maximum(positive.scale, needed), LEAST_FOLDED).astype(np.float32)
    ratio = (positive.scale / scale).reshape(-1, *[1] * (weight.integers.ndim - 1))
    integers = np.where(ratio < 1, np.rint(positive.integers * ratio), positive.integers).astype(np.int8)
    return QuantizedWeight(integers, scale, weight.bits + weight.odd)  # rescaled, odd integers may become even


def _pairs(rows: np.ndarray) -> np.ndarray:
    """(n, k) as (n, ceil(k / 2), 2), filled up with 0."""
    return np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)


def _clip_pairs(levels: np.ndarray) -> np.ndarray:
    """Both magnitudes of a pair are reduced by half of what is above the limit."""
    pairs = _pairs(levels)
    above = np.maximum(np.abs(pairs).sum(2, keepdims=True) - (MOST_PAIRED + 1), 0)
    clipped = np.sign(pairs) * np.maximum(np.abs(pairs) - np.ceil(above / 2), 0)
    return clipped.reshape(len(levels), -1)[:, : levels.shape[1]]


def _better(
    rows: np.ndarray, full: np.ndarray, top: int, best: np.ndarray, ratio: np.ndarray, tried: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The least squared error so far and its ratio, (rows,) each, after trying one more ratio for every row."""
    scale = full * tried
    error = ((_round(rows, scale, top) * scale[:, None] - rows) ** 2).sum(1)
    return np.minimum(best, error), np.where(error < best, tried, ratio)


def _round(rows: np.ndarray, scale: np.ndarray, top: int) -> np.ndarray:
    return np.clip(np.rint(rows / scale[:, None]), -top, top)


def fit_activation(
    samples: np.ndarray, low: float, high: float, bits: int, symmetric: bool = False
) -> ActivationQuantizer:
    """The range with the least squared error on samples of a tensor whose extremes are ``low`` and ``high``.

    The range always contains zero, which is then exact (padding). Candidates shrink both bounds together.
    symmetric: ranges symmetric around zero, for runtimes without zero points; after a ReLU half of the levels are
        unused.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    make = quantizer_around_zero if symmetric else quantizer_of_range
    candidates = [make(low * ratio, high * ratio, bits) for ratio in CLIP_RATIOS]
    errors = [float(np.mean((quantizer(samples) - samples) ** 2)) for quantizer in candidates]
    return candidates[int(np.argmin(errors))]


def quantizer_of_range(low: float, high: float, bits: int) -> ActivationQuantizer:
    """The quantizer of a range from ``low``, at most 0, to ``high``, at least 0; with any step where both are 0."""
    levels = 2**bits - 1
    scale = np.float32((high - low) / levels)
    if not 0 < scale < np.inf:
        return ActivationQuantizer(1.0, 0, bits)
    return ActivationQuantizer(float(scale), int(np.clip(np.rint(-low / scale), 0, levels)), bits)


def quantizer_around_zero(low: float, high: float, bits: int) -> ActivationQuantizer:
    """The quantizer with levels -2^(bits - 1) .. 2^(bits - 1) - 1, whose highest level is at the larger magnitude."""
    middle = 2 ** (bits - 1)
    scale = np.float32(max(high, -low) / (middle - 1))
    return ActivationQuantizer(float(scale) if 0 < scale < np.inf else 1.0, middle, bits)
