"""The first and the last layer of networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.tracing.tracer import trace
from tests.conftest import Subject
from tests.networks import Tensor, nn, np, ops
from tests.primitives.adversarial import Branching, LibraryAttention, LSTMHead, UNet


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("residual", {"stem", "head"}),
        ("concatenating", {"stem.0", "head"}),
        ("depthwise", {"stem.0", "head"}),
    ],
)
def test_skips_and_branches(named_subject: Callable[[str], Subject], name: str, ends: set[str]) -> None:
    assert first_and_last(named_subject(name).graph) == ends


class Skipping(nn.Cell):
    """Skips past the first layer and past the last one, in front of a Softmax; one layer runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.last = (nn.Dense(8, 8) for _ in range(3))

    def construct(self, x: Tensor) -> Tensor:
        x = self.inner(ops.relu(self.inner(x + self.first(ops.tanh(x)))))
        return ops.softmax(x + self.last(ops.relu(x)), -1)


class Looking(nn.Cell):
    """Two layers behind an embedding; the hidden numbers are an output, too, through a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8)
        self.inner, self.hidden, self.head = (nn.Dense(8, 8) for _ in range(3))

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.relu(self.hidden(self.inner(ops.mean(self.table(x), 1))))
        return self.head(y), y


def flattening() -> nn.Cell:
    hidden = [nn.Dense(64, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 4)]
    return nn.SequentialCell(nn.Flatten(), *hidden, nn.Softmax())


@pytest.mark.parametrize(
    ("net", "shape", "ends"),
    [
        (flattening, (1, 1, 8, 8), {"1", "5"}),
        (Skipping, (1, 8), {"first", "last"}),
        (Skipping, (1, 5, 8), {"first", "last"}),
        (UNet, (1, 3, 16, 16), {"down1.0", "mask"}),
        (LibraryAttention, (1, 3, 16, 16), {"patches", "head"}),
        (Branching, (1, 3, 16, 16), {"first.0", "head"}),
        (LSTMHead, (1, 3, 16, 16), {"stem.0", "head"}),
    ],
)
def test_behind_and_before_other_operators(net: Callable[[], nn.Cell], shape: tuple[int, ...], ends: set[str]) -> None:
    assert first_and_last(trace(net(), shape)) == ends


def test_embeddings_are_weights_and_every_output_has_a_last_layer() -> None:
    graph = trace(Looking(), (np.zeros((1, 5), np.int32),))
    assert first_and_last(graph) == {"hidden", "head"}
