"""BatchNorm's running statistics after a training, which the callbacks of every algorithm estimate again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autocomp.primitives import LSQ, PACT, SCOP, SLB, ChannelPruner, Ghost, LowRank, SimQAT, UniPruning
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm, estimate_statistics
from autocomp.primitives.tracing.platform import load_mindspore

ms = load_mindspore()

from mindspore import nn  # noqa: E402

RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(2, 3, (16, 4, 5, 5)).astype(np.float32) for _ in range(6)]
MAKERS: dict[str, Callable[[], Any]] = {
    "simqat": SimQAT, "lsq": LSQ, "pact": PACT, "slb": SLB, "scop": lambda: SCOP(flops=0.5),
    "unipruning": lambda: UniPruning(flops=0.5), "channel-pruner": lambda: ChannelPruner(flops=0.5),
    "low-rank": lambda: LowRank(macs=0.6), "ghost": Ghost,
}  # fmt: skip


class Twice(nn.Cell):
    """One BatchNorm that runs twice, one with another momentum, and a frozen one; Dropout before the second."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.slow = nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=0.99)
        self.frozen, self.drop = nn.BatchNorm2d(4, use_batch_statistics=False), nn.Dropout(p=0.5)

    def construct(self, x: Any) -> Any:
        return self.frozen(self.slow(self.drop(self.shared(self.shared(x) * 2 + 1))))


def test_statistics_are_those_of_the_batches_whatever_the_momentum() -> None:
    net = Twice().set_train(True)
    net.drop.set_train(False)
    norms = [net.shared, net.slow, net.frozen]
    estimate_statistics(net, norms, [(ms.Tensor(batch),) for batch in BATCHES])
    x = np.stack(BATCHES).astype(np.float64)
    first_mean, first_var = x.mean((1, 3, 4)), x.var((1, 3, 4))
    scale = 0.9 / (1 + 0.9)  # of the first call's share; the second call's is 1 / 1.9
    expected = scale * first_mean.mean(0) + 1 / 1.9
    np.testing.assert_allclose(net.shared.moving_mean.asnumpy(), expected, rtol=1e-2)
    assert (first_var.mean(0) > 5).all()
    np.testing.assert_allclose(net.slow.moving_variance.asnumpy(), 1, rtol=0.02)
    np.testing.assert_allclose(net.slow.moving_mean.asnumpy(), 0, atol=1e-3)
    assert net.frozen.moving_mean.asnumpy().tolist() == [0] * 4
    assert net.frozen.moving_variance.asnumpy().tolist() == [1] * 4


def test_a_network_in_evaluation_mode_stays_in_it() -> None:
    from tests.networks import NETWORKS

    algorithm = LowRank(macs=0.6)
    net = algorithm.apply(NETWORKS["residual"](), inputs=RNG.normal(size=(1, 3, 12, 12)).astype(np.float32))
    (callback,) = algorithm.callbacks()
    images = ms.Tensor(RNG.normal(5, 1, (8, 3, 12, 12)).astype(np.float32))
    dataset = SimpleNamespace(create_tuple_iterator=lambda num_epochs: iter([(images, images)]))
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    net.set_train(False)
    callback.on_train_end(SimpleNamespace(original_args=lambda: SimpleNamespace(train_dataset=dataset)))
    moved = {p.name for p in net.get_parameters() if not np.array_equal(p.asnumpy(), before[p.name])}
    assert moved and all("moving_" in name for name in moved)
    assert not net.training


@pytest.mark.parametrize("name", MAKERS)
def test_every_algorithm_has_the_callback_at_its_end(name: str) -> None:
    from tests.networks import NETWORKS

    algorithm: Any = MAKERS[name]()
    algorithm.apply(NETWORKS["residual"](), inputs=np.zeros((1, 3, 12, 12), np.float32))
    found = algorithm.callbacks()
    assert isinstance(found[-1], CalibrateBatchNorm) or name == "simqat"
    assert sum(isinstance(callback, CalibrateBatchNorm) for callback in found) == 1
