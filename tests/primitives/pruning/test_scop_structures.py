"""Networks that read token ids, read several inputs, or return more than one tensor, pruned by the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from autocomp.primitives import SCOP, ChannelPruner, UniPruning
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.pruning.losses import first_half
from autocomp.primitives.pruning.scop import KnockoffPhase
from autocomp.primitives.tracing.platform import forward
from tests.networks import randomised

RNG = np.random.default_rng(0)
IDS, PLACES = RNG.integers(0, 50, (32, 6)).astype(np.int32), RNG.integers(0, 3, (32, 6)).astype(np.int32)
VECTORS, LABELS = RNG.normal(size=(32, 8)).astype(np.float32), RNG.integers(0, 4, 32).astype(np.int32)


class Heads(nn.Cell):
    """Two dense layers and two heads; ``reads`` says of what, ``returns`` how."""

    def __init__(self, reads: str = "vectors", returns: str = "tuple") -> None:
        super().__init__()
        self.reads, self.returns = reads, returns
        self.words, self.places = nn.Embedding(50, 8), nn.Embedding(3, 8)
        self.stem, self.middle = nn.Dense(8, 24), nn.Dense(24, 24)
        self.head, self.aux = nn.Dense(24, 4), nn.Dense(24, 2)

    def construct(self, x: Tensor, other: Any = None) -> Any:
        if self.reads != "vectors":
            x = self.words(x).mean(1)
        if self.reads == "two of tokens":
            x = x + self.places(other).mean(1)
        if self.reads == "tokens and vectors":
            x = x + other
        y = ops.relu(self.middle(ops.relu(self.stem(x))))
        if self.returns == "dict":
            return {"scores": self.head(y), "others": [None, {"aux": self.aux(y)}]}
        if self.returns == "number":
            return self.head(y), self.head(y).mean(), None
        if self.returns == "time first":
            return ops.stack((self.head(y), self.head(2 * y)), 0)
        return self.head(y), self.aux(y)


def loss(outputs: Any, labels: Tensor) -> Tensor:
    if isinstance(outputs, dict):
        scores, aux = outputs["scores"], outputs["others"][1]["aux"]
        return ops.cross_entropy(scores, labels) + ops.cross_entropy(aux, labels % 2)
    return ops.cross_entropy(outputs[0], labels)


FORMS = [
    ("vectors", "tuple"), ("vectors", "time first"), ("tokens", "tuple"), ("tokens", "dict"), ("tokens", "number"),
    ("two of tokens", "tuple"), ("tokens and vectors", "dict"),
]  # fmt: skip


def inputs_of(reads: str) -> tuple[np.ndarray, ...]:
    first = VECTORS if reads == "vectors" else IDS
    return (first, *({"two of tokens": (PLACES,), "tokens and vectors": (VECTORS,)}.get(reads, ())))


def halved(algorithm: Any, reads: str, returns: str) -> None:
    """Half of the units stay, and the converted network computes what the pruned one does."""
    inputs = inputs_of(reads)
    pruned = algorithm.apply(randomised(Heads(reads, returns)), tuple(array[:1] for array in inputs))
    algorithm.prune(pruned, [(*inputs, LABELS)], loss)
    smaller = algorithm.convert(pruned)
    assert smaller.middle.weight.shape[0] + smaller.stem.weight.shape[0] == state_of(pruned).graph.unit_count // 2
    for one, other in zip(forward(smaller, inputs, graph=False), forward(pruned, inputs, graph=False), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("reads", "returns"), FORMS)
def test_scop(reads: str, returns: str) -> None:
    halved(SCOP(keep_ratio=0.5, steps=3), reads, returns)


@pytest.mark.parametrize(("reads", "returns"), [("two of tokens", "dict"), ("tokens and vectors", "number")])
def test_importance_by_the_loss(reads: str, returns: str) -> None:
    halved(ChannelPruner("taylor", keep_ratio=0.5, rounds=1), reads, returns)


@pytest.mark.parametrize(("reads", "returns"), [("tokens", "dict"), ("two of tokens", "time first")])
def test_unipruning(reads: str, returns: str) -> None:
    halved(UniPruning(keep_ratio=0.5, channel_divisor=4), reads, returns)


@pytest.mark.parametrize(("reads", "returns"), [("tokens", "dict"), ("vectors", "time first")])
def test_the_loss_is_that_of_the_real_half(reads: str, returns: str) -> None:
    """With knockoffs that are the inputs nothing is learnt, with others something is."""
    inputs = inputs_of(reads)
    net_p = SCOP(keep_ratio=0.5).apply(randomised(Heads(reads, returns)), tuple(array[:1] for array in inputs))
    same = KnockoffPhase(net_p, loss, knockoffs=lambda arrays, rng: arrays)
    assert np.abs(same.gradient((*inputs, LABELS))).max() < 1e-6
    assert np.abs(KnockoffPhase(net_p, loss).gradient((*inputs, LABELS))).max() > 1e-4


def test_halves_of_any_structure() -> None:
    x, y, z = Tensor(np.arange(8.0).reshape(4, 2)), Tensor(np.arange(8.0).reshape(2, 4)), Tensor(1.0)
    (a, (none, named), number), count = first_half((x, [None, {"y": y, "x": x}], z), (0, 1, 0, -1), 0)
    np.testing.assert_array_equal(a.asnumpy(), x.asnumpy()[:2])
    np.testing.assert_array_equal(named["y"].asnumpy(), y.asnumpy()[:, :2])
    assert none is None and named["x"].shape == (2, 2) and number is z and count == 4
