"""Cells of many operators each, with outputs of their own, over x and y (n, 4, 6, 6) and whole numbers i alike."""

from __future__ import annotations

from typing import Any

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402


class Padding(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.reflection, self.replication = nn.ReflectionPad2d((1, 2, 1, 0)), nn.ReplicationPad2d(1)
        self.rows, self.filled = nn.ReflectionPad1d(2), nn.ConstantPad2d((1, 1, 0, 2), 0.5)
        self.symmetric = nn.Pad(((0, 0), (0, 0), (1, 2), (0, 1)), "SYMMETRIC")
        self.reflect = nn.Pad(((0, 0), (0, 0), (1, 2), (0, 1)), "REFLECT")

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            self.reflection(x),
            self.replication(x),
            self.rows(x.reshape((-1, 24, 6))),
            self.filled(x),
            self.symmetric(x),
            self.reflect(x),
            ops.pad(x, (1, 2, 3, 1), mode="circular"),
            ops.pad(x, (1, 2, 3, 1), mode="reflect"),
            ops.pad(x, (0, 2, 3, 1), mode="replicate"),
            ops.pad(x, (1, 2)),
            ops.pad(y, (1, 2, 0, 0, 1, 1), mode="circular"),
            ops.pad(i, (1, 2), value=7),
        )


class Activations(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.selu, self.celu, self.celu2 = nn.SeLU(), nn.CELU(), nn.CELU(0.7)
        self.hard, self.hard2, self.soft, self.soft2 = (
            nn.HShrink(),
            nn.HShrink(0.3),
            nn.SoftShrink(),
            nn.SoftShrink(0.2),
        )
        self.fast, self.threshold, self.sigmoid = nn.FastGelu(), nn.Threshold(0.1, 0.3), nn.LogSigmoid()
        self.hardtanh, self.elu, self.glu, self.softsign = nn.Hardtanh(-0.5, 0.7), nn.ELU(), nn.GLU(1), nn.Softsign()
        self.leaky, self.mish, self.tanhshrink = nn.LeakyReLU(0.3), nn.Mish(), nn.Tanhshrink()

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            self.selu(x),
            self.celu(x),
            self.celu2(x),
            self.hard(x),
            self.hard2(x),
            self.soft(x),
            self.soft2(x),
            self.fast(x),
            self.threshold(x),
            self.sigmoid(x),
            self.hardtanh(x),
            self.elu(x),
            self.glu(x),
            self.softsign(x),
            self.leaky(x),
            self.mish(x),
            self.tanhshrink(x),
            ops.softplus(x),
            ops.softplus(x, 2, 3),
            ops.gelu(x),
            ops.clamp(x, -0.1, 0.5),
            ops.clamp(x, 0.0),
            ops.clamp(x, max=0.2),
            ops.clamp(x, y, y + 1),
            ops.clip_by_value(x, -0.2, 0.2),
            ops.clamp(i, 1, 4),
        )


class Comparisons(nn.Cell):
    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            ops.where(x > 0, x, 0.1 * x),
            ops.where(x >= y, x, y),
            ops.where(i == 3, x, y * 2),
            ops.where(ops.logical_and(x > 0, y <= 0), x, 1.0),
            ops.where(i != 2, i, 7),
            ops.masked_fill(x, x < 0, 0.0),
            ops.masked_fill(x, ops.logical_xor(x > 0, y > 0), 1.5),
            ops.masked_fill(i, i > 3, -1),
            ops.logical_or(x > 0, i < 3),
            ops.logical_not(x > 0.2),
            i >= 2,
            x != y,
            ops.maximum(x, y),
            ops.minimum(i, 3),
        )


class Arithmetic(nn.Cell):
    """Operands of mixed types among them: MindSpore promotes."""

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            ops.sign(x),
            ops.round(3 * x),
            ops.ceil(x),
            ops.floor(x),
            ops.trunc(3 * x),
            ops.log1p(ops.abs(x)),
            ops.expm1(x),
            x % 0.7,
            x // 0.7,
            ops.floor_mod(x, 0.3 + ops.abs(y)),
            ops.lerp(x, y, 0.3),
            ops.addcmul(x, x, y, 0.5),
            ops.tan(x),
            ops.atan(x),
            ops.sinh(x),
            ops.asin(0.3 * ops.tanh(x)),
            ops.pow(ops.abs(x), 1.5),
            x * i,
            i + 1,
            i * 2.5,
            i - y,
            i // 4,
            i % 4,
            (i - 3) // 2,
            (i - 3) % 2,
            i / 4,
            i * (x > 0),
            x.astype(ms.int32) + i,
            (x > 0).astype(ms.float32) - y,
            ops.square(i),
            ops.abs(i - 3),
            i.astype(ms.int64) * 3,
            ops.sub(x, i),
        )


class Reductions(nn.Cell):
    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            ops.max(x, 1)[0],
            ops.max(x, 1)[1],
            ops.min(x, -1)[0],
            ops.min(x, 1, True)[1],
            ops.amax(x, (2, 3)),
            ops.amin(x, (2, 3), keepdims=True),
            ops.std(x, (2, 3)),
            ops.std(x, 1, keepdims=True),
            ops.std(x, 1, 0),
            ops.var(x, 1, 1),
            ops.argmax(x, 1),
            ops.argmin(x, -1),
            ops.argmax(x, 2, True),
            ops.prod(x, 3),
            ops.norm(x, dim=1),
            ops.logsumexp(x, 1),
            ops.any(x > 1, 1),
            ops.all(x > -1, 1),
            ops.sum(x > 0, 1),
            ops.sum(i, 2),
            x.max(axis=2),
            x.mean((1, 2)),
            ops.cumsum(x, 2),
            ops.cumsum(x, -1),
            ops.count_nonzero(i, (1,)),
        )


class Indexing(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.to_space, self.to_depth = ops.DepthToSpace(2), ops.SpaceToDepth(2)
        self.shuffle, self.unshuffle, self.channels = nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2)
        self.sort = ops.Sort(axis=2, descending=True)
        self.exclusive = ops.CumSum(exclusive=True, reverse=True)

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            self.to_space(x),
            self.to_depth(x),
            self.shuffle(x),
            self.unshuffle(x),
            self.channels(x),
            ops.flip(x, (3,)),
            ops.flip(x, (1, 2)),
            ops.topk(x, 2, 1)[0],
            ops.topk(x, 2, 1)[1],
            ops.topk(x, 3, dim=-1, largest=False)[0],
            ops.gather_elements(x, 3, i),
            ops.gather_elements(x, 1, ops.minimum(i, 3)),
            ops.gather_elements(x, 3, ops.zeros(x.shape, ms.int32)),
            self.sort(x)[0],
            self.sort(x)[1],
            self.exclusive(x, 2),
            ops.tril(x),
            ops.triu(x, 1),
            ops.one_hot(i, 6),
            ops.narrow(x, 2, 1, 3),
            ops.index_select(x, 1, ops.arange(2)),
            x[:, 1:, ::2],
            x[:, :, -1],
        )


CELLS = (Padding, Activations, Comparisons, Arithmetic, Reductions, Indexing)
