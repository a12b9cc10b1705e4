"""Networks whose MACs and parameters are published. Only traced: a forward pass would take long."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

from .networks import conv  # noqa: E402


def conv_bn(channels_in: int, channels_out: int, kernel: int, stride: int = 1, group: int = 1) -> list[nn.Cell]:
    return [conv(channels_in, channels_out, kernel, stride, group), nn.BatchNorm2d(channels_out)]


class Bottleneck(nn.Cell):
    """With the stride in its 3x3, as in torchvision."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        parts = [*conv_bn(channels, planes, 1), nn.ReLU(), *conv_bn(planes, planes, 3, stride), nn.ReLU()]
        self.body = nn.SequentialCell(*parts, *conv_bn(planes, 4 * planes, 1))
        self.projects = stride > 1 or channels != 4 * planes
        if self.projects:
            self.project = nn.SequentialCell(*conv_bn(channels, 4 * planes, 1, stride))

    def construct(self, x: Tensor) -> Tensor:
        return ops.relu(self.body(x) + (self.project(x) if self.projects else x))


class ResNet50(nn.Cell):
    """He et al., CVPR 2016; torchvision: 25,557,032 parameters, 4.09 G MACs at 224 x 224."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(*conv_bn(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, "same"))
        blocks, channels = [], 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for i in range(count):
                blocks.append(Bottleneck(channels, 64 << stage, 2 if stage and not i else 1))
                channels = 256 << stage
        self.blocks = nn.SequentialCell(*blocks)
        self.head = nn.Dense(2048, 1000)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.blocks(self.stem(x)), (2, 3)))


class InvertedResidual(nn.Cell):
    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = channels * expand
        parts = [*conv_bn(channels, wide, 1), nn.ReLU6()] if expand > 1 else []
        parts += [*conv_bn(wide, wide, 3, stride, wide), nn.ReLU6(), *conv_bn(wide, out, 1)]
        self.body = nn.SequentialCell(*parts)
        self.adds = stride == 1 and channels == out

    def construct(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Cell):
    """Sandler et al., CVPR 2018; torchvision: 3,504,872 parameters, 0.300 G MACs at 224 x 224."""

    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        cells, channels = [*conv_bn(3, 32, 3, 2), nn.ReLU6()], 32
        for expand, out, count, stride in self.STAGES:
            for i in range(count):
                cells.append(InvertedResidual(channels, out, stride if i == 0 else 1, expand))
                channels = out
        self.features = nn.SequentialCell(*cells, *conv_bn(channels, 1280, 1), nn.ReLU6())
        self.head = nn.Dense(1280, 1000)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.features(x), (2, 3)))
