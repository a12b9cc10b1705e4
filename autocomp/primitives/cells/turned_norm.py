"""A norm whose gains are a matrix."""

from __future__ import annotations

from typing import Any

from autocomp.primitives.numerics.rotations.merged import TurnedGain

from .layers import StandIn, nn, ops, parameter


class TurnedGains(nn.Cell):
    """x: (..., channels) times a matrix, (channels, channels), and a shift. It is no layer: it stays in float."""

    def __init__(self, gain: TurnedGain) -> None:
        super().__init__()
        self.matrix, self.has_shift = parameter(gain.matrix, "matrix"), gain.shift is not None
        if gain.shift is not None:
            self.shift = parameter(gain.shift, "shift")

    def construct(self, x: Any) -> Any:
        y = ops.matmul(x, self.matrix)
        return y + self.shift if self.has_shift else y


class TurnedNorm(StandIn, nn.SequentialCell):
    """A norm, and its gains behind it."""

    layer_name = "0"
