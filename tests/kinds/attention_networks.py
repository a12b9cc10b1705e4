"""Attention as networks write it: windows with a bias and a mask, shared keys and values, MindSpore's own cell."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

import numpy as np  # noqa: E402
from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from autocomp.primitives import open_attention  # noqa: E402
from tests.networks import Tokens, randomised  # noqa: E402
from tests.primitives.heads import FusedHeads, Heads  # noqa: E402

TOKENS, HEADS, WIDE = 16, 2, 8
WIDTH = HEADS * WIDE


class Windows(nn.Cell):
    """Swin: four windows of four tokens, shifted, one layer for queries, keys and values, a bias for each place, and a
    mask for each window."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.mix, self.norm = nn.Dense(WIDTH, 3 * WIDTH), nn.Dense(WIDTH, WIDTH), nn.LayerNorm((WIDTH,))
        self.bias = Parameter(Tensor(np.zeros((1, 1, HEADS, 4, 4), np.float32)), name="bias")
        mask = np.zeros((1, 4, 1, 4, 4), np.float32)
        mask[:, 3, :, 2:, :2] = mask[:, 3, :, :2, 2:] = -100
        self.mask = Tensor(mask)
        self.product, self.turned = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)

    def construct(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        shifted = ops.concat((x[:, 2:], x[:, :2]), 1)
        qkv = self.qkv(shifted).reshape((b, 4, 4, 3, HEADS, WIDE)).transpose((3, 0, 1, 4, 2, 5))
        q, k, v = qkv[0] * WIDE**-0.5, qkv[1], qkv[2]
        weights = ops.softmax(self.turned(q, k) + self.bias + self.mask, -1)
        mixed = self.product(weights, v).transpose((0, 1, 3, 2, 4)).reshape((b, TOKENS, WIDTH))
        return self.norm(x + self.mix(ops.concat((mixed[:, -2:], mixed[:, :-2]), 1)))


class Shared(nn.Cell):
    """A language model's: two heads of queries share the keys and values of one; a token sees those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.queries, self.keys, self.values = nn.Dense(WIDTH, WIDTH), nn.Dense(WIDTH, WIDE), nn.Dense(WIDTH, WIDE)
        self.mix = nn.Dense(WIDTH, WIDTH, has_bias=False)
        angles = np.arange(TOKENS)[:, None] / 10.0 ** np.arange(WIDE // 2)
        self.cos, self.sin = (Tensor(np.tile(f(angles), 2).astype(np.float32)) for f in (np.cos, np.sin))
        self.mask = Tensor(np.triu(np.full((TOKENS, TOKENS), -1e4, np.float32), 1))

    def turn(self, x: Tensor) -> Tensor:
        half = WIDE // 2
        return x * self.cos + ops.concat((-x[..., half:], x[..., :half]), -1) * self.sin

    def construct(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        q = self.turn(self.queries(x).reshape((b, TOKENS, HEADS, WIDE)).transpose((0, 2, 1, 3)))
        k = self.turn(self.keys(x).reshape((b, TOKENS, 1, WIDE)).transpose((0, 2, 1, 3)))
        v = self.values(x).reshape((b, TOKENS, 1, WIDE)).transpose((0, 2, 1, 3))
        k, v = (ops.broadcast_to(one, (b, HEADS, TOKENS, WIDE)) for one in (k, v))
        weights = ops.softmax(ops.matmul(q, k.swapaxes(-1, -2)) * WIDE**-0.5 + self.mask, -1)
        return x + self.mix((weights @ v).transpose((0, 2, 1, 3)).reshape((b, TOKENS, WIDTH)))


class Own(nn.Cell):
    """MindSpore's own cell of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def construct(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x)[0]


class Encoder(nn.Cell):
    """Images in patches, a block of attention, and classes. attention: (n, tokens, width) -> the same."""

    def __init__(self, attention: nn.Cell) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, WIDTH, 3, 3, has_bias=True), attention
        self.head = nn.Dense(WIDTH, 5)

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(ops.flatten(self.patches(x), start_dim=2), (0, 2, 1))
        return self.head(ops.mean(self.attention(x), 1))


def network(name: str) -> nn.Cell:
    """``vit fused swin shared opened bert``, with random weights; ``bert`` takes tokens, the others images."""
    made = {
        "vit": Heads,
        "fused": FusedHeads,
        "swin": lambda: Encoder(Windows()),
        "shared": lambda: Encoder(Shared()),
        "opened": lambda: open_attention(Encoder(Own())),
        "bert": Tokens,
    }[name]()
    return randomised(made)
