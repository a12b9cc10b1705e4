"""Networks that concatenate: DenseNet, GoogLeNet, Inception v3, SqueezeNet, ShuffleNet v2; and BERT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindspore import nn, ops

from benchmarks.networks import Mean, conv, conv_bn, max_pool


class Concat(nn.Cell):
    """Runs its branches on one input, side by side."""

    def __init__(self, *branches: nn.Cell) -> None:
        super().__init__()
        self.branches = nn.CellList(list(branches))

    def construct(self, x: Any) -> Any:
        outputs: Any = ()
        for branch in self.branches:
            outputs += (branch(x),)
        return ops.cat(outputs, 1)


def chain(*cells: nn.Cell) -> nn.SequentialCell:
    return nn.SequentialCell(list(cells))


def average_pool() -> nn.Cell:
    return nn.AvgPool2d(3, 1, "same")


def densenet(blocks: Sequence[int], growth: int = 32, stem: int = 64) -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, stem, 7, 2), max_pool(3, 2, "same")]
    channels = stem
    for stage, count in enumerate(blocks):
        for _ in range(count):
            bottleneck = [
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                conv_bn(channels, 4 * growth, 1),
                conv(4 * growth, growth),
            ]
            cells.append(Concat(nn.Identity(), chain(*bottleneck)))
            channels += growth
        if stage + 1 < len(blocks):
            half = channels // 2
            cells += [nn.BatchNorm2d(channels), nn.ReLU(), conv(channels, half, 1), nn.AvgPool2d(2, 2)]
            channels = half
    return chain(*cells, nn.BatchNorm2d(channels), nn.ReLU(), Mean(), nn.Dense(channels, 1000))


def googlenet() -> nn.Cell:
    def inception(channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int) -> nn.Cell:
        return Concat(
            conv_bn(channels, one, 1),
            chain(conv_bn(channels, three[0], 1), conv_bn(three[0], three[1])),
            chain(conv_bn(channels, five[0], 1), conv_bn(five[0], five[1])),  # 3x3, as in torchvision
            chain(max_pool(3, 1, "same"), conv_bn(channels, pool, 1)),
        )

    return chain(
        *(conv_bn(3, 64, 7, 2), max_pool(3, 2, "same"), conv_bn(64, 64, 1), conv_bn(64, 192)),
        max_pool(3, 2, "same"),
        inception(192, 64, (96, 128), (16, 32), 32),
        inception(256, 128, (128, 192), (32, 96), 64),
        max_pool(3, 2, "same"),
        inception(480, 192, (96, 208), (16, 48), 64),
        inception(512, 160, (112, 224), (24, 64), 64),
        inception(512, 128, (128, 256), (24, 64), 64),
        inception(512, 112, (144, 288), (32, 64), 64),
        inception(528, 256, (160, 320), (32, 128), 128),
        max_pool(2, 2),
        inception(832, 256, (160, 320), (32, 128), 128),
        inception(832, 384, (192, 384), (48, 128), 128),
        *(Mean(), nn.Dense(1024, 1000)),
    )


def valid(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Cell:
    """A convolution without padding."""
    return chain(nn.Conv2d(channels, out, kernel, stride, "valid", has_bias=False), nn.BatchNorm2d(out), nn.ReLU())


def inception_v3() -> nn.Cell:
    def a(channels: int, pool: int) -> nn.Cell:
        return Concat(
            conv_bn(channels, 64, 1),
            chain(conv_bn(channels, 48, 1), conv_bn(48, 64, 5)),
            chain(conv_bn(channels, 64, 1), conv_bn(64, 96), conv_bn(96, 96)),
            chain(average_pool(), conv_bn(channels, pool, 1)),
        )

    def c(inner: int) -> nn.Cell:
        wide, tall = (1, 7), (7, 1)
        return Concat(
            conv_bn(768, 192, 1),
            chain(conv_bn(768, inner, 1), conv_bn(inner, inner, wide), conv_bn(inner, 192, tall)),
            chain(
                *(conv_bn(768, inner, 1), conv_bn(inner, inner, tall), conv_bn(inner, inner, wide)),
                *(conv_bn(inner, inner, tall), conv_bn(inner, 192, wide)),
            ),
            chain(average_pool(), conv_bn(768, 192, 1)),
        )

    def e(channels: int) -> nn.Cell:
        def split() -> nn.Cell:
            return Concat(conv_bn(384, 384, (1, 3)), conv_bn(384, 384, (3, 1)))

        return Concat(
            conv_bn(channels, 320, 1),
            chain(conv_bn(channels, 384, 1), split()),
            chain(conv_bn(channels, 448, 1), conv_bn(448, 384), split()),
            chain(average_pool(), conv_bn(channels, 192, 1)),
        )

    b = Concat(valid(288, 384, 3, 2), chain(conv_bn(288, 64, 1), conv_bn(64, 96), valid(96, 96, 3, 2)), max_pool(3, 2))
    d = Concat(
        chain(conv_bn(768, 192, 1), valid(192, 320, 3, 2)),
        chain(conv_bn(768, 192, 1), conv_bn(192, 192, (1, 7)), conv_bn(192, 192, (7, 1)), valid(192, 192, 3, 2)),
        max_pool(3, 2),
    )
    return chain(
        *(valid(3, 32, 3, 2), valid(32, 32, 3), conv_bn(32, 64), max_pool(3, 2), valid(64, 80, 1), valid(80, 192, 3)),
        *(max_pool(3, 2), a(192, 32), a(256, 64), a(288, 64), b, c(128), c(160), c(160), c(192), d, e(1280), e(2048)),
        *(Mean(), nn.Dense(2048, 1000)),
    )


def squeezenet(version: str) -> nn.Cell:
    def biased(channels: int, out: int, kernel: int, stride: int = 1, pad: int = 0) -> nn.Cell:
        return chain(nn.Conv2d(channels, out, kernel, stride, "pad", pad, has_bias=True), nn.ReLU())

    def fire(channels: int, squeezed: int, out: int) -> nn.Cell:
        return chain(biased(channels, squeezed, 1), Concat(biased(squeezed, out, 1), biased(squeezed, out, 3, 1, 1)))

    if version == "1_0":
        cells = [biased(3, 96, 7, 2), max_pool(3, 2), fire(96, 16, 64), fire(128, 16, 64), fire(128, 32, 128)]
        cells += [
            max_pool(3, 2, "same"),
            fire(256, 32, 128),
            fire(256, 48, 192),
            fire(384, 48, 192),
            fire(384, 64, 256),
        ]
        cells += [max_pool(3, 2), fire(512, 64, 256)]
    else:
        cells = [
            biased(3, 64, 3, 2),
            max_pool(3, 2),
            fire(64, 16, 64),
            fire(128, 16, 64),
            max_pool(3, 2),
            fire(128, 32, 128),
        ]
        cells += [fire(256, 32, 128), max_pool(3, 2), fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256)]
        cells += [fire(512, 64, 256)]
    return chain(*cells, biased(512, 1000, 1), Mean())


class ShuffleUnit(nn.Cell):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.halves = stride == 1
        inner = half if self.halves else channels
        first = [conv_bn(channels, channels, 3, 2, channels, activation=None), conv_bn(channels, half, 1)]
        self.first = nn.Identity() if self.halves else chain(*first)
        depthwise = conv_bn(half, half, 3, stride, half, activation=None)
        self.second = chain(conv_bn(inner, half, 1), depthwise, conv_bn(half, half, 1))

    def construct(self, x: Any) -> Any:
        if self.halves:
            left, right = ops.split(x, x.shape[1] // 2, 1)
        else:
            left, right = x, x
        y = ops.cat((self.first(left), self.second(right)), 1)
        n, c, h, w = y.shape
        return y.reshape((n, 2, c // 2, h, w)).swapaxes(1, 2).reshape((n, c, h, w))


def shufflenet_v2(widths: Sequence[int]) -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, 24, 3, 2), max_pool(3, 2, "same")]
    channels = 24
    for count, out in zip((4, 8, 4), widths[:3], strict=True):
        for i in range(count):
            cells.append(ShuffleUnit(channels, out, 1 if i else 2))
            channels = out
    return chain(*cells, conv_bn(channels, widths[3], 1), Mean(), nn.Dense(widths[3], 1000))


class EncoderLayer(nn.Cell):
    """One layer of BERT."""

    def __init__(self, hidden: int, heads: int, inner: int, tokens: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Dense(hidden, hidden) for _ in range(3))
        self.out, self.expand, self.contract = (
            nn.Dense(hidden, hidden),
            nn.Dense(hidden, inner),
            nn.Dense(inner, hidden),
        )
        self.norm1, self.norm2 = nn.LayerNorm((hidden,)), nn.LayerNorm((hidden,))
        self.gelu = nn.GELU()
        self.softmax = nn.Softmax(-1)
        self.split = (-1, tokens, heads, hidden // heads)
        self.scale = (hidden // heads) ** -0.5

    def heads(self, x: Any) -> Any:
        return x.reshape(self.split).transpose(0, 2, 1, 3)

    def construct(self, x: Any) -> Any:
        query, key, value = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        weights = self.softmax(ops.matmul(query, key.transpose(0, 1, 3, 2)) * self.scale)
        mixed = ops.matmul(weights, value).transpose(0, 2, 1, 3).reshape(x.shape)
        x = self.norm1(x + self.out(mixed))
        return self.norm2(x + self.contract(self.gelu(self.expand(x))))


class Bert(nn.Cell):
    """BERT-base's encoder over embedded tokens: (batch, tokens, hidden)."""

    def __init__(self, tokens: int, layers: int = 12, hidden: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((hidden,))
        self.layers = nn.SequentialCell([EncoderLayer(hidden, heads, 4 * hidden, tokens) for _ in range(layers)])

    def construct(self, x: Any) -> Any:
        return self.layers(self.norm(x))
