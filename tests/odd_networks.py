"""Small networks, each with one thing that is easily read wrongly."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

from .networks import conv  # noqa: E402


class UsedTwice(nn.Cell):
    """One convolution runs twice in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 8)
        self.twice = conv(8, 8)
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.twice(ops.relu(self.twice(self.first(x))))
        return self.head(ops.mean(x, (2, 3)))


class NormalisedTwice(nn.Cell):
    """One convolution and one BatchNorm run twice: on numbers of both signs, and on larger ones behind a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 8)
        self.twice = nn.SequentialCell(conv(8, 8), nn.BatchNorm2d(8))
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.twice(10 * ops.relu(self.twice(self.first(x))))
        return self.head(ops.mean(x, (2, 3)))


class ChannelsLast(nn.Cell):
    """Dense layers over the channels of images whose channels stand last, as many as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12)
        self.wide = nn.Dense(12, 24)
        self.narrow = nn.Dense(24, 12)
        self.head = nn.Dense(12, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.narrow(ops.relu(self.wide(ops.transpose(x, (0, 2, 3, 1)))))
        return self.head(ops.mean(x + ops.transpose(y, (0, 3, 1, 2)), (2, 3)))


class SeveralEnds(nn.Cell):
    """An image and a vector in; logits and a hidden tensor out."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 8, 3, 1, "pad", 1, has_bias=True)
        self.vector = nn.Dense(6, 8)
        self.hidden = nn.Dense(8, 12)
        self.head = nn.Dense(12, 4)

    def construct(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z = ops.mean(self.image(x), (2, 3)) + ops.relu(self.vector(y))
        return self.head(ops.relu(self.hidden(z))), z


class BesselFunction(nn.Cell):
    """An operator that nobody here knows; the convolution after it is free."""

    def __init__(self) -> None:
        super().__init__()
        self.before = conv(3, 8)
        self.after = conv(8, 8)
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.tanh(self.after(ops.bessel_i0(self.before(x))))
        return self.head(ops.mean(x, (2, 3)))


class WrittenSize(nn.Cell):
    """``reshape`` to a size that the code writes out: it fails as soon as a channel is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(3, 8, 3, 2)
        self.second = conv(8, 16, 3, 2)
        self.head = nn.Dense(144, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.second(ops.relu(self.first(x)))
        return self.head(x.reshape((x.shape[0], 144)))


class Gated(nn.Cell):
    """Two branches multiplied; one of them is also an output."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = conv(3, 8)
        self.value = conv(3, 8)
        self.free = conv(8, 8)
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate = ops.sigmoid(self.gate(x))
        y = ops.relu(self.free(gate * self.value(x)))
        return self.head(ops.mean(y, (2, 3))), gate


class ScaledInputs(nn.Cell):
    """Depthwise on the network's own input: its channels stay."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = conv(3, 3, 3, group=3)
        self.point = conv(3, 8, 1)
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(ops.relu(self.point(self.depthwise(x))), (2, 3)))


class JoinedThenMet(nn.Cell):
    """A concat of a wide and a narrow layer runs through a depthwise one and is added to a third."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = conv(3, 12)
        self.narrow = conv(3, 4)
        self.depthwise = conv(16, 16, 3, group=16)
        self.beside = conv(3, 16)
        self.head = nn.Dense(16, 4)

    def construct(self, x: Tensor) -> Tensor:
        y = self.depthwise(ops.concat((self.wide(x), self.narrow(x)), 1))
        return self.head(ops.mean(ops.relu(y + self.beside(x)), (2, 3)))


class Infinite(nn.Cell):
    """Outputs that are not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 8)
        self.head = nn.Dense(8, 4)

    def construct(self, x: Tensor) -> Tensor:
        return ops.log(-ops.abs(self.head(ops.mean(self.conv(x), (2, 3)))) - 1)
