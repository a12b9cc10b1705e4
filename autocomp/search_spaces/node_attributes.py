"""The attributes of a node: what every operator has, and what a layer of a certain kind has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Pair = tuple[int, int]
WEIGHTED = ("conv", "dense")
FLOAT32 = 1  # as MindIR and ONNX number types


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

    @property
    def parameters(self) -> tuple[str, str, str, str]:
        return self.scale, self.shift, self.mean, self.variance

    @property
    def statistics(self) -> tuple[str, str]:
        return self.mean, self.variance


@dataclass(frozen=True)
class Narrowing:
    """How many channels a layer gives that only the next layer of its chain reads: a share of the chain's outputs.

    share: in (0, 1]. taps: the numbers that the layer reads from each input channel; no more channels are counted as
        outputs than it reads numbers. None: all outputs are counted. multiplier: channels that it gives for each input
        channel, whatever the outputs are; 0: a share of the outputs.
    """

    share: float = 1.0
    taps: int | None = None
    multiplier: int = 0

    def channels(self, inputs: np.ndarray | int, outputs: np.ndarray | int) -> np.ndarray:
        """inputs, outputs: channels that the chain reads and gives, of n plans."""
        if self.multiplier:
            return np.asarray(inputs, np.int64) * self.multiplier
        most = np.asarray(outputs if self.taps is None else np.minimum(outputs, np.asarray(inputs) * self.taps))
        return np.maximum(np.ceil(most * self.share), 1).astype(np.int64)


class SplitPart(NamedTuple):
    """One of the equal or unequal parts into which an operator splits its input.

    start: the part's first position on the axis of the input.
    """

    start: int
    axis: int


class Argument(NamedTuple):
    """An argument of an operator.

    kind: ``node``, ``parameter``, ``constant`` or ``tuple``. value: the index of the node, the name of the parameter,
    the constant, or the arguments in the tuple. part: which output of the node it is.
    """

    kind: str
    value: Any
    part: int = 0

    @property
    def plain(self) -> tuple[Any, ...]:
        """The tuple that stands for the argument in the key of a graph: only a node has a part there."""
        if self.kind == "node":
            return tuple(self)
        return self.kind, tuple(inner.plain for inner in self.value) if self.kind == "tuple" else self.value


@dataclass(frozen=True)
class NodeAttributes:
    """What an operator reads, how it is set, and what tracing found out about it.

    arguments: all its arguments, in order. parameters: the names of those that are parameters, in order;
        parameter_shapes: their shapes. constants: the values of those that are constants, in order.
    operator: MindSpore's attributes of the operator, by MindSpore's names.
    weight, bias: names of a layer's parameters. table: that of an embedding's parameter, (rows, width);
        tied: whether others read it, too, as a head does.
    convolution: of a convolution with a weight of its own. normalization: of a BatchNorm with statistics of its own.
    positions: of a transposed convolution, the number of pixels that it reads.
    type: of the first output, as MindIR and ONNX number types. dtypes: of all outputs, by NumPy's names.
    cell: ``"path:class"`` of the cell whose code runs the operator, empty where it is not known.
    part: of a node that is one part of a split. picked: the axes of which a slice takes one element, which are gone.
    axis: the axis of the output that has the channels, None where they were not followed. heads: whether a reshape
        makes heads that are cut whole.
    grows: the axes of the output whose sizes grow with the batch, None where the network was traced with one size.
    replaces: of a layer in a chain, the path of the layer in whose place the chain stands. narrowing: of such a layer
        before the last, how many channels it gives. form: of a layer in a chain, what the chain is: ``product``,
        ``ghost``, ``kernel``, ``grouped`` or ``separable``.
    """

    arguments: tuple[Argument, ...] = ()
    constants: tuple[Any, ...] = ()
    operator: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    parameter_shapes: tuple[tuple[int, ...], ...] = ()
    weight: str | None = None
    bias: str | None = None
    table: str | None = None
    tied: bool = False
    convolution: Convolution | None = None
    normalization: Normalization | None = None
    positions: int | None = None
    type: int = FLOAT32
    dtypes: tuple[str, ...] = ()
    cell: str = ""
    part: SplitPart | None = None
    picked: tuple[int, ...] | None = None
    axis: int | None = None
    heads: bool = False
    grows: tuple[int, ...] | None = None
    replaces: str | None = None
    narrowing: Narrowing | None = None
    form: str = ""
