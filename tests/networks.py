"""Small networks for tests, each with what compression tools stumble over."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

import numpy as np  # noqa: E402
from mindspore import Tensor, nn, ops  # noqa: E402

SIZE = 12

WORDS, LENGTH = 50, 9  # of Tokens


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, "pad", kernel // 2, group=group, has_bias=False)


class ResidualBlock(nn.Cell):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(channels_in, channels_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.SequentialCell(conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def construct(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(ops.relu(self.bn1(self.conv1(x)))))
        return ops.relu(y + self.shortcut(x))


class Residual(nn.Cell):
    """Residual stages with projections, a biased stem without BatchNorm, global mean, dense."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, has_bias=True)
        self.blocks = nn.SequentialCell(ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2))
        self.head = nn.Dense(32, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.blocks(ops.relu(self.stem(x))), (2, 3)))


class Concatenating(nn.Cell):
    """Branches of several widths joined by a concat, then Flatten before a dense layer, BatchNorm1d after it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU())
        self.narrow = nn.SequentialCell(conv(16, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.SequentialCell(conv(16, 24), nn.BatchNorm2d(24), nn.PReLU(24))
        self.pool = nn.MaxPool2d(2, 2)
        self.join = nn.SequentialCell(conv(48, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.flatten = nn.Flatten()
        self.hidden = nn.Dense(16 * 9, 20)
        self.norm = nn.BatchNorm1d(20)
        self.head = nn.Dense(20, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = ops.concat((self.narrow(x), x, self.wide(x)), 1)
        x = self.flatten(self.pool(self.join(x)))
        return self.head(ops.relu(self.norm(self.hidden(x))))


class Depthwise(nn.Cell):
    """Inverted residual with a squeeze-and-excite gate, and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.HSwish())
        self.expand = nn.SequentialCell(conv(16, 32, 1), nn.BatchNorm2d(32), nn.HSwish())
        self.depthwise = nn.SequentialCell(conv(32, 32, 3, group=32), nn.BatchNorm2d(32), nn.ReLU6())
        self.squeeze = nn.Dense(32, 8)
        self.excite = nn.Dense(8, 32)
        self.project = nn.SequentialCell(conv(32, 16, 1), nn.BatchNorm2d(16))
        self.grouped = nn.SequentialCell(conv(16, 24, 3, group=4), nn.BatchNorm2d(24), nn.ReLU())
        self.head = nn.Dense(24, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        gate = ops.sigmoid(self.excite(ops.relu(self.squeeze(ops.mean(y, (2, 3))))))
        y = y * gate.reshape(gate.shape[0], -1, 1, 1)
        x = self.grouped(x + self.project(y))
        return self.head(ops.mean(x, (2, 3)))


class Swish(nn.Cell):
    """SiLU as two operators, as networks of collections write it."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def construct(self, x: Tensor) -> Tensor:
        return x * self.sigmoid(x)


class Curved(nn.Cell):
    """Functions like a ReLU behind a BatchNorm, behind a biased layer, before a gate, in a block and behind a dense
    layer; one of them runs twice and one belongs to a cell with layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(3, 16, 3, 2), nn.BatchNorm2d(16), Swish())
        self.expand = nn.SequentialCell(conv(16, 32, 1), nn.BatchNorm2d(32), nn.HSwish())
        self.depthwise = nn.SequentialCell(conv(32, 32, 3, group=32), nn.BatchNorm2d(32), nn.HSwish())
        self.squeeze, self.excite = nn.Dense(32, 8), nn.Dense(8, 32)
        self.project = nn.SequentialCell(conv(32, 16, 1), nn.BatchNorm2d(16))
        self.wide = nn.Conv2d(16, 24, 3, 1, "pad", 1, has_bias=True)
        self.leaky = nn.LeakyReLU(0.1)
        self.hidden, self.gelu, self.head = nn.Dense(24, 24), nn.GELU(), nn.Dense(24, 5)
        self.twice = nn.SiLU()

    def construct(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        gate = ops.sigmoid(self.excite(self.twice(self.squeeze(ops.mean(y, (2, 3))))))
        x = x + self.project(y * gate.reshape(gate.shape[0], -1, 1, 1))
        x = ops.mean(self.leaky(self.wide(x)), (2, 3))
        return self.head(self.twice(ops.elu(self.gelu(self.hidden(x)))))


class Encoder(nn.Cell):
    """Two layers of ``nn.TransformerEncoder``, four heads each, over the patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4, has_bias=True)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(ops.flatten(self.patches(x), start_dim=2), (0, 2, 1))
        return self.head(ops.mean(self.encoder(x), 1))


class Sounds(nn.Cell):
    """Convolutions of one dimension (plain, depthwise, grouped, transposed, padded) over an image's rows, with and
    without BatchNorm1d behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv1d(6, 16, 5, 2), nn.BatchNorm1d(16)
        self.depthwise, self.norm2 = nn.Conv1d(16, 16, 3, 1, "pad", 1, group=16), nn.BatchNorm1d(16)
        self.wide = nn.Conv1d(16, 32, 3, 1, "pad", 2, 2, has_bias=True)
        self.grouped = nn.Conv1d(32, 32, 3, 2, "valid", group=4, has_bias=True)
        self.up = nn.Conv1dTranspose(32, 12, 4, 2, has_bias=True)
        self.padded, self.norm3 = nn.Conv1dTranspose(12, 8, 3, 2, "pad", 1), nn.BatchNorm1d(8)
        self.head = nn.Dense(8, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = x.reshape((x.shape[0], 6, 72))
        x = ops.relu(self.norm2(self.depthwise(ops.relu(self.norm(self.stem(x))))))
        x = ops.relu(self.up(ops.relu(self.grouped(ops.relu(self.wide(x))))))
        return self.head(ops.mean(ops.relu(self.norm3(self.padded(x))), 2))


class WithIdentity(nn.Cell):
    """A residual block whose shortcut is the identity, with a ReLU behind the addition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels), nn.BatchNorm2d(channels)

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(self.bn2(self.conv2(ops.relu(self.bn1(self.conv1(x))))) + x)


class Inverted(nn.Cell):
    """An inverted residual: its branch is a cell, and nothing follows the addition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.SequentialCell(
            conv(channels, 2 * channels, 1), nn.BatchNorm2d(2 * channels), nn.ReLU6(),
            conv(2 * channels, 2 * channels, 3, group=2 * channels), nn.BatchNorm2d(2 * channels), nn.ReLU6(),
            conv(2 * channels, channels, 1), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def construct(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Small(nn.Cell):
    """Two convolutions and a head: what compiles in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(3, 24), nn.BatchNorm2d(24), nn.ReLU())
        self.body = nn.SequentialCell(conv(24, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU())
        self.head = nn.Dense(32, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.body(self.stem(x)), (2, 3)))


class Deep(nn.Cell):
    """Blocks that can be skipped, with one between them that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(3, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.first = nn.SequentialCell(WithIdentity(16), WithIdentity(16))
        self.down = nn.SequentialCell(conv(16, 24, 3, 2), nn.BatchNorm2d(24))
        self.second = nn.SequentialCell(Inverted(24), Inverted(24))
        self.head = nn.Dense(24, 5)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.second(self.down(self.first(self.stem(x)))), (2, 3)))


class Tokens(nn.Cell):
    """An embedding of 50 words and one of their places, one layer of attention, a dense head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, 16), nn.Embedding(LENGTH, 16)
        self.at = Tensor(np.arange(LENGTH), ms.int32)
        self.query, self.key, self.value, self.mix = (nn.Dense(16, 16) for _ in range(4))
        self.norm, self.head = nn.LayerNorm((16,)), nn.Dense(16, 5)

    def construct(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places(self.at)
        b, n, _ = x.shape
        q, k, v = (
            layer(x).reshape((b, n, 2, 8)).transpose((0, 2, 1, 3)) for layer in (self.query, self.key, self.value)
        )
        scores = ops.softmax(ops.matmul(q, k.transpose((0, 1, 3, 2))) * 8**-0.5, -1)
        mixed = ops.matmul(scores, v).transpose((0, 2, 1, 3)).reshape((b, n, 16))
        return self.head(self.norm(self.mix(mixed) + x).mean(1))


OTHERS = {"sounds": Sounds, "deep": Deep, "tokens": Tokens, "curved": Curved}
NETWORKS = {"residual": Residual, "concatenating": Concatenating, "depthwise": Depthwise}


def randomised(net: nn.Cell, seed: int = 0) -> nn.Cell:
    """With weights and BatchNorm statistics as a trained network might have them: none is 0 or 1, some are negative."""
    rng = np.random.default_rng(seed)
    for name, parameter in net.parameters_and_names():
        shape, kind = parameter.shape, name.rpartition(".")[2]
        if kind == "moving_variance":
            value = rng.uniform(0.5, 2, shape)
        elif kind == "gamma":
            value = rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, 1, -1], shape)
        elif kind in ("beta", "moving_mean", "bias"):
            value = rng.normal(0, 0.3, shape)
        elif kind == "w":
            value = rng.uniform(0.1, 0.4, shape)
        else:
            value = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return net.set_train(False)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, WORDS, (count, LENGTH)).astype(np.int32)
