"""Cells of many operators each, with outputs of their own, over x and y (n, 4, 6, 6) and whole numbers i alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import mint, nn, ops  # noqa: E402


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


class Places(nn.Cell):
    """Elements that lists, arrays and computed numbers pick, and elements that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.two, self.table = ms.Tensor([2, 0], ms.int32), ms.Tensor(np.arange(48.0).reshape(6, 8), ms.float32)

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        first, rows = i[:, 0, 0, 0] % 4, ops.arange(x.shape[0])
        return (
            x[:, [0, 2]],
            x[:, :, [0, 2, 1]],
            x[..., [1, 3]],
            x[:, [0, 2], [1, 3]],
            x[:, self.two],
            x[:, 1:3, [0, 2]],
            x[:, 0, [1, 2], :3],
            x[:, None, [0, -1]],
            x[:, [[0, 1], [2, 3]]],
            x[rows, first],
            x[rows[:, None], i[:, 0, 0, :2] % 4],
            x[rows, -1],
            x.swapaxes(0, 1)[[2, 0]],
            self.table[i[:, 0, 0, :2], i[:, 0, 1, :2]],
            self.table[:, first],
            ops.gather_nd(self.table, i[..., :2]),
            ops.gather(x, i[:, 0, 0] % 4, 1, 1),
            x[:, ::-1],
            x[:, :, ::-2],
            x[:, 3:0:-1],
            x[:, -2::-1],
            ops.index_fill(x, 1, self.two, 0.5),
            ops.tensor_scatter_elements(x, i % 4, y, 1, "add"),
            ops.reverse_sequence(x, first + 1, 2),
        )


class Written(nn.Cell):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        out = x + 0
        if self.way == "column":
            out[:, :, 0] = y[:, :, 1]
        elif self.way == "slice":
            out[:, 1:3] = y[:, :2]
        elif self.way == "list":
            out[:, [0, 2]] = 1.0
        elif self.way == "added":
            out[..., 0] += 1.0
        else:
            out = ops.zeros((x.shape[0], 4, 6, 6), ms.float32)
            out[:, :1, 1:] = x[:, :1, :-1]
        return out


class Running(nn.Cell):
    def construct(self, x: Any, y: Any, i: Any) -> Any:
        return (
            ops.cumprod(x, 1),
            ops.cumprod(x, -1),
            ops.cummax(x, 1)[0],
            ops.cummax(ops.round(x), -1)[1],
            ops.cummin(x, 2)[0],
            ops.cummin(i, 1)[0],
            ops.logcumsumexp(x, 1),
            ops.median(x, 1)[0],
            ops.median(x, -1, True)[0],
            ops.median(x, 2)[1],
            ops.cumsum(x.swapaxes(0, 1), 0),
        )


class Functions(nn.Cell):
    def construct(self, x: Any, y: Any, i: Any) -> Any:
        small = ops.sigmoid(x)
        return (
            ops.atan2(x, y),
            ops.atan2(ops.relu(x), ops.relu(y)),
            ops.hypot(x, y),
            ops.erfc(x),
            ops.logit(small, 0.3),
            ops.sinc(x),
            ops.fmod(x, 0.7),
            ops.frac(x),
            ops.div(x, y, rounding_mode="floor"),
            ops.div(x, y, rounding_mode="trunc"),
            ops.heaviside(ops.relu(x), y),
            ops.nan_to_num(x / ops.relu(y), 1.0, 2.0, 3.0),
            ops.isfinite(x / ops.relu(y)),
            ops.isclose(x, x + ops.relu(y)),
            ops.fmax(x, ops.sqrt(y)),
            ops.acos(0.3 * small),
            i & 3,
            i | 2,
            (x > 0) & (y > 0),
            (x > 0) ^ (y > 0),
            ops.bitwise_left_shift(i, 2),
            ops.bitwise_right_shift(i - 3, 1),
            ops.AddN()((x, y, x)),
            x.masked_fill(x > 0, 0.5),
            ops.searchsorted(ms.Tensor([-1.0, 0.0, 0.0, 1.0]), ops.relu(x)),
            ops.searchsorted(ms.Tensor([-1.0, 0.0, 0.0, 1.0]), ops.relu(x), right=True),
            ops.sum(x, (1, 2), True, dtype=ms.float32),
            ops.sum(i, dtype=ms.int32),
            ops.prod(x, dtype=ms.float32),
            ops.prelu(x, ms.Tensor([0.1, 0.2, 0.3, 0.4])),
            mint.nn.functional.glu(x, 1),
            mint.nn.functional.softplus(x, 2, 3),
            mint.max(x, 1)[0],
            mint.min(x, 1, True)[1],
            mint.split(x, 2, 1)[1],
            mint.chunk(x, 3, 2)[2],
            mint.narrow(x, 2, 1, 3),
            mint.transpose(x, 1, 2),
            mint.unsqueeze(x, 1),
            mint.pow(x, 2),
            x.select(1, 2),
        )


