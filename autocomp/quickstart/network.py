"""The network of the quick start: a small residual CNN with depthwise layers for 28x28 grey images."""

from mindspore import Tensor, nn, ops

MEAN, STD = 0.2860, 0.3530  # of the Fashion-MNIST training images, scaled to 0..1


def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1, group: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        channels_in, channels_out, kernel, stride, pad_mode="pad", padding=kernel // 2, group=group, has_bias=False
    )


class Residual(nn.Cell):
    """Two 3x3 convolutions with a shortcut around them (He et al., CVPR 2016), which has a 1x1 convolution where the
    shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(channels_in, channels_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = conv(channels_out, channels_out, 3)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU()
        self.projects = stride != 1 or channels_in != channels_out
        if self.projects:
            self.project = nn.SequentialCell(conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def construct(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (self.project(x) if self.projects else x))


class InvertedResidual(nn.Cell):
    """Expand, depthwise 3x3, project (Sandler et al., CVPR 2018)."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = conv(channels, expanded, 1)
        self.bn1 = nn.BatchNorm2d(expanded)
        self.depthwise = conv(expanded, expanded, 3, group=expanded)
        self.bn2 = nn.BatchNorm2d(expanded)
        self.project = conv(expanded, channels, 1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def construct(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn2(self.depthwise(self.relu(self.bn1(self.expand(x))))))
        return x + self.bn3(self.project(y))


class QuickstartNet(nn.Cell):
    """(n, 1, 28, 28) float32 -> (n, 10) logits; 257 thousand parameters, 16 million MACs an image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.SequentialCell(conv(1, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU())
        self.stages = nn.SequentialCell(
            Residual(32, 32, 1),
            InvertedResidual(32, 96),
            Residual(32, 64, 2),
            InvertedResidual(64, 192),
            Residual(64, 96, 1),
        )
        self.head = nn.Dense(96, 10)

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.stages(self.stem(x)), (2, 3)))
