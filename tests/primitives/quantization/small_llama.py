"""A Llama of two blocks with token inputs, whose activations have outliers, and tokens for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

WORDS, WIDTH, HEADS, KEY_HEADS, WIDE, LENGTH = 40, 32, 4, 2, 64, 12
DEPTH = WIDTH // HEADS
OUTLIERS = (3, 17)  # channels of the hidden stream


class RMSNorm(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = ms.Parameter(Tensor(np.ones(WIDTH, np.float32)), name="gamma")

    def construct(self, x: Any) -> Any:
        return x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + 1e-5) * self.gamma


class Attention(nn.Cell):
    """Rotary embedding of halves, two key-value heads for four heads, causal."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = (nn.Dense(WIDTH, WIDTH, has_bias=False) for _ in range(2))
        self.k, self.v = (nn.Dense(WIDTH, KEY_HEADS * DEPTH, has_bias=False) for _ in range(2))
        angle = np.outer(np.arange(LENGTH), 1e4 ** (-np.arange(0, DEPTH, 2) / DEPTH)).astype(np.float32)
        self.cos, self.sin = (Tensor(np.tile(f(angle), 2)) for f in (np.cos, np.sin))
        self.mask = Tensor(np.triu(np.full((LENGTH, LENGTH), -1e4, np.float32), 1))

    def turned(self, x: Any) -> Any:
        half = DEPTH // 2
        return x * self.cos + ops.concat((-x[..., half:], x[..., :half]), -1) * self.sin

    def heads(self, x: Any, count: int) -> Any:
        return x.reshape((x.shape[0], LENGTH, count, DEPTH)).transpose((0, 2, 1, 3))

    def construct(self, x: Any) -> Any:
        q, k = self.turned(self.heads(self.q(x), HEADS)), self.turned(self.heads(self.k(x), KEY_HEADS))
        v, share = self.heads(self.v(x), KEY_HEADS), HEADS // KEY_HEADS
        k, v = (ops.repeat_interleave(some, share, 1) for some in (k, v))
        weights = ops.softmax(ops.matmul(q, k.transpose((0, 1, 3, 2))) * DEPTH**-0.5 + self.mask, -1)
        return self.o(ops.matmul(weights, v).transpose((0, 2, 1, 3)).reshape(x.shape))


class Block(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = RMSNorm(), Attention(), RMSNorm()
        self.gate, self.up = (nn.Dense(WIDTH, WIDE, has_bias=False) for _ in range(2))
        self.down = nn.Dense(WIDE, WIDTH, has_bias=False)

    def construct(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        y = self.norm2(x)
        return x + self.down(ops.silu(self.gate(y)) * self.up(y))


class SmallLlama(nn.Cell):
    """tokens: (n, LENGTH) int32 -> logits (n, LENGTH, WORDS); the head is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.blocks, self.norm = nn.CellList([Block(), Block()]), RMSNorm()

    def construct(self, tokens: Any) -> Any:
        x = self.words(tokens)
        for block in self.blocks:
            x = block(x)
        return ops.matmul(self.norm(x), self.words.embedding_table.T)


def small_llama(seed: int = 0) -> SmallLlama:
    """Random weights; two channels of the hidden stream are 30 times as large."""
    rng, net = np.random.default_rng(seed), SmallLlama()
    for parameter in net.get_parameters():
        spread = 1.0 if parameter.name == "words.embedding_table" else parameter.shape[-1] ** -0.5
        value = rng.standard_normal(parameter.shape) * spread if parameter.ndim > 1 else rng.uniform(0.5, 1.5, WIDTH)
        if parameter.ndim == 1:
            value[list(OUTLIERS)] *= 30
        parameter.set_data(Tensor(value.astype(np.float32)))
    return net.set_train(False)


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, WORDS, (count, LENGTH)).astype(np.int32)
