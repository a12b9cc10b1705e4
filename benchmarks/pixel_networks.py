"""Networks that answer for pixels or boxes: U-Net, YOLOX-s; and CSPResNeXt-50. As their papers' code defines them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mindspore import nn, ops

from benchmarks.branching_networks import Concat, chain
from benchmarks.networks import Mean, Residual, conv_bn, max_pool


class Level(nn.Cell):
    """One level of a U-Net: what is below it, brought to its size, beside its own tensor."""

    def __init__(self, channels: int, size: int, below: nn.Cell) -> None:
        super().__init__()
        double = 2 * channels
        self.down = chain(max_pool(2, 2), twice(channels, double), below)
        self.up = nn.Conv2dTranspose(double, channels, 2, 2, pad_mode="valid", has_bias=True)
        self.out = twice(double, channels)
        self.missing = (0, size % 2, 0, size % 2)

    def construct(self, x: Any) -> Any:
        y = self.up(self.down(x))
        if self.missing[1]:
            y = ops.pad(y, self.missing)
        return self.out(ops.cat((x, y), 1))


def twice(channels: int, out: int) -> nn.Cell:
    return chain(conv_bn(channels, out), conv_bn(out, out))


def unet(size: int = 572) -> nn.Cell:
    """With transposed convolutions, and borders that are padded."""
    sizes = [size // 2**level for level in range(4)]
    below: nn.Cell = nn.Identity()
    for level in reversed(range(4)):
        below = Level(64 * 2**level, sizes[level], below)
    return chain(twice(3, 64), below, nn.Conv2d(64, 1, 1, has_bias=True))


class Focus(nn.Cell):
    """Every second pixel becomes a channel."""

    def construct(self, x: Any) -> Any:
        corners = (x[:, :, ::2, ::2], x[:, :, 1::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, 1::2])
        return ops.cat(corners, 1)


def silu(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Cell:
    return conv_bn(channels, out, kernel, stride, activation=nn.SiLU)


def cross_stage(channels: int, out: int, count: int, shortcut: bool = True) -> nn.Cell:
    half = out // 2

    def block() -> nn.Cell:
        body = chain(silu(half, half, 1), silu(half, half))
        return Residual(body) if shortcut else body

    long = chain(silu(channels, half, 1), *(block() for _ in range(count)))
    return chain(Concat(long, silu(channels, half, 1)), silu(out, out, 1))


def spatial_pyramid(channels: int) -> nn.Cell:
    half = channels // 2
    pools = (nn.MaxPool2d(kernel, 1, "same") for kernel in (5, 9, 13))
    return chain(silu(channels, half, 1), Concat(nn.Identity(), *pools), silu(4 * half, channels, 1))


class Head(nn.Cell):
    """Boxes, objects and classes of one scale."""

    def __init__(self, channels: int, classes: int = 80, width: int = 128) -> None:
        super().__init__()
        self.stem = silu(channels, width, 1)
        self.of_class, self.of_box = (chain(silu(width, width), silu(width, width)) for _ in range(2))
        self.classes, self.box, self.found = (nn.Conv2d(width, n, 1, has_bias=True) for n in (classes, 4, 1))
        self.sigmoid = nn.Sigmoid()

    def construct(self, x: Any) -> Any:
        x = self.stem(x)
        boxes = self.of_box(x)
        parts = (self.box(boxes), self.sigmoid(self.found(boxes)), self.sigmoid(self.classes(self.of_class(x))))
        y = ops.cat(parts, 1)
        return y.reshape((y.shape[0], y.shape[1], -1))


class Yolox(nn.Cell):
    """YOLOX-s: depth 0.33 and width 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.early = chain(Focus(), silu(12, 32), silu(32, 64, 3, 2), cross_stage(64, 64, 1), silu(64, 128, 3, 2))
        self.dark3 = cross_stage(128, 128, 3)
        self.dark4 = chain(silu(128, 256, 3, 2), cross_stage(256, 256, 3))
        self.dark5 = chain(silu(256, 512, 3, 2), spatial_pyramid(512), cross_stage(512, 512, 1, False))
        self.narrow5, self.narrow4 = silu(512, 256, 1), silu(256, 128, 1)
        self.up4, self.up3 = cross_stage(512, 256, 1, False), cross_stage(256, 128, 1, False)
        self.wider3, self.wider4 = silu(128, 128, 3, 2), silu(256, 256, 3, 2)
        self.down4, self.down5 = cross_stage(256, 256, 1, False), cross_stage(512, 512, 1, False)
        self.heads = nn.CellList([Head(channels) for channels in (128, 256, 512)])

    def construct(self, x: Any) -> Any:
        x3 = self.dark3(self.early(x))
        x4 = self.dark4(x3)
        top = self.narrow5(self.dark5(x4))
        middle = self.narrow4(self.up4(ops.cat((larger(top), x4), 1)))
        out3 = self.up3(ops.cat((larger(middle), x3), 1))
        out4 = self.down4(ops.cat((self.wider3(out3), middle), 1))
        out5 = self.down5(ops.cat((self.wider4(out4), top), 1))
        found = (self.heads[0](out3), self.heads[1](out4), self.heads[2](out5))
        return ops.cat(found, 2).swapaxes(1, 2)


def larger(x: Any) -> Any:
    """Twice as high and wide, by the nearest pixel."""
    return ops.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="nearest")


class CrossStage(nn.Cell):
    """Blocks on half of the channels, beside the other half."""

    def __init__(self, channels: int, out: int, count: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        down = [leaky(channels, channels, 3, stride, 32)] if stride > 1 else []
        self.before = chain(*down, conv_bn(channels, out, 1, activation=None))
        self.blocks = chain(*(grouped(half) for _ in range(count)), leaky(half, half, 1))
        self.after = leaky(out, out, 1)

    def construct(self, x: Any) -> Any:
        left, right = ops.split(self.before(x), self.after[0].in_channels // 2, 1)
        return self.after(ops.cat((left, self.blocks(right)), 1))


def leaky(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Cell:
    return conv_bn(channels, out, kernel, stride, groups, nn.LeakyReLU)


def grouped(channels: int) -> nn.Cell:
    parts = [leaky(channels, channels, 1), leaky(channels, channels, 3, 1, 32)]
    return Residual(chain(*parts, conv_bn(channels, channels, 1, activation=None)), activation=nn.LeakyReLU())


def cspresnext50() -> nn.Cell:
    cells: list[nn.Cell] = [leaky(3, 64, 7, 2), max_pool(3, 2, "same")]
    channels = 64
    for out, count, stride in ((256, 3, 1), (512, 3, 2), (1024, 5, 2), (2048, 2, 2)):
        cells.append(CrossStage(channels, out, count, stride))
        channels = out
    return chain(*cells, Mean(), nn.Dense(channels, 1000))


NETWORKS: dict[str, Callable[[], nn.Cell]] = {"unet": unet, "yolox_s": Yolox, "cspresnext50": cspresnext50}
