"""The attributes of a node, by kind of operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """The window of a convolution.

    kernel, stride, dilation: (vertical, horizontal), pixels. pad: (top, bottom, left, right), pixels. groups: the
    number of parts of the channels that are convolved apart. transposed: it spreads each pixel that it reads.
    """

    kernel: Pair
    stride: Pair
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    transposed: bool = False

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Convolution:
        return cls(**{name: attributes[name] for name in cls.__dataclass_fields__ if name in attributes})


@dataclass(frozen=True)
class Normalization:
    """A BatchNorm: the names of its four parameters, each (channels,), and the constant that is added to the variance.

    ``y = scale * (x - mean) / sqrt(variance + epsilon) + shift``
    """

    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Normalization:
        scale, shift, mean, variance = attributes["parameters"][:4]
        return cls(scale, shift, mean, variance, attributes["epsilon"])

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        return self.scale, self.shift, self.mean, self.variance

    @property
    def statistics(self) -> tuple[str, str]:
        return self.mean, self.variance


class Argument(NamedTuple):
    """An argument of an operator.

    kind: ``node``, ``parameter``, ``constant`` or ``tuple``. value: the index of the node, the name of the parameter,
    the constant, or the arguments in the tuple. part: which output of the node it is.
    """

    kind: str
    value: Any
    part: int = 0

    @classmethod
    def of(cls, stored: tuple[Any, ...]) -> Argument:
        """The argument for a node's plain tuple, which lacks the part where there is none."""
        kind, value, *part = stored
        return cls(kind, tuple(map(cls.of, value)) if kind == "tuple" else value, *part)
