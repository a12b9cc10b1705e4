"""A trained network in which some channels are known to be useless."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.tracing.platform import execution_mode, load_mindspore
from tests.networks import SIZE, Residual, randomised

ms = load_mindspore()

from mindspore import nn  # noqa: E402

CLASSES, BATCH = 5, 32
PLANTED = {"blocks.0.conv1": ("blocks.0.bn1", 6), "blocks.1.conv1": ("blocks.1.bn1", 14)}


@dataclass(frozen=True)
class Planted:
    """useless: channel group -> its useless units. batches: (images, labels) to score on."""

    net: Any
    useless: dict[str, frozenset[int]]
    batches: list[tuple[np.ndarray, np.ndarray]]
    loss: Any

    def share_found(self, net_p: Any, importance: np.ndarray) -> float:
        """Of the useless units, among as many that are rated lowest in their group. net_p: of an ``apply``."""
        found = 0
        for name, useless in self.useless.items():
            group = state_of(net_p).graph.group(name)
            lowest = np.argsort(importance[group.start : group.stop])[: len(useless)]
            found += len(useless & set(lowest.tolist()))
        return found / sum(map(len, self.useless.values()))


def task(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A class is a pattern that is shared by all its images, under noise."""
    patterns = np.random.default_rng(7).standard_normal((CLASSES, 3, SIZE, SIZE))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    noise = rng.standard_normal((count, 3, SIZE, SIZE))
    return (patterns[labels] + 1.5 * noise).astype(np.float32), labels.astype(np.int32)


def loss_function() -> Any:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


@cache
def planted_network() -> Planted:
    """BatchNorm takes nearly all out of the useless channels, while their filters are the largest of the layer; the
    factors of BatchNorm stay, and all else is trained around them."""
    net, rng = randomised(Residual()), np.random.default_rng(3)
    parameters, useless = {p.name: p for p in net.get_parameters()}, {}
    for conv, (norm, count) in PLANTED.items():
        chosen = rng.permutation(parameters[f"{conv}.weight"].shape[0])[:count]
        useless[conv] = frozenset(chosen.tolist())
        gamma = rng.uniform(0.7, 1.3, parameters[f"{norm}.gamma"].shape).astype(np.float32)
        gamma[chosen] *= 0.01
        weight, beta = parameters[f"{conv}.weight"].asnumpy().copy(), np.zeros_like(gamma)
        weight[chosen] *= 5
        for name, value in ((f"{norm}.gamma", gamma), (f"{norm}.beta", beta), (f"{conv}.weight", weight)):
            parameters[name].set_data(ms.Tensor(value))
        parameters[f"{norm}.gamma"].requires_grad = parameters[f"{norm}.beta"].requires_grad = False
    _train(net, 60)
    scored = task(4 * BATCH, seed=2)
    batches = [(scored[0][i : i + BATCH], scored[1][i : i + BATCH]) for i in range(0, 4 * BATCH, BATCH)]
    return Planted(net, useless, batches, loss_function())


def _train(net: Any, steps: int) -> None:
    optimizer = nn.Momentum(net.trainable_params(), 0.02, 0.9)
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss_function()), optimizer).set_train()
    x, y = task(steps * BATCH, seed=1)
    with execution_mode(graph=True):
        for i in range(0, len(x), BATCH):
            step(ms.Tensor(x[i : i + BATCH]), ms.Tensor(y[i : i + BATCH]))
    net.set_train(False)
