"""The networks of the published measurements, in MindSpore layers, as torchvision defines them (1000 classes).

Built, not trained: a cost model asks for shapes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mindspore import nn, ops


def conv(channels: int, out: int, kernel: int | tuple[int, int] = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    pad = (height // 2, height // 2, width // 2, width // 2)
    return nn.Conv2d(channels, out, kernel, stride, "pad", pad, group=groups, has_bias=False)


def conv_bn(
    channels: int,
    out: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Cell] | None = nn.ReLU,
) -> nn.SequentialCell:
    cells: list[nn.Cell] = [conv(channels, out, kernel, stride, groups), nn.BatchNorm2d(out)]
    return nn.SequentialCell(cells + ([activation()] if activation else []))


def max_pool(kernel: int, stride: int, mode: str = "valid") -> nn.Cell:
    """Mode "same" has the shapes of torchvision's padded or ceiling pools here."""
    return nn.MaxPool2d(kernel, stride, mode)


class Mean(nn.Cell):
    """Global average pool."""

    def construct(self, x: Any) -> Any:
        return ops.mean(x, (2, 3))


class Residual(nn.Cell):
    def __init__(self, body: nn.Cell, shortcut: nn.Cell | None = None, activation: nn.Cell | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation or nn.Identity()

    def construct(self, x: Any) -> Any:
        return self.activation(self.body(x) + self.shortcut(x))


def resnet(blocks: Sequence[int], bottleneck: bool = True, groups: int = 1, base_width: int = 64) -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, 64, 7, 2), max_pool(3, 2, "same")]
    channels = 64
    for stage, count in enumerate(blocks):
        planes = 64 << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            out = planes * (4 if bottleneck else 1)
            if bottleneck:
                width = planes * base_width // 64 * groups
                parts = [
                    conv_bn(channels, width, 1),
                    conv_bn(width, width, 3, stride, groups),
                    conv_bn(width, out, 1, activation=None),
                ]
            else:
                parts = [conv_bn(channels, planes, 3, stride), conv_bn(planes, planes, 3, activation=None)]
            same = stride == 1 and channels == out
            shortcut = None if same else conv_bn(channels, out, 1, stride, activation=None)
            cells.append(Residual(nn.SequentialCell(parts), shortcut, nn.ReLU()))
            channels = out
    return nn.SequentialCell([*cells, Mean(), nn.Dense(channels, 1000)])


VGG = {
    11: (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    13: (64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
    19: (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0),
}


def vgg(depth: int, norm: bool = False) -> nn.Cell:
    cells: list[nn.Cell] = []
    channels = 3
    for width in VGG[depth]:
        if not width:
            cells.append(max_pool(2, 2))
            continue
        if norm:
            cells.append(conv_bn(channels, width))
        else:
            cells += [nn.Conv2d(channels, width, 3, 1, "pad", 1, has_bias=True), nn.ReLU()]
        channels = width
    head = [nn.Flatten(), nn.Dense(512 * 49, 4096), nn.ReLU(), nn.Dense(4096, 4096), nn.ReLU(), nn.Dense(4096, 1000)]
    return nn.SequentialCell(cells + head)


def alexnet() -> nn.Cell:
    def part(channels: int, out: int, kernel: int, stride: int, pad: int) -> list[nn.Cell]:
        return [nn.Conv2d(channels, out, kernel, stride, "pad", pad, has_bias=True), nn.ReLU()]

    cells = [*part(3, 64, 11, 4, 2), max_pool(3, 2), *part(64, 192, 5, 1, 2), max_pool(3, 2)]
    cells += [*part(192, 384, 3, 1, 1), *part(384, 256, 3, 1, 1), *part(256, 256, 3, 1, 1), max_pool(3, 2)]
    head = [nn.Flatten(), nn.Dense(9216, 4096), nn.ReLU(), nn.Dense(4096, 4096), nn.ReLU(), nn.Dense(4096, 1000)]
    return nn.SequentialCell(cells + head)


def mobilenet_v1() -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, 32, 3, 2)]
    channels = 32
    for out, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ):
        cells += [conv_bn(channels, channels, 3, stride, channels), conv_bn(channels, out, 1)]
        channels = out
    return nn.SequentialCell([*cells, Mean(), nn.Dense(channels, 1000)])


class SqueezeExcite(nn.Cell):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1, has_bias=True)
        self.excite = nn.Conv2d(squeezed, channels, 1, has_bias=True)
        self.silu = nn.SiLU()
        self.sigmoid = nn.Sigmoid()

    def construct(self, x: Any) -> Any:
        gate = ops.mean(x, (2, 3), keep_dims=True)
        return x * self.sigmoid(self.excite(self.silu(self.squeeze(gate))))


def inverted_residual(
    channels: int,
    out: int,
    kernel: int,
    stride: int,
    expand: int,
    activation: Callable[[], nn.Cell],
    squeeze: bool = False,
) -> nn.Cell:
    inner = channels * expand
    cells: list[nn.Cell] = [] if expand == 1 else [conv_bn(channels, inner, 1, activation=activation)]
    cells.append(conv_bn(inner, inner, kernel, stride, inner, activation))
    if squeeze:
        cells.append(SqueezeExcite(inner, max(1, channels // 4)))
    cells.append(conv_bn(inner, out, 1, activation=None))
    body = nn.SequentialCell(cells)
    return Residual(body) if stride == 1 and channels == out else body


def mobilenet_v2() -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, 32, 3, 2, activation=nn.ReLU6)]
    channels = 32
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, out, count, stride in table:
        for i in range(count):
            cells.append(inverted_residual(channels, out, 3, 1 if i else stride, expand, nn.ReLU6))
            channels = out
    return nn.SequentialCell([*cells, conv_bn(320, 1280, 1, activation=nn.ReLU6), Mean(), nn.Dense(1280, 1000)])


def mnasnet(alpha: float) -> nn.Cell:
    def scaled(width: int) -> int:
        rounded = max(8, int(width * alpha + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * width * alpha else rounded + 8

    first, second = scaled(32), scaled(16)
    cells = [conv_bn(3, first, 3, 2), conv_bn(first, first, 3, 1, first), conv_bn(first, second, 1, activation=None)]
    channels = second
    table = (
        (24, 3, 3, 2, 3),
        (40, 3, 5, 2, 3),
        (80, 3, 5, 2, 6),
        (96, 2, 3, 1, 6),
        (192, 4, 5, 2, 6),
        (320, 1, 3, 1, 6),
    )
    for width, count, kernel, stride, expand in table:
        for i in range(count):
            cells.append(inverted_residual(channels, scaled(width), kernel, 1 if i else stride, expand, nn.ReLU))
            channels = scaled(width)
    return nn.SequentialCell([*cells, conv_bn(channels, 1280, 1), Mean(), nn.Dense(1280, 1000)])


def efficientnet(depth: float) -> nn.Cell:
    cells: list[nn.Cell] = [conv_bn(3, 32, 3, 2, activation=nn.SiLU)]
    channels = 32
    table = [(1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1)]
    table += [(6, 192, 4, 5, 2), (6, 320, 1, 3, 1)]
    for expand, out, count, kernel, stride in table:
        for i in range(-int(-count * depth // 1)):
            block = inverted_residual(channels, out, kernel, 1 if i else stride, expand, nn.SiLU, True)
            cells.append(block)
            channels = out
    return nn.SequentialCell([*cells, conv_bn(320, 1280, 1, activation=nn.SiLU), Mean(), nn.Dense(1280, 1000)])
