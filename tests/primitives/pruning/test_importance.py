"""Measures of importance, against their formulas and against the loss itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.primitives import ChannelPruner, Distilled
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.pruning.importance import batchnorm_scale, fisher, geometric_median, magnitude, taylor
from autocomp.primitives.pruning.trained_pruning import KEPT, GateGradients, kept_parameter
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.search_spaces import NetworkGraph
from tests.conftest import Subject
from tests.primitives.planted import Planted, planted_network

ms = load_mindspore()

from mindspore import nn  # noqa: E402


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_network()


def relative(values: np.ndarray) -> np.ndarray:
    return values / values.mean()


def test_measures_of_weights_by_hand(named_subject: Callable[[str], Subject]) -> None:
    """Of a residual group: the last convolution of the branch and the one of the shortcut."""
    subject = named_subject("residual")
    p = {name: value.astype(np.float64) for name, value in subject.parameters.items()}
    group = subject.graph.group("blocks.1.conv2")
    assert group.layers == ("blocks.1.conv2", "blocks.1.shortcut.0")
    part = slice(group.start, group.stop)
    weights = [p[f"{layer}.weight"].reshape(32, -1) for layer in group.layers]
    expected = sum(relative(np.abs(w).sum(1)) for w in weights)
    np.testing.assert_allclose(magnitude(subject.graph, subject.parameters)[part], expected)
    expected = sum(relative(np.linalg.norm(w[:, None] - w[None], axis=2).sum(1)) for w in weights)
    np.testing.assert_allclose(geometric_median(subject.graph, subject.parameters)[part], expected)
    gammas = [p[f"blocks.1.{name}.gamma"] for name in ("bn2", "shortcut.1")]
    expected = sum(np.abs(gamma) for gamma in gammas)
    np.testing.assert_allclose(batchnorm_scale(subject.graph, subject.parameters)[part], expected)


def test_without_batchnorm_there_is_no_scale(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    stem = subject.graph.group("stem")
    assert np.isinf(batchnorm_scale(subject.graph, subject.parameters)[stem.start : stem.stop]).all()
    with pytest.raises(NoEffectError, match="batchnorm_scale found no channel group that runs through a BatchNorm"):
        batchnorm_scale(NetworkGraph((), ()), {})


def test_gradients_of_gates_are_those_of_the_loss(planted: Planted) -> None:
    """A central difference of the loss by a unit's gate, for units of plain, residual and bias-only layers."""
    algorithm = ChannelPruner(keep_ratio=0.5)
    net_p = algorithm.apply(planted.net, inputs=planted.batches[0][0][:1])
    x, y = planted.batches[0]
    (found,) = GateGradients(net_p, planted.loss)([(x, y)], None, 1)

    def loss_with(unit: int, value: float) -> float:
        gates = np.ones(len(found), np.float32)
        gates[unit] = value
        kept_parameter(net_p).set_data(ms.Tensor(gates))
        logits = forward(net_p, (x,), graph=False)[0].astype(np.float64)
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        return -float(logits[np.arange(len(y)), y].mean())

    groups = state_of(net_p).graph.channel_groups
    for unit in [int(group.start + np.abs(found[group.start : group.stop]).argmax()) for group in groups]:
        slope = (loss_with(unit, 1.05) - loss_with(unit, 0.95)) / 0.1
        assert found[unit] == pytest.approx(slope, rel=0.05), unit
    assert not kept_parameter(net_p).requires_grad and KEPT not in {p.name for p in net_p.trainable_params()}


def test_a_network_with_its_loss_gives_the_same_gradients(planted: Planted) -> None:
    net_p = ChannelPruner(keep_ratio=0.5).apply(planted.net, inputs=planted.batches[0][0][:1])
    whole = nn.WithLossCell(net_p, planted.loss).set_train(True)
    alone, held = (GateGradients(net_p, loss)(planted.batches, 8, 2) for loss in (planted.loss, whole))
    np.testing.assert_allclose(alone, held, rtol=1e-5, atol=1e-7)
    assert alone.shape == (2, 112) and whole.training and net_p.training


def test_taylor_and_fisher_are_means_of_squares() -> None:
    gradients = np.array([[1.0, -2.0], [3.0, 2.0]])
    np.testing.assert_allclose(taylor(gradients), [5, 4])
    np.testing.assert_allclose(fisher(gradients), [2.5, 2])


def found_by(planted: Planted, measure: str) -> float:
    algorithm = ChannelPruner(measure, keep_ratio=0.5, samples=48)
    net_p = algorithm.apply(planted.net, inputs=planted.batches[0][0][:1])
    return planted.share_found(net_p, algorithm.importance(net_p, planted.batches, planted.loss))


@pytest.mark.parametrize("measure", ["taylor", "fisher", "batchnorm_scale"])
def test_planted_useless_channels_are_found(planted: Planted, measure: str) -> None:
    """SCOP's share: test_scop.py."""
    assert found_by(planted, measure) >= 0.95


@pytest.mark.parametrize("measure", ["magnitude", "geometric_median"])
def test_the_control_does_not_find_them(planted: Planted, measure: str) -> None:
    """Their filters are the largest, so that measures of filters keep them."""
    assert found_by(planted, measure) < 0.5


def test_bad_arguments(planted: Planted) -> None:
    with pytest.raises(ValueError, match="importance must be one of magnitude, batchnorm_scale, geometric_median, tay"):
        ChannelPruner("random", keep_ratio=0.5)
    with pytest.raises(ValueError, match="samples must be 1 or more, but got samples=0"):
        ChannelPruner("fisher", keep_ratio=0.5, samples=0)
    pruner = ChannelPruner("taylor", keep_ratio=0.5)
    net_p = pruner.apply(planted.net, inputs=(1, 3, 12, 12))
    with pytest.raises(ValueError, match="measured by the loss: give one"):
        pruner.prune(net_p, planted.batches)
    with pytest.raises(ValueError, match="give batches of inputs and labels"):
        pruner.prune(net_p, [], planted.loss)


def test_a_teacher_alone_says_nothing_of_importance(planted: Planted) -> None:
    pruner = ChannelPruner("taylor", keep_ratio=0.5)
    net_p = pruner.apply(planted.net, inputs=planted.batches[0][0][:1])
    with pytest.raises(ValueError, match="a network that is its own teacher has no gradient"):
        pruner.prune(net_p, planted.batches, Distilled(net_p, planted.net))
