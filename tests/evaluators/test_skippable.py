"""Which blocks are found that the identity can stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.evaluators.skippable import skippable_blocks
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.tracer import trace

ms = load_mindspore()

from mindspore import nn, ops  # noqa: E402

WIDTH = 8


def conv(kernel: int = 3) -> Any:
    return nn.Conv2d(WIDTH, WIDTH, kernel, pad_mode="pad", padding=kernel // 2, has_bias=True)


class PostActivation(nn.Cell):
    """A residual block: ReLU after the addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = conv(), nn.BatchNorm2d(WIDTH), conv()

    def construct(self, x: Any) -> Any:
        return ops.relu(self.second(ops.relu(self.norm(self.first(x)))) + x)


class BranchOfItsOwn(nn.Cell):
    """An inverted residual: the branch is one cell, and nothing follows the addition."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.SequentialCell(conv(1), nn.ReLU6(), conv(3), nn.BatchNorm2d(WIDTH))

    def construct(self, x: Any) -> Any:
        return x + self.branch(x)


class Attention(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.out = nn.Dense(WIDTH, 3 * WIDTH), nn.Dense(WIDTH, WIDTH)

    def construct(self, x: Any, mask: Any = None) -> Any:
        query, key, value = ops.split(self.mixed(x), WIDTH, -1)
        scores = ops.matmul(query, key.swapaxes(-1, -2))
        return self.out(ops.matmul(ops.softmax(scores if mask is None else scores + mask, -1), value))


class PreNorm(nn.Cell):
    """A layer of a transformer with two additions; takes a mask, too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm([WIDTH]), nn.LayerNorm([WIDTH])
        self.attention, self.wide, self.narrow = Attention(), nn.Dense(WIDTH, 16), nn.Dense(16, WIDTH)

    def construct(self, x: Any, mask: Any = None) -> Any:
        x = x + self.attention(self.norm1(x), mask)
        return x + self.narrow(ops.gelu(self.wide(self.norm2(x))))


class PostNorm(nn.Cell):
    """A layer of BERT: each addition is normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm([WIDTH])

    def construct(self, x: Any, mask: Any = None) -> Any:
        return self.norm(x + self.attention(x, mask))


class SecondArgument(nn.Cell):
    """The tensor that is led past the layers is not the first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv()

    def construct(self, other: Any, x: Any) -> Any:
        return x + self.first(other)


class Projected(nn.Cell):
    """The way around has a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.around = conv(), conv(1)

    def construct(self, x: Any) -> Any:
        return self.first(x) + self.around(x)


class OfTwo(nn.Cell):
    """Returns what is inside, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv()

    def construct(self, x: Any) -> Any:
        inside = self.first(x)
        return x + inside, inside


class Images(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv()
        self.stages = nn.SequentialCell(
            nn.SequentialCell(PostActivation(), PostActivation()), Projected(), BranchOfItsOwn()
        )
        self.twice, self.pair, self.second = PostActivation(), OfTwo(), SecondArgument()

    def construct(self, x: Any) -> Any:
        x = self.twice(self.twice(self.stages(ops.relu(self.stem(x)))))
        x, inside = self.pair(x)
        return self.second(inside, x)


class Tokens(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.CellList([PreNorm(), PostNorm(), PreNorm()])
        self.head = nn.Dense(WIDTH, 3)

    def construct(self, x: Any, mask: Any) -> Any:
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x)


def _found(net: Any, *inputs: np.ndarray) -> dict[str, tuple[str, ...]]:
    for parameter in net.get_parameters():
        noise = np.random.default_rng(0).normal(size=parameter.shape).astype(np.float32)
        parameter.set_data(ms.Tensor(np.abs(noise) if "moving_variance" in parameter.name else 0.3 * noise))
    graph = trace(net, tuple(array[:1] for array in inputs))
    return {block.name: block.layers for block in skippable_blocks(net, graph, inputs)}


def test_of_images() -> None:
    """Not found: a projection, cells that run twice, that return two tensors, or whose first argument is another."""
    x = np.random.default_rng(1).normal(size=(2, WIDTH, 6, 6)).astype(np.float32)
    found = _found(Images(), x)
    assert found == {
        "stages.0.0": ("stages.0.0.first", "stages.0.0.second"),
        "stages.0.1": ("stages.0.1.first", "stages.0.1.second"),
        "stages.2": ("stages.2.branch.0", "stages.2.branch.2"),
    }


def test_of_tokens() -> None:
    rng = np.random.default_rng(1)
    found = _found(Tokens(), rng.normal(size=(2, 5, WIDTH)).astype(np.float32), np.zeros((2, 1, 5), np.float32))
    assert list(found) == ["layers.0", "layers.1", "layers.2"]
    assert found["layers.1"] == ("layers.1.attention.mixed", "layers.1.attention.out")


@pytest.mark.parametrize("outputs", [4, 5])
def test_none_where_shapes_differ(outputs: int) -> None:
    class Plain(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.SequentialCell(nn.Dense(4, 6), nn.ReLU(), nn.Dense(6, outputs))

        def construct(self, x: Any) -> Any:
            return self.layers(x)

    assert _found(Plain(), np.ones((2, 4), np.float32)) == {}
