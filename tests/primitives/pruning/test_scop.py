"""The knockoff phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from autocomp.primitives import SCOP
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.pruning.scop import KnockoffPhase, shuffled
from autocomp.primitives.tracing.platform import load_mindspore
from tests.primitives.planted import Planted, planted_network

ms = load_mindspore()

from mindspore import Tensor, nn  # noqa: E402


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_network()


def test_every_sample_gets_another_one() -> None:
    x = np.arange(40, dtype=np.float32).reshape(10, 4)
    labels = np.arange(10)
    for seed in range(20):
        images, numbers = shuffled((x, labels), np.random.default_rng(seed))
        assert sorted(numbers.tolist()) == labels.tolist() and (numbers != labels).all()
        np.testing.assert_array_equal(images, x[numbers])


def test_knockoffs_that_are_the_images_tell_nothing(planted: Planted) -> None:
    """The control and the real features are equal then: no gradient, so every kappa stays at a half."""
    net_p = SCOP(keep_ratio=0.5).apply(planted.net, inputs=(1, 3, 12, 12))
    phase = KnockoffPhase(net_p, planted.loss, knockoffs=lambda inputs, rng: inputs)
    assert np.abs(phase.gradient(planted.batches[0])).max() < 1e-6


@dataclass
class Scored:
    algorithm: SCOP
    net_p: Any
    before: dict[str, np.ndarray]
    kappa: np.ndarray


@pytest.fixture(scope="module")
def scored(planted: Planted) -> Scored:
    algorithm = SCOP(keep_ratio=0.5, steps=24)
    net_p = algorithm.apply(planted.net, inputs=(1, 3, 12, 12))
    before = parameters_of(net_p)
    return Scored(algorithm, net_p, before, algorithm.kappa(net_p, planted.batches, planted.loss))


def test_the_phase_leaves_the_network_as_it_was(scored: Scored) -> None:
    assert scored.kappa.min() >= 0 and scored.kappa.max() <= 1
    after = parameters_of(scored.net_p)
    for name, value in scored.before.items():
        np.testing.assert_array_equal(after[name], value)
    assert not scored.algorithm.is_pruned(scored.net_p)


def test_planted_useless_channels_are_found(planted: Planted, scored: Scored) -> None:
    assert planted.share_found(scored.net_p, scored.algorithm.score(scored.net_p, scored.kappa)) >= 0.95


def test_kappa_of_useless_units_stays_at_a_half_and_of_useful_ones_rises(planted: Planted, scored: Scored) -> None:
    for name, useless in planted.useless.items():
        group = state_of(scored.net_p).graph.group(name)
        kappa = scored.kappa[group.start : group.stop]
        chosen = np.zeros(group.units, bool)
        chosen[list(useless)] = True
        np.testing.assert_allclose(kappa[chosen], 0.5, atol=0.02)
        assert np.median(kappa[~chosen]) > 0.6


class LeNet(nn.Cell):
    """Without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.pool, self.flatten, self.relu = nn.MaxPool2d(2, 2), nn.Flatten(), nn.ReLU()
        self.fc1, self.fc2, self.fc3 = nn.Dense(256, 120), nn.Dense(120, 84), nn.Dense(84, 10)

    def construct(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv2(self.pool(self.relu(self.conv1(x))))))
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(self.flatten(x))))))


def test_lenet_keeps_its_trainable_parameters_and_shrinks() -> None:
    net, rng = LeNet(), np.random.default_rng(0)
    algorithm = SCOP(keep_ratio=0.5, per_layer=True, steps=2)
    net_p = algorithm.apply(net, inputs=(1, 1, 28, 28))
    assert [p.name for p in net_p.trainable_params()] == [p.name for p in net.trainable_params()]
    x, y = rng.standard_normal((16, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 16).astype(np.int32)
    algorithm.prune(net_p, [(x, y)], nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"))
    shapes = {p.name: p.shape for p in algorithm.convert(net_p).get_parameters() if p.name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (3, 1, 5, 5), "conv2.weight": (8, 3, 5, 5), "fc1.weight": (60, 128), "fc2.weight": (42, 60),
        "fc3.weight": (10, 42),
    }  # fmt: skip


def test_what_it_needs_is_said(planted: Planted) -> None:
    algorithm = SCOP(keep_ratio=0.5)
    net_p = algorithm.apply(planted.net, inputs=(1, 3, 12, 12))
    with pytest.raises(ValueError, match="give Model a loss of its own"):
        algorithm.prune(net_p, planted.batches)
    with pytest.raises(ValueError, match="scop needs data"):
        algorithm.prune(net_p, [], planted.loss)
    with pytest.raises(ValueError, match="steps must be 1 or more"):
        SCOP(keep_ratio=0.5, steps=0)
    with pytest.raises(ValueError, match="travel must be above 0"):
        SCOP(keep_ratio=0.5, travel=0)