class Windows(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.average, self.largest = nn.AdaptiveAvgPool2d((4, 5)), nn.AdaptiveMaxPool2d((4, 3))
        self.columns, self.volume = nn.AdaptiveAvgPool2d((None, 4)), nn.AdaptiveAvgPool3d((2, 4, 3))
        self.pool, self.response, self.turned = nn.MaxPool3d(2, 2), nn.LRN(2), nn.Conv3dTranspose(1, 2, 3, 2)
        self.norm = nn.BatchNorm3d(1)

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        places = ops.tanh(y.transpose((0, 2, 3, 1))[..., :2])
        volume, rows = x.expand_dims(1), x.reshape((-1, 4, 36))
        return (
            self.average(x),
            self.largest(x),
            self.columns(x),
            self.volume(volume),
            self.pool(volume),
            self.response(x),
            self.norm(volume),
            self.turned(volume),
            ops.unfold(x, (2, 3), stride=(1, 2), padding=1),
            ops.fold(ops.unfold(x, 2).reshape((-1, 4, 4, 25)), ms.Tensor([6, 6], ms.int32), 2),
            ops.interpolate(x, size=(12, 3), mode="bicubic"),
            ops.interpolate(rows, size=(50,), mode="linear"),
            ops.interpolate(rows, size=(50,), mode="linear", align_corners=True),
            ops.interpolate(x, size=(4, 4), mode="area"),
            mint.nn.functional.interpolate(x, size=(9, 12), mode="nearest"),
            ops.grid_sample(x, places),
            ops.grid_sample(x, places * 1.5, mode="nearest", padding_mode="border", align_corners=True),
        )


class Matrices(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.linear = ms.Tensor(np.eye(6, 3) + 0.1, ms.float32), mint.nn.Linear(6, 3)
        self.gamma, self.plain = ms.Tensor([1.0, 2.0, 3.0, 4.0]), mint.nn.Linear(6, 3, bias=False)

    def construct(self, x: Any, y: Any, i: Any) -> Any:
        square = x[:, 0]
        return (
            ops.diagonal(x, 1, 1, 2),
            ops.diagonal(x, 0, 2, 3),
            ops.diag_embed(square),
            ops.matrix_band_part(x, 1, 2),
            ops.matrix_band_part(x, -1, 0),
            ops.cross(x[:, :3], y[:, :3], 1),
            ops.cdist(square, y[:, 1]),
            ops.cdist(square, y[:, 1], 1.0),
            ops.norm(x, ord=3, dim=1),
            ops.norm(x, ord=float("inf"), dim=2),
            ops.linspace(0.0, 1.0, 6) + x,
            ops.meshgrid(ops.arange(6), ops.arange(6))[0] + i,
            self.linear(x),
            self.plain(x),
            mint.nn.functional.linear(square, self.weight.T, ms.Tensor([1.0, 2.0, 3.0])),
            ops.batch_norm(x, self.gamma, self.gamma + 1, self.gamma, self.gamma),
        )


CELLS = (Padding, Activations, Comparisons, Arithmetic, Reductions, Indexing)
MORE_CELLS = (Places, Running, Functions, Windows, Matrices)
