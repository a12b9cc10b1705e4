"""Networks on which compression tools stumble, small. Each takes (n, 3, 16, 16) images; one takes a vector beside."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

import numpy as np  # noqa: E402
from mindspore import Tensor, nn, ops  # noqa: E402

from tests.networks import conv  # noqa: E402


def conv_bn(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, group: int = 1) -> nn.SequentialCell:
    cells = [conv(channels_in, channels_out, kernel, stride, group), nn.BatchNorm2d(channels_out), nn.ReLU()]
    return nn.SequentialCell(cells)


class Headed(nn.Cell):
    """A body, the mean over the image, and a dense layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Dense(channels, 5)

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def construct(self, x: Tensor) -> Tensor:
        return self.head(ops.mean(self.body(x), (2, 3)))


class DenselyConnected(Headed):
    """Every layer reads what all layers before it made: the stem's channels are consumed three times."""

    def __init__(self) -> None:
        super().__init__(32)
        self.stem = conv(3, 8)
        self.norms = nn.CellList([nn.BatchNorm2d(8 + 8 * i) for i in range(3)])
        self.layers = nn.CellList([conv(8 + 8 * i, 8) for i in range(3)])

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers):  # noqa: B905  (MindSpore compiles no strict=)
            x = ops.concat((x, layer(ops.relu(norm(x)))), 1)
        return x


