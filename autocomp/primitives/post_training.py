"""Rounding to nearest with ranges that stay: what RTN applies to a network."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .calibrators import Calibration
from .rounding import Input, Weight, assign
from .simqat import MaxScaledWeight, ObservedInput
from .trained_quantization import TrainedQuantization

Clip = Literal["mse", "max"]


class ClippedWeight(MaxScaledWeight):
    """clip: "mse": the scale of the least squared error at any number of bits; "max": the largest magnitude's."""

    def __init__(self, like: np.ndarray, per_channel: bool, norm: Any, clip: Clip) -> None:
        super().__init__(like, per_channel, norm)
        self.clip = clip

    def start(self, bits: int, weight: np.ndarray) -> None:
        super().start(bits, weight)
        if self.clip == "max":
            assign(self.ratio, np.ones(self.scale_shape))


class Rounded(TrainedQuantization):
    """See :class:`autocomp.primitives.rtn.RTN`."""

    name = "rtn"

    def __init__(
        self,
        weight_bits: int,
        activation_bits: int,
        ends_bits: int | None,
        calibration: Calibration,
        per_channel: bool,
        symmetric: bool,
        clip: Clip,
    ) -> None:
        super().__init__(weight_bits, activation_bits, ends_bits, calibration)
        if clip not in ("mse", "max"):
            raise ValueError(f"clip must be 'mse' or 'max', but got {clip!r}")
        self.per_channel, self.symmetric, self.clip = per_channel, symmetric, clip

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> Weight:
        return ClippedWeight(weight, self.per_channel, norm, self.clip)

    def input_quantizer(self, positive: bool) -> Input:
        found = ObservedInput(positive, "minmax", self.symmetric, 1.0)
        found.freeze()
        return found
