"""Matrices of rotations that are not merged into weights: the gains of a norm, and inputs turned at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autocomp.primitives.numerics.rotations.merged import TurnedGain

from .layers import StandIn, ms, nn, ops, parameter


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


class TurnedInput(nn.Cell):
    """x: (..., channels) times the Kronecker product of matrices, in float: one small product for each of them."""

    def __init__(self, factors: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.sizes = [len(factor) for factor in reversed(factors)]
        self.channels = int(np.prod(self.sizes))
        found = [parameter(factor.T.astype(np.float32), f"factor{i}") for i, factor in enumerate(reversed(factors))]
        self.factors = ms.ParameterTuple(found)

    def construct(self, x: Any) -> Any:
        y = x
        for size, factor in zip(self.sizes, self.factors):  # noqa: B905  # GRAPH mode has no strict
            y = ops.matmul(y.reshape((-1, self.channels // size, size)), factor).transpose((0, 2, 1))
        return y.reshape(x.shape)
