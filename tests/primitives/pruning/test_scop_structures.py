"""SCOP on networks with several outputs, and on token ids."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from autocomp.primitives import SCOP
from autocomp.primitives.cells.compression_state import state_of

RNG = np.random.default_rng(0)


class Heads(nn.Cell):
    def __init__(self, vocabulary: int = 0) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 8) if vocabulary else None
        self.stem, self.middle, self.head, self.aux = (
            nn.Dense(8, 24),
            nn.Dense(24, 24),
            nn.Dense(24, 4),
            nn.Dense(24, 2),
        )

    def construct(self, x: Tensor) -> Any:
        if self.embed is not None:
            x = self.embed(x).mean(1)
        y = ops.relu(self.middle(ops.relu(self.stem(x))))
        return self.head(y), self.aux(y)


def loss(outputs: Any, labels: Tensor) -> Tensor:
    return ops.cross_entropy(outputs[0], labels) + ops.cross_entropy(outputs[1], labels % 2)


@pytest.mark.parametrize("vocabulary", [0, 50])
def test_half_of_the_units_stay(vocabulary: int) -> None:
    shape = (32, 6) if vocabulary else (32, 8)
    x = RNG.integers(0, vocabulary, shape).astype(np.int32) if vocabulary else RNG.normal(size=shape).astype(np.float32)
    labels = RNG.integers(0, 4, 32).astype(np.int32)
    algorithm = SCOP(keep_ratio=0.5, steps=3)
    pruned = algorithm.apply(Heads(vocabulary), (x[:1],))
    algorithm.prune(pruned, [(x, labels)], loss)
    smaller = algorithm.convert(pruned)
    assert smaller.middle.weight.shape[0] + smaller.stem.weight.shape[0] == state_of(pruned).graph.unit_count // 2
    np.testing.assert_allclose(
        smaller(ms.Tensor(x))[1].asnumpy(), pruned.set_train(False)(ms.Tensor(x))[1].asnumpy(), rtol=1e-3, atol=1e-4
    )
