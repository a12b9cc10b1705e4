"""Networks drawn from a small grammar: convolution, plain, depthwise or transposed, residual, concat, pool, shuffle,
gate, split, attention, dense."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

from tests.networks import conv  # noqa: E402

WORDS = ("conv", "depthwise", "residual", "concat", "pool", "shuffle", "gate", "split", "transposed", "attention")
SIZE = 8


def norm_act(channels: int, act: type[nn.Cell] = nn.ReLU) -> list[nn.Cell]:
    return [nn.BatchNorm2d(channels), act()]


class Conv(nn.Cell):
    """Changes the width; kernel, bias and what follows are drawn."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = int(rng.choice([6, 8, 12]))
        kernel, biased = int(rng.choice([1, 3])), bool(rng.integers(2))
        layer = nn.Conv2d(channels, self.width, kernel, 1, "pad", kernel // 2, has_bias=biased)
        act = (nn.ReLU, nn.Sigmoid, nn.HSwish, nn.Tanh)[rng.integers(4)]
        self.layers = nn.SequentialCell([layer, *(norm_act(self.width, act) if rng.integers(3) else [act()])])

    def construct(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Depthwise(nn.Cell):
    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = channels
        self.layers = nn.SequentialCell([conv(channels, channels, 3, group=channels), *norm_act(channels, nn.ReLU6)])

    def construct(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Residual(nn.Cell):
    """Around one or two convolutions."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width, inner = channels, int(rng.choice([4, 8]))
        self.first = nn.SequentialCell([conv(channels, inner, 3), *norm_act(inner)])
        self.second = nn.SequentialCell([conv(inner, channels, 1), nn.BatchNorm2d(channels)])

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(x + self.second(self.first(x)))


class Concat(nn.Cell):
    """What came in beside a convolution of it, or between two."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        grown = int(rng.choice([4, 6]))
        self.twice = bool(rng.integers(2))
        self.width = channels + grown * (1 + self.twice)
        self.left = nn.SequentialCell([conv(channels, grown, 1), *norm_act(grown)])
        self.right = nn.SequentialCell([conv(channels, grown, 3), *norm_act(grown)])

    def construct(self, x: Tensor) -> Tensor:
        if self.twice:
            return ops.concat((self.left(x), x, self.right(x)), 1)
        return ops.concat((x, self.right(x)), 1)


class Pool(nn.Cell):
    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = channels
        self.pool = nn.MaxPool2d(3, 1, "same") if rng.integers(2) else nn.AvgPool2d(2, 1, "same")

    def construct(self, x: Tensor) -> Tensor:
        return self.pool(x)


class Shuffle(nn.Cell):
    """Two grouped convolutions with a shuffle between."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = 8
        self.before = conv(channels, 12, 1)
        self.first = nn.SequentialCell([conv(12, 12, 3, group=2), *norm_act(12)])
        self.second = nn.SequentialCell([conv(12, 8, 1, group=2), *norm_act(8)])

    def construct(self, x: Tensor) -> Tensor:
        x = self.first(self.before(x))
        n, c, h, w = x.shape
        x = ops.transpose(ops.reshape(x, (n, 2, c // 2, h, w)), (0, 2, 1, 3, 4))
        return self.second(ops.reshape(x, (n, c, h, w)))


class Gate(nn.Cell):
    """Squeeze and excite."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = channels
        self.squeeze = nn.Dense(channels, 6)
        self.excite = nn.Dense(6, channels)

    def construct(self, x: Tensor) -> Tensor:
        gate = ops.sigmoid(self.excite(ops.relu(self.squeeze(ops.mean(x, (2, 3))))))
        return x * ops.reshape(gate, (gate.shape[0], -1, 1, 1))


class Split(nn.Cell):
    """Half of the channels pass by a convolution."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width = 8
        self.before = nn.SequentialCell([conv(channels, 8, 1), *norm_act(8)])
        self.branch = nn.SequentialCell([conv(4, 4, 3), *norm_act(4)])

    def construct(self, x: Tensor) -> Tensor:
        a, b = ops.chunk(self.before(x), 2, 1)
        return ops.concat((a, self.branch(b)), 1)


class Transposed(nn.Cell):
    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width, groups = 8, int(rng.choice([1, 2]))
        biased = bool(rng.integers(2))
        layer = nn.Conv2dTranspose(channels, 8, 3, 1, "same", group=groups, has_bias=biased)
        self.layers = nn.SequentialCell([layer, *norm_act(8)])

    def construct(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Attention(nn.Cell):
    """Of every pixel to every other, in heads of four channels, added to what came in."""

    def __init__(self, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.width, inner = channels, int(rng.choice([8, 12, 24]))
        self.queries, self.keys, self.values = (conv(channels, inner, 1) for _ in range(3))
        self.project = conv(inner, channels, 1)

    def construct(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        q, k, v = (ops.reshape(layer(x), (n, -1, 4, h * w)) for layer in (self.queries, self.keys, self.values))
        weights = ops.softmax(ops.matmul(ops.transpose(q, (0, 1, 3, 2)), k) * 0.5, -1)
        y = ops.matmul(v, ops.transpose(weights, (0, 1, 3, 2)))
        return x + self.project(ops.reshape(y, (n, -1, h, w)))


BLOCKS: dict[str, Any] = {
    "conv": Conv,
    "depthwise": Depthwise,
    "residual": Residual,
    "concat": Concat,
    "pool": Pool,
    "shuffle": Shuffle,
    "gate": Gate,
    "split": Split,
    "transposed": Transposed,
    "attention": Attention,
}


class Sentence(nn.Cell):
    """A stem, the words' blocks in order, then Flatten or the mean, and one or two dense layers."""

    def __init__(self, words: tuple[str, ...], seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.stem = conv(3, 8, 3, 2)
        width, blocks = 8, []
        for word in words:
            blocks.append(BLOCKS[word](width, rng))
            width = blocks[-1].width
        self.blocks = nn.SequentialCell(blocks)
        self.flattens = bool(rng.integers(2))
        self.flatten = nn.Flatten()
        features = width * (SIZE // 2) ** 2 if self.flattens else width
        self.head = nn.SequentialCell([nn.Dense(features, 10), nn.ReLU(), nn.Dense(10, 4)])

    def construct(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(self.flatten(x) if self.flattens else ops.mean(x, (2, 3)))
