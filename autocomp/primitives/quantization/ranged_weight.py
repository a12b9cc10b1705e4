"""Weights with a zero point, or with a scale for each part of a row (group-wise)."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import ops

from autocomp.primitives.cells.fake_quant import WeightFakeQuant, assign, number, rounded
from autocomp.primitives.cells.layers import parameter
from autocomp.primitives.numerics.quantizers import CLIP_RATIOS, LEAST_SCALE, QuantizedWeight
from autocomp.primitives.numerics.weight_grids import parts_of


class RangedWeight(WeightFakeQuant):
    """The scale follows the extremes of each row, or of each part of it, at every step, multiplied by a ratio.

        symmetric: scale = ratio max|w| / top,                levels -top .. top,          top = 2^(b-1) - 1
        else:      scale = ratio (high - low) / (2^b - 1),    levels -zero .. 2^b - 1 - zero,
                   zero = round(-ratio low / scale), low = min(w, 0), high = max(w, 0)

    (Krishnamoorthi 2018, section 2.1 and 2.2.) The ratio is the one with the least squared error on the weight when the
    bits are set (``clip="mse"``), or 1 ("max"; also at 8 bits).
    inputs: at most so many inputs share a scale, None: all of a row; where a layer's inputs are not a multiple of it,
        its largest divisor is used.
    """

    def __init__(self, like: np.ndarray, symmetric: bool = True, inputs: int | None = None, clip: str = "mse") -> None:
        super().__init__(like, per_channel=True)
        self.shape = like.shape
        self.parts = parts_of(like.shape[1], inputs)
        self.scale_shape = (len(like), self.parts, 1)
        self.symmetric, self.clip = symmetric, clip
        self.levels = number(255, "levels")
        self.ratio = parameter(np.ones(self.scale_shape, np.float32), "ratio")

    def construct(self, weight: Any) -> Any:
        parted = weight.reshape((*self.scale_shape[:2], -1))
        scale, zero = self._scale_and_zero(ops.stop_gradient(parted))
        return rounded(parted, scale, *self._bounds(zero), self.fake_quant_enabled).reshape(self.shape)

    def _bounds(self, zero: Any) -> tuple[Any, Any]:
        return (-self.quant_max, self.quant_max) if self.symmetric else (-zero, self.levels - zero)

    def _scale_and_zero(self, parted: Any) -> tuple[Any, Any]:
        if self.symmetric:
            largest = ops.amax(ops.abs(parted), 2, keepdims=True)
            return ops.maximum(largest * self.ratio / self.quant_max, LEAST_SCALE), 0
        low = ops.minimum(ops.amin(parted, 2, keepdims=True), 0.0) * self.ratio
        high = ops.maximum(ops.amax(parted, 2, keepdims=True), 0.0) * self.ratio
        scale = ops.maximum((high - low) / self.levels, LEAST_SCALE)
        return scale, ops.floor(-low / scale + 0.5)

    def set_bits(self, bits: int, weight: np.ndarray) -> None:
        assign(self.levels, 2 ** min(bits, 8) - 1)
        super().set_bits(bits, weight)

    def start(self, bits: int, weight: np.ndarray) -> None:
        if self.clip == "max" or bits >= 8:
            assign(self.ratio, np.ones(self.scale_shape))
            return
        parted = weight.reshape(*self.scale_shape[:2], -1)
        best, ratio = np.full(self.scale_shape, np.inf), np.ones(self.scale_shape, np.float32)
        for tried in CLIP_RATIOS.astype(np.float32):
            scale, zero = self._numpy_scale_and_zero(parted, np.full(self.scale_shape, tried))
            error = ((self._numpy_levels(parted, scale, zero) - zero) * scale - parted) ** 2
            total = error.sum(2, keepdims=True)
            best, ratio = np.minimum(best, total), np.where(total < best, tried, ratio)
        assign(self.ratio, ratio)

    def quantized(self, weight: np.ndarray) -> QuantizedWeight | None:
        if not float(self.fake_quant_enabled.asnumpy()):
            return None
        parted = weight.reshape(*self.scale_shape[:2], -1)
        scale, zero = self._numpy_scale_and_zero(parted, self.ratio.asnumpy())
        levels = self._numpy_levels(parted, scale, zero)
        offset = 0 if self.symmetric else (int(self.levels.asnumpy()) + 1) // 2  # int8 has negative integers, too
        form = (len(weight),) if self.parts == 1 else scale.shape[:2]
        point = None if self.symmetric else (zero - offset).astype(np.int8).reshape(form)
        integers = (levels - offset).astype(np.int8).reshape(weight.shape)
        return QuantizedWeight(integers, scale.reshape(form), self.bits, point)

    def _numpy_scale_and_zero(self, parted: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same as in training, operation by operation."""
        least = np.float32(LEAST_SCALE)
        if self.symmetric:
            largest = np.abs(parted).max(2, keepdims=True)
            scale = np.maximum(largest * ratio / self.quant_max.asnumpy(), least).astype(np.float32)
            return scale, np.zeros_like(scale)
        low = np.minimum(parted.min(2, keepdims=True), 0) * ratio
        high = np.maximum(parted.max(2, keepdims=True), 0) * ratio
        scale = np.maximum((high - low) / self.levels.asnumpy(), least).astype(np.float32)
        return scale, np.floor(-low / scale + np.float32(0.5)).astype(np.float32)

    def _numpy_levels(self, parted: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
        """Levels from 0 where there is a zero point, otherwise around 0."""
        top = self.quant_max.asnumpy() if self.symmetric else self.levels.asnumpy()
        low = -top if self.symmetric else np.zeros_like(zero)
        return np.clip(np.rint(parted * (1 / scale)) + zero, low, top)


def check_zero_points(symmetric_weights: bool, per_channel: bool) -> None:
    if not symmetric_weights and not per_channel:
        raise ValueError(
            "symmetric_weights=False needs per_channel=True: a zero point belongs to a channel's scale, "
            "into which the BatchNorm after it is folded"
        )
