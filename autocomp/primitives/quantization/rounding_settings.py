"""The settings of RTN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autocomp.primitives.numerics.calibrators import Calibration

Clip = Literal["mse", "max"]


@dataclass(frozen=True)
class RoundingSettings:
    """The arguments of :class:`autocomp.primitives.quantization.rtn.RTN`, which explains them."""

    weight_bits: int = 8
    activation_bits: int = 8
    first_last_bits: int | None = None
    calibration: Calibration = "mse"
    per_channel: bool = True
    symmetric: bool = False
    clip: Clip = "mse"
    symmetric_weights: bool = True
    group_size: int | None = None
