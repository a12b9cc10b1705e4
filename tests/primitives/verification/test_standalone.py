"""Surgery without a search, and compressed networks built again for a checkpoint."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.primitives import channel_groups, fold_batchnorm, prune_channels
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.export.files import EXACT, norm_error
from autocomp.primitives.tracing.platform import forward, load_mindspore
from tests.conftest import Subject
from tests.networks import NETWORKS, images, nn, randomised

SHAPE = (1, 3, 12, 12)


def test_the_package_loads_without_mindspore() -> None:
    code = "import sys, autocomp.primitives as p; p.prune_channels; print('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_groups_are_named_by_their_first_layer(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    assert channel_groups(subject.net, SHAPE) == subject.graph.channel_groups


def test_pruned_by_layer_as_by_group() -> None:
    """Channel 3 of the shortcut is channel 3 of what it is added to; BatchNorm stays, for training."""
    net = randomised(NETWORKS["residual"]())
    by_layer = prune_channels(net, {"blocks.0.shortcut.0": [3, 9], "stem": [0]}, SHAPE)
    by_group = prune_channels(net, {"blocks.0.conv2": [3, 9], "stem": [0]}, SHAPE)
    x = images(4)
    np.testing.assert_array_equal(forward(by_layer, (x,), False)[0], forward(by_group, (x,), False)[0])
    shapes = {name: parameter.shape for name, parameter in by_layer.parameters_and_names()}
    assert shapes["stem.weight"] == (15, 3, 3, 3) and shapes["stem.bias"] == (15,)
    assert shapes["blocks.0.conv2.weight"] == (14, 16, 3, 3)
    assert shapes["blocks.0.bn2.gamma"] == shapes["blocks.0.shortcut.1.moving_mean"] == (14,)
    assert shapes["blocks.1.conv1.weight"] == (32, 14, 3, 3)
    assert set(shapes) == {name for name, _ in net.parameters_and_names()}


def test_nothing_pruned_is_the_same_network() -> None:
    net = randomised(NETWORKS["concatenating"]())
    x = images(4)
    np.testing.assert_array_equal(forward(prune_channels(net, {}, SHAPE), (x,), False)[0], forward(net, (x,), False)[0])


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"nowhere": [0]}, "no channel group and no layer; groups: stem"),
        ({"head": [0]}, "the channels of head stay whole: it is an output"),
        ({"stem": [16]}, "channels of stem are 0 to 15, but got 16"),
        ({"stem": range(16)}, "must keep a channel, but all 16 of stem"),
    ],
)
def test_what_cannot_be_pruned(removed: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune_channels(randomised(NETWORKS["residual"]()), removed, SHAPE)


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_computes_the_same(name: str) -> None:
    net, x = randomised(NETWORKS[name]()), images(4)
    folded = fold_batchnorm(net, SHAPE)
    assert norm_error(forward(folded, (x,), False)[0], forward(net, (x,), False)[0]) <= EXACT
    assert not [name for name, _ in folded.parameters_and_names() if name.endswith("gamma")]


def normalised(**settings: Any) -> Any:
    """Two convolutions with a BatchNorm of these settings and a PReLU between them."""
    norm = nn.BatchNorm2d(8, **settings)
    return randomised(nn.SequentialCell(nn.Conv2d(3, 8, 3), norm, nn.PReLU(8), nn.Conv2d(8, 4, 3)))


@pytest.mark.parametrize("batch_statistics", [None, False])
def test_pruned_layers_keep_their_settings(batch_statistics: bool | None) -> None:
    net = normalised(momentum=0.99, affine=False, use_batch_statistics=batch_statistics)
    net[0].weight.requires_grad = net[2].w.requires_grad = False
    smaller = prune_channels(net, {"0": [1, 5]}, SHAPE)
    assert smaller[1].gamma.shape == (6,)
    assert smaller[1].momentum == pytest.approx(net[1].momentum)
    assert smaller[1].use_batch_statistics is batch_statistics
    assert [p.name for p in smaller.trainable_params()] == [p.name for p in net.trainable_params()] == ["3.weight"]


def test_what_normalises_by_the_batch_is_not_folded() -> None:
    net, x = normalised(use_batch_statistics=True), images(4) + 3
    folded = fold_batchnorm(net, SHAPE)
    assert norm_error(forward(folded, (x,), False)[0], forward(net, (x,), False)[0]) <= EXACT
    with pytest.raises(ValueError, match="the channels of 0 stay whole: it reaches BatchNorm, which is left as it is"):
        prune_channels(net, {"0": [1]}, SHAPE)


@pytest.mark.parametrize("name", NETWORKS)
def test_checkpoint_of_a_compressed_network_loads_again(
    name: str, named_subject: Callable[[str], Subject], tmp_path: Path
) -> None:
    """Into what ``rebuild`` makes of a network with other weights, from the plan alone."""
    ms, subject = load_mindspore(), named_subject(name)
    x = subject.x[:4]
    for plan in subject.plans(2, seed=3):
        small = convert(subject.net, subject.graph, subject.parameters, subject.evaluator.compress(plan))
        ms.save_checkpoint(small, str(tmp_path / "small.ckpt"))
        again = autocomp.rebuild(randomised(NETWORKS[name](), seed=7), str(plan), SHAPE)
        missing, unused = ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "small.ckpt")), True)
        assert not missing and not unused
        np.testing.assert_array_equal(forward(again, (x,), False)[0], forward(small, (x,), False)[0])


def test_rebuild_names_what_it_does_not_know() -> None:
    net = NETWORKS["residual"]()
    with pytest.raises(ValueError, match="unknown channel group 'nowhere'"):
        autocomp.rebuild(net, {"keep/nowhere": 0.5}, SHAPE)
    with pytest.raises(ValueError, match="the plan sets the format of 'nowhere'"):
        autocomp.rebuild(net, {"format/nowhere": "w8"}, SHAPE)
    with pytest.raises(ValueError, match="a plan's choices are"):
        autocomp.rebuild(net, {"depth/blocks": 1}, SHAPE)
