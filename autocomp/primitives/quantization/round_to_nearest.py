"""Rounding to nearest with fixed ranges: the cells that RTN applies to a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.cells.fake_quant import InputFakeQuant, WeightFakeQuant, assign

from .ranged_weight import RangedWeight, check_zero_points
from .rounding_settings import Clip, RoundingSettings
from .simqat import MaxScaledWeight, ObservedInput
from .trained_quantization import TrainedQuantization


class ClippedWeight(MaxScaledWeight):
    """clip: "mse": the scale of the least squared error for any number of bits; "max": the scale of the largest
    magnitude."""

    def __init__(self, like: np.ndarray, per_channel: bool, norm: Any, clip: Clip) -> None:
        super().__init__(like, per_channel, norm)
        self.clip = clip

    def start(self, bits: int, weight: np.ndarray) -> None:
        super().start(bits, weight)
        if self.clip == "max":
            assign(self.ratio, np.ones(self.scale_shape))


class RoundToNearest(TrainedQuantization):
    """See :class:`autocomp.primitives.quantization.rtn.RTN`."""

    name = "rtn"

    def __init__(
        self,
        settings: RoundingSettings,
    ) -> None:
        super().__init__(settings.weight_bits, settings.activation_bits, settings.first_last_bits, settings.calibration)
        per_channel, clip, group_size = settings.per_channel, settings.clip, settings.group_size
        if clip not in ("mse", "max"):
            raise ValueError(f"clip must be 'mse' or 'max', but got {clip!r}")
        if group_size is not None and (group_size < 1 or not per_channel):
            raise ValueError(
                "group_size must be 1 or more inputs of a channel (per_channel=True), or None, "
                f"but got group_size={group_size}, per_channel={per_channel}"
            )
        check_zero_points(settings.symmetric_weights, per_channel)
        self.per_channel, self.symmetric, self.clip = per_channel, settings.symmetric, clip
        self.symmetric_weights, self.group_size = settings.symmetric_weights, group_size

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        if self.group_size is not None or not self.symmetric_weights:
            return RangedWeight(weight, self.symmetric_weights, self.group_size, self.clip)
        return ClippedWeight(weight, self.per_channel, norm, self.clip)

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        found = ObservedInput(positive, "minmax", self.symmetric or self.signed_inputs, 1.0)
        found.freeze()
        return found

    def callbacks(self) -> list[Any]:
        """There are none, since there is no training."""
        return []
