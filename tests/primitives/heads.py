"""Attention whose heads can be cut, as users write it."""

from __future__ import annotations

from autocomp.primitives.tracing.platform import load_mindspore

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402


class Heads(nn.Cell):
    """Attention whose code computes the number of heads from what comes in: queries, keys and values of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4, has_bias=True)
        self.queries, self.keys, self.values = nn.Dense(32, 32), nn.Dense(32, 32), nn.Dense(32, 32)
        self.project = nn.Dense(32, 32)
        self.norm = nn.LayerNorm((32,))
        self.head = nn.Dense(32, 5)

    def heads(self, x: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(x, (x.shape[0], x.shape[1], -1, 8)), (0, 2, 1, 3))

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.queries(x)), self.heads(self.keys(x)), self.heads(self.values(x))
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 8**-0.5, -1)
        y = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.project(ops.reshape(y, (y.shape[0], y.shape[1], -1)))

    def construct(self, x: Tensor) -> Tensor:
        x = ops.transpose(ops.flatten(self.patches(x), start_dim=2), (0, 2, 1))
        return self.head(ops.mean(self.norm(x + self.attention(x)), 1))


class FusedHeads(Heads):
    """One layer for queries, keys and values; heads and images on one axis, as for a batched product of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Dense(32, 96)
        self.keys = self.values = None

    def attention(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        qkv = ops.transpose(ops.reshape(self.queries(x), (n, tokens, 3, -1, 8)), (2, 0, 3, 1, 4))
        qkv = ops.reshape(qkv, (3, -1, tokens, 8))
        weights = ops.softmax(ops.bmm(qkv[0], ops.transpose(qkv[1], (0, 2, 1))) * 8**-0.5, -1)
        y = ops.transpose(ops.reshape(ops.bmm(weights, qkv[2]), (n, -1, tokens, 8)), (0, 2, 1, 3))
        return self.project(ops.reshape(y, (n, tokens, -1)))


class WrittenHeads(Heads):
    """Four heads, says the code, and computes their size: the values can lose places of every head."""

    def heads(self, x: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(x, (x.shape[0], x.shape[1], 4, -1)), (0, 2, 1, 3))


class WrittenWidth(Heads):
    """Heads of any number, but joined to a width that the code writes out."""

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.queries(x)), self.heads(self.keys(x)), self.heads(self.values(x))
        weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 8**-0.5, -1)
        return self.project(ops.reshape(ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3)), x.shape))
