"""Granules by their medians, zeroed softly, pruned in the end."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autocomp.primitives import UniPruning
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.numerics.plan_compressor import kept_channels
from autocomp.primitives.pruning.trained_pruning import kept_parameter
from autocomp.primitives.pruning.unipruning import norms
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from tests.conftest import Subject
from tests.networks import NETWORKS, images, randomised

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402
from mindspore.train import Callback  # noqa: E402

X, Y = images(32), np.random.default_rng(1).integers(0, 5, 32).astype(np.int32)


def test_importance_by_hand(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    p = {name: value.astype(np.float64) for name, value in subject.parameters.items()}
    group = subject.graph.group("blocks.1.conv1")
    expected = np.linalg.norm(p["blocks.1.conv1.weight"].reshape(32, -1), axis=1) * np.abs(p["blocks.1.bn1.gamma"])
    found = norms(subject.graph, subject.parameters)[group.start : group.stop]
    np.testing.assert_allclose(found, expected)


def test_the_lowest_medians_go_first() -> None:
    """Granules of 8; the filters of one granule are made small in one layer, those of two in another."""
    net = randomised(NETWORKS["residual"]())
    small = {"blocks.0.conv1": np.arange(8), "blocks.1.conv1": np.arange(3, 19)}
    for path, chosen in small.items():
        block = net.blocks[int(path.split(".")[1])]
        weight = block.conv1.weight.asnumpy().copy()
        weight[chosen] *= 1e-3
        block.conv1.weight.set_data(ms.Tensor(weight))
    algorithm = UniPruning(keep_ratio=1 - 23.5 / 112, channel_divisor=8, reconstruct=False)
    net_p = algorithm.apply(net, inputs=X[:1])
    algorithm.prune(net_p)
    graph, kept = state_of(net_p).graph, algorithm.cut(net_p).kept
    for group in graph.channel_groups:
        gone = np.flatnonzero(~kept[group.start : group.stop])
        np.testing.assert_array_equal(gone, small.get(group.name, []))


def test_zeroing_is_pruning_that_trains_on() -> None:
    algorithm = UniPruning(flops=0.6, channel_divisor=4, reconstruct=False)
    net_p = algorithm.apply(randomised(NETWORKS["concatenating"]()), inputs=X[:1])
    kept = algorithm.zero(net_p)
    zeroed = forward(net_p, (X,), graph=False)[0]
    assert not algorithm.is_pruned(net_p) and not kept.all()
    algorithm.keep(net_p, kept)
    np.testing.assert_array_equal(forward(net_p, (X,), graph=False)[0], zeroed)


class Look(Callback):
    """After every epoch: whether channels are kept at zero, and the share of the weights that read them that is not."""

    def __init__(self, net_p: Any, cut: np.ndarray) -> None:
        super().__init__()
        self.net_p, self.cut = net_p, cut
        self.seen: list[tuple[bool, float]] = []

    def on_train_epoch_end(self, run_context: Any) -> None:
        held = bool((kept_parameter(self.net_p).asnumpy() < 0.5).any())
        graph, layer = state_of(self.net_p).graph, "blocks.1.conv2"
        columns = kept_channels(graph.input_units(graph.nodes[graph.layers[layer]]), self.cut)
        weight = state_of(self.net_p).layers[layer].weight.asnumpy()[:, ~columns]
        self.seen.append((held, float((weight != 0).mean())))


def test_the_schedule_in_a_compiled_network() -> None:
    """Two soft epochs of four, in which the zeroed weights come back; then the choice is final."""
    algorithm = UniPruning(parameters=0.6, channel_divisor=4, soft=0.5)
    net_p = algorithm.apply(randomised(NETWORKS["residual"]()), inputs=X[:1])
    look = Look(net_p, algorithm.zero(net_p))
    assert not look.cut.all()
    dataset = ds.NumpySlicesDataset((X, Y), ["image", "label"], shuffle=False).batch(32)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    with execution_mode(graph=True):
        model = ms.Model(net_p, loss, nn.Momentum(net_p.trainable_params(), 0.01, 0.9))
        model.train(4, dataset, [*algorithm.callbacks(), look], dataset_sink_mode=False)
    assert [held for held, _ in look.seen] == [False, False, True, True]
    assert all(share > 0.2 for _, share in look.seen[:2])  # the rest reads channels that are dead behind their ReLU
    smaller = algorithm.convert(net_p)
    np.testing.assert_allclose(
        forward(smaller, (X,), graph=False)[0], forward(net_p, (X,), graph=False)[0], rtol=1e-4, atol=1e-5
    )
    assert sum(p.size for p in smaller.get_parameters()) == algorithm.cut(net_p).parameters


def test_it_chooses_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps in two epochs: every quarter of an epoch it zeroes, from the fourth step on the choice is final."""
    algorithm, done = UniPruning(parameters=0.6, channel_divisor=4, every=0.25, soft=0.375), []
    algorithm.apply(randomised(NETWORKS["residual"]()), inputs=X[:1])
    monkeypatch.setattr(algorithm, "zero", lambda _: done.append("zero"))
    monkeypatch.setattr(algorithm, "prune", lambda *_: done.append("prune"))
    callback, _ = algorithm.callbacks()
    callback.on_train_begin(None)
    for step in range(1, 9):
        arguments = SimpleNamespace(cur_step_num=step, epoch_num=2, batch_num=4, train_dataset=None)
        callback.on_train_step_begin(SimpleNamespace(original_args=lambda arguments=arguments: arguments))
    assert done == ["zero", "zero", "zero", "prune"]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="every must be above 0, but got every=0"):
        UniPruning(flops=0.5, every=0)
    with pytest.raises(ValueError, match=r"soft must be in \[0, 1\), but got soft=1"):
        UniPruning(flops=0.5, soft=1)
