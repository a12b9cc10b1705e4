"""Matrices of rotations that are not merged into weights: the gains of a norm, and inputs turned at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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


class TurnedByFactor(nn.Cell):
    """x: (..., channels), of which each ``len(factor)`` are multiplied by the factor, and become the rows of what
    follows: (-1, len(factor), channels / len(factor))."""

    def __init__(self, factor: np.ndarray, channels: int) -> None:
        super().__init__()
        self.rows = (-1, channels // len(factor), len(factor))
        self.factor = parameter(factor.T.astype(np.float32), "factor")

    def construct(self, x: Any) -> Any:
        return ops.matmul(x.reshape(self.rows), self.factor).transpose((0, 2, 1))


class TurnedInput(nn.Cell):
    """x: (..., channels) times the Kronecker product of matrices, in float: one small product for each of them.

    Each is a cell of its own: MindSpore 2.10 takes the parameters of a tuple for those of another cell of the class,
    once it has compiled a network that adds to a part of a tensor in place.
    """

    def __init__(self, factors: Sequence[np.ndarray]) -> None:
        super().__init__()
        channels = int(np.prod([len(factor) for factor in factors]))
        self.products = nn.SequentialCell([TurnedByFactor(factor, channels) for factor in reversed(factors)])

    def construct(self, x: Any) -> Any:
        return self.products(x).reshape(x.shape)