class Shuffled(Headed):
    """ShuffleNet: grouped convolution, shuffle by reshape, transpose, reshape with sizes that are computed."""

    def __init__(self) -> None:
        super().__init__(16)
        self.stem = conv_bn(3, 16, 3, 2)
        self.first = conv_bn(16, 24, 1, group=2)
        self.second = conv(24, 24, 3, group=24)
        self.third = conv_bn(24, 16, 1, group=2)

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(x)
        n, c, h, w = y.shape
        y = ops.reshape(ops.transpose(ops.reshape(y, (n, 2, c // 2, h, w)), (0, 2, 1, 3, 4)), (n, c, h, w))
        return x + self.third(self.second(y))


class WrittenShuffle(Headed):
    """The same with sizes that the code writes out: they stand for the full channels."""

    def __init__(self) -> None:
        super().__init__(16)
        self.first = conv_bn(3, 24, 3, 2)
        self.second = conv_bn(24, 16)

    def body(self, x: Tensor) -> Tensor:
        y = ops.reshape(self.first(x), (x.shape[0], 2, 12, 8, 8))
        return self.second(ops.reshape(ops.transpose(y, (0, 2, 1, 3, 4)), (x.shape[0], 24, 8, 8)))


class SplitHalves(Headed):
    """ShuffleNet v2's unit: half of the channels pass by."""

    def __init__(self) -> None:
        super().__init__(16)
        self.stem = conv_bn(3, 16, 3, 2)
        self.branch = conv_bn(8, 8)

    def body(self, x: Tensor) -> Tensor:
        a, b = ops.chunk(self.stem(x), 2, 1)
        return ops.concat((a, self.branch(b)), 1)


class Inception(Headed):
    def __init__(self) -> None:
        super().__init__(28)
        self.stem = conv_bn(3, 12, 3, 2)
        self.one = conv_bn(12, 8, 1)
        self.three = nn.SequentialCell(conv_bn(12, 6, 1), conv_bn(6, 12))
        self.pooled = nn.SequentialCell(nn.AvgPool2d(3, 1, "same"), conv_bn(12, 8, 1))

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return ops.cat([branch(x) for branch in (self.one, self.three, self.pooled)], axis=1)


class SharedCell(Headed):
    """One cell held under two names and run under both, and once more from a tuple."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = conv_bn(3, 8, 3, 2)
        self.block = conv(8, 8)
        self.same = nn.SequentialCell(self.block, nn.ReLU())
        self.both = (self.block, self.same)

    def body(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        return self.both[1](ops.relu(self.both[0](x)))


class ReadsItsLayers(Headed):
    """The code asks its layers for their types and sizes, which are no inputs of any operator."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem = conv(3, 12, 3, 2)
        self.up = nn.Conv2dTranspose(12, 8, 2, 2)
        self.wide = nn.Dense(8, 12)

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.stem(x)).astype(self.up.weight.dtype)
        n, _, height, width = y.shape
        y = self.up(ops.reshape(y, (n, self.up.in_channels, height, width)))
        y = ops.relu(y + 0.0 if self.up.has_bias else y) * (self.stem.stride[0] + self.up.kernel_size[0])
        y = self.wide(ops.mean(y, (2, 3)).astype(self.wide.weight.dtype))
        return self.head(ops.relu(y).astype(self.head.weight.dtype))


class TwoInputsTwoOutputs(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.left = conv_bn(3, 16, 3, 2)
        self.right = nn.Dense(10, 16)
        self.joint = conv_bn(16, 12)
        self.classes = nn.Dense(12, 5)
        self.boxes = conv(12, 4, 1)

    def construct(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.right(y)
        x = self.joint(self.left(x) * ops.reshape(gate, (*gate.shape, 1, 1)))
        return self.classes(ops.mean(x, (2, 3))), self.boxes(x)


class UNet(nn.Cell):
    """Skip concats, a transposed convolution on one way up and nearest neighbours on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = conv_bn(3, 8)
        self.down2 = conv_bn(8, 12, 3, 2)
        self.down3 = conv_bn(12, 16, 3, 2)
        self.up = nn.Conv2dTranspose(16, 12, 2, 2, "valid", has_bias=True)
        self.middle = conv_bn(24, 8)
        self.last = conv_bn(16, 8)
        self.mask = conv(8, 2, 1)

    def construct(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(a)
        y = self.middle(ops.concat((self.up(self.down3(b)), b), 1))
        y = ops.interpolate(y, size=(16, 16), mode="nearest")
        return self.mask(self.last(ops.concat((y, a), 1)))


class Upsampler(nn.Cell):
    """Transposed convolutions of all kinds: plain, grouped, depthwise, dilated, with a padded output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 12, 3, 2)
        self.plain = nn.Conv2dTranspose(12, 8, 3, 2, "same")
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2dTranspose(8, 12, 3, 2, "pad", 1, output_padding=1, group=2, has_bias=True)
        self.depthwise = nn.Conv2dTranspose(12, 12, 2, 1, "valid", group=12)
        self.wide = nn.Conv2dTranspose(12, 6, (3, 2), (1, 2), "pad", (1, 2, 0, 1), dilation=(2, 1), has_bias=True)
        self.image = nn.Conv2dTranspose(6, 3, 1, 1)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.relu(self.norm(self.plain(self.stem(x))))
        x = self.depthwise(ops.relu(self.grouped(x)))
        return self.image(ops.tanh(self.wide(x)))


class Detector(nn.Cell):
    """Levels share a head; boxes of all levels in one row by transpose, reshape and concat."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2)
        self.deeper = conv_bn(16, 16, 3, 2)
        self.head = conv_bn(16, 8)
        self.boxes = nn.Conv2d(8, 12, 1, has_bias=True)

    def construct(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        rows = []
        for level in (first, self.deeper(first)):
            y = ops.transpose(self.boxes(self.head(level)), (0, 2, 3, 1))
            rows.append(ops.reshape(y, (y.shape[0], -1, 4)))
        return ops.concat(rows, 1)


class Gathered(Headed):
    """Channels put in another order, pixels picked by a table of positions, and a bias by another one."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = conv_bn(3, 8, 3, 2)
        self.last = conv_bn(8, 8)
        self.biases = ms.Parameter(Tensor(np.zeros((3, 1, 2), np.float32)), name="biases")
        self.order = Tensor(np.array([3, 1, 0, 2, 7, 6, 5, 4], np.int32))
        self.rows = Tensor(np.array([[0, 5], [7, 5]], np.int32))
        self.places = Tensor(np.array([2, 0, 1, 1, 2, 0, 0, 1], np.int32))

    def body(self, x: Tensor) -> Tensor:
        x = ops.gather(self.stem(x), self.order, 1)
        x = ops.mean(ops.gather(x, self.rows, 2), 3)
        bias = ops.gather(self.biases, self.places, 0)
        return self.last(x) + ops.reshape(bias, (8, 2, 1))


class SqueezeExcite(Headed):
    def __init__(self) -> None:
        super().__init__(16)
        self.stem = conv_bn(3, 16, 3, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(16, 8, 1, has_bias=True)
        self.expand = nn.Conv2d(8, 16, 1, has_bias=True)

    def body(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x * ops.hardsigmoid(self.expand(ops.relu(self.reduce(self.pool(x)))))


class Transformer(nn.Cell):
    """A ViT block by hand: class token, positions, fused q, k and v, heads, a wide MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4, has_bias=True)
        self.token = ms.Parameter(Tensor(np.zeros((1, 1, 16), np.float32)), name="token")
        self.positions = ms.Parameter(Tensor(np.zeros((1, 17, 16), np.float32)), name="positions")
        self.norm1 = nn.LayerNorm((16,))
        self.qkv = nn.Dense(16, 48)
        self.project = nn.Dense(16, 16)
        self.norm2 = nn.LayerNorm((16,))
        self.wide = nn.Dense(16, 32)
        self.narrow = nn.Dense(32, 16)
        self.head = nn.Dense(16, 5)

    def attention(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = ops.unstack(ops.transpose(ops.reshape(self.qkv(x), (n, tokens, 3, 2, 8)), (2, 0, 3, 1, 4)))
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 8**-0.5, -1)
        return self.project(ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), (n, tokens, width)))

    def construct(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        x = ops.transpose(ops.reshape(x, (x.shape[0], 16, -1)), (0, 2, 1))
        x = ops.concat((ops.broadcast_to(self.token, (x.shape[0], -1, -1)), x), 1) + self.positions
        x = x + self.attention(self.norm1(x))
        x = x + self.narrow(ops.gelu(self.wide(self.norm2(x))))
        return self.head(x[:, 0])


class LibraryAttention(nn.Cell):
    """``nn.MultiheadAttention``: it hands the weights of its own dense layers to functions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4, has_bias=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.wide = nn.Dense(16, 32)
        self.narrow = nn.Dense(32, 16)
        self.head = nn.Dense(16, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(self.patches(x).reshape(x.shape[0], 16, 16), (0, 2, 1))
        x = x + self.attention(x, x, x)[0]
        return self.head(ops.mean(x + self.narrow(ops.relu(self.wide(x))), 1))


class Recurrent(nn.Cell):
    """Rows of an image one after the other through an LSTM or a GRU."""

    def __init__(self, cell: type[nn.Cell]) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, 2)
        self.squeeze = conv_bn(8, 4, 1)
        self.recurrent = cell(32, 12, batch_first=True)
        self.head = nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(self.squeeze(self.stem(x)), (0, 2, 1, 3))
        y, _ = self.recurrent(ops.reshape(x, (x.shape[0], 8, -1)))
        return self.head(y[:, -1])


class Mixer(nn.Cell):
    """Dense layers over tokens, then over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4, has_bias=True)
        self.tokens = nn.SequentialCell(nn.Dense(16, 24), nn.GELU(), nn.Dense(24, 16))
        self.norm = nn.LayerNorm((12,))
        self.channels = nn.SequentialCell(nn.Dense(12, 32), nn.GELU(), nn.Dense(32, 12))
        self.head = nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.flatten(self.patches(x), start_dim=2)
        x = x + self.tokens(x)
        x = ops.transpose(x, (0, 2, 1))
        x = x + self.channels(self.norm(x))
        return self.head(ops.mean(x, 1))


class TrainsOtherwise(Headed):
    """An auxiliary head that exists in training only, and a loop over a dict of cells."""

    def __init__(self) -> None:
        super().__init__(8)
        self.blocks = nn.CellDict({"a": conv(3, 8, 3, 2), "b": conv(8, 8)})
        self.auxiliary = nn.Dense(8, 5)

    def body(self, x: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = ops.relu(block(x))
        return x

    def construct(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = ops.mean(self.body(x), (2, 3))
        if self.training:
            return self.head(y), self.auxiliary(y)
        return self.head(y)


class GatedEnd(nn.Cell):
    """The last layer feeds a sigmoid, which gates the image that came in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(3, 8)
        self.second = conv_bn(8, 8)
        self.last = conv(8, 3, 1)

    def construct(self, x: Tensor) -> Tensor:
        return x * ops.sigmoid(self.last(self.second(self.first(x))))


class OutsideParameters(Headed):
    """A scale for each channel, halved where it is large; a convolution whose weight is standardised as it runs."""

    def __init__(self) -> None:
        super().__init__(12)
        self.first = conv_bn(3, 8, 3, 2)
        self.scale = ms.Parameter(Tensor(np.ones((8, 1, 1), np.float32)), name="scale")
        self.second = conv_bn(8, 8)
        self.weight = ms.Parameter(Tensor(np.ones((12, 8, 3, 3), np.float32)), name="weight")
        self.third = conv_bn(12, 12)

    def body(self, x: Tensor) -> Tensor:
        scale = ops.select(self.scale < 0.5, self.scale, 0.5 * self.scale)
        x = self.second(self.first(x) * scale)
        weight = self.weight - ops.mean(self.weight, (1, 2, 3), True)
        return self.third(ops.conv2d(x, weight))


class Volumes(nn.Cell):
    """Layers of one and of three dimensions beside those of two; GroupNorm; padding and slicing of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv_bn(3, 8, 3, 2)
        self.second = conv(8, 8)
        self.norm = nn.GroupNorm(2, 8)
        self.line = nn.Conv1d(8, 6, 3)
        self.volume = nn.Conv3d(1, 2, 3)
        self.head = nn.Dense(12, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = self.norm(self.second(ops.pad(self.first(x)[:, :, 1:, ::2], (0, 1, 1, 0))))
        y = self.line(ops.mean(x, 3))
        y = self.volume(ops.reshape(y, (y.shape[0], 1, 6, y.shape[2], 1)))
        return self.head(ops.flatten(ops.mean(y, (3, 4))))


class Branching(Headed):
    """Control flow that depends on the numbers: sub-graphs in the exported graph."""

    def __init__(self) -> None:
        super().__init__(8)
        self.first = conv_bn(3, 8, 3, 2)
        self.second = conv_bn(8, 8)
        self.third = conv_bn(8, 8)

    def body(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        if ops.sum(x) > 0:
            x = x * 2
        return self.third(x)


class LSTMHead(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.LSTM)


class GRUHead(Recurrent):
    def __init__(self) -> None:
        super().__init__(nn.GRU)
