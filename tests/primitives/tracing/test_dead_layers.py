"""Layers that no output depends on hold no channels whole, are named, and run on in a network that is cut."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.primitives import channel_groups, prune_channels, trace
from autocomp.primitives.tracing.dead_layers import dead_layers
from autocomp.primitives.tracing.platform import forward

X = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)


def made(kind: str) -> Any:
    return {
        "conv": lambda: nn.SequentialCell(nn.Conv2d(32, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        "norm first": lambda: nn.SequentialCell(nn.BatchNorm2d(32), nn.PReLU(32), nn.Conv2d(32, 8, 3)),
        "groups": lambda: nn.SequentialCell(nn.GroupNorm(4, 32), nn.Conv2dTranspose(32, 8, 3)),
        "dense": lambda: nn.SequentialCell(nn.LayerNorm((32,)), nn.Dropout(p=0.5), nn.Dense(32, 3)),
        "sequence": lambda: nn.SequentialCell(nn.Conv1d(32, 8, 3), nn.BatchNorm1d(8)),
        "recurrent": lambda: nn.GRU(32, 8),
        "never called": lambda: nn.Conv2d(5, 6, 3),
        "own": lambda: Own(),
    }[kind]()


class Own(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.weight = ms.Parameter(Tensor(np.ones((32, 3), np.float32)))

    def construct(self, x: Tensor) -> Tensor:
        return ops.matmul(x, self.weight)


class WithHead(nn.Cell):
    """``aux`` reads the widest channels, and what it gives is dropped."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.aux = kind, made(kind)
        self.first, self.wide, self.head = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 32, 3, 2), nn.Dense(32, 4)

    def construct(self, x: Tensor) -> Tensor:
        y = ops.relu(self.wide(ops.relu(self.first(x))))
        flat, mean = y.reshape(y.shape[0], y.shape[1], -1), y.mean((2, 3))
        if self.kind in ("conv", "norm first", "groups"):
            self.aux(y)
        if self.kind in ("dense", "own"):
            self.aux(mean)
        if self.kind == "sequence":
            self.aux(flat)
        if self.kind == "recurrent":
            self.aux(flat.swapaxes(1, 2))
        return self.head(mean)


@pytest.mark.parametrize("kind", ["conv", "norm first", "groups", "dense", "sequence", "recurrent", "never called"])
def test_its_channels_are_cut(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    net = WithHead(kind)
    with caplog.at_level(logging.INFO, logger="autocomp"):
        assert [group.name for group in channel_groups(net, X[:1])] == ["first", "wide"]
    dead = dead_layers(net, trace(net, (X[:1],)))
    assert dead and f"no output depends on {', '.join(sorted(dead))}: they stay as they are" in caplog.text
    smaller = prune_channels(net, {"wide": range(0, 32, 2)}, X[:1])
    np.testing.assert_allclose(
        forward(smaller, (X,), graph=False)[0], forward(smaller, (X,), graph=False)[0], rtol=1e-4, atol=1e-5
    )
    assert smaller.head.in_channels == 16


def test_a_cell_of_ones_own_holds_them_whole() -> None:
    """No one knows how many channels it takes; the reason is what it says."""
    with pytest.raises(ValueError, match=r"the channels of wide stay whole: .*MatMul.* must be equal"):
        prune_channels(WithHead("own"), {"wide": [0]}, X[:1])


def test_search(tmp_path: Path) -> None:
    front = autocomp.search(
        WithHead("norm first"), "macs<60%", "ascend-310p3", X, trials=6, fine_tune=0, progress=False
    )
    assert "keep/wide" in {knob for point in front.evaluated for knob in point.plan}
    for ending in ("mindir", "onnx"):
        assert front.pick().export(tmp_path / f"net.{ending}").max_relative_error < 0.05
