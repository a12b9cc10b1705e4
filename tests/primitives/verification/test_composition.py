"""Prune, then factorise or replace, then quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autocomp.deployment.deploy import export
from autocomp.primitives import ChannelPruner, Ghost, LowRank, SimQAT, trace
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.platform import forward, load_mindspore
from tests.networks import NETWORKS, images, randomised

load_mindspore()

X = images(64)


@pytest.mark.parametrize(
    "replacing", [LowRank(energy=0.7, layers=("blocks.1",)), Ghost(layers=("blocks.1.conv1", "blocks.1.conv2"))]
)
def test_pruned_then_replaced_then_quantized(replacing: Any, tmp_path: Path) -> None:
    pruner, quantizer = ChannelPruner("batchnorm_scale", flops=0.7), SimQAT(4, 8)
    net = randomised(NETWORKS["residual"]())
    net_p = pruner.apply(net, inputs=X[:1])
    pruner.prune(net_p)
    net_r = replacing.apply(pruner.convert(net_p), calibrate=X)
    size = replacing.size(net_r)
    assert size.macs < pruner.cut(net_p).macs <= 0.7 * trace(net, (X[:1],)).macs
    replaced = {
        path for path, cell in net_r.cells_and_names() if type(cell).__name__ in ("SequentialCell", "GhostConv2d")
    }
    assert {"blocks.1.conv1", "blocks.1.conv2"} <= replaced and not any("blocks.0.conv" in path for path in replaced)
    smaller = replacing.convert(net_r)
    assert trace(smaller, (X[:1],)).macs == size.macs
    net_q = quantizer.apply(smaller, calibrate=X)
    deployed = quantizer.convert(net_q)
    expected = forward(deployed, (X,), graph=False)[0]
    assert norm_error(expected, forward(net_q, (X,), graph=False)[0]) < 0.05
    numbers = (state_of(net_q).graph, parameters_of(net_q), quantizer.quantized(net_q))
    for file, tolerance in (("c.mindir", 1e-6), ("c.onnx", 0.01)):  # a rounded activation may fall a step apart
        report = export(deployed, *numbers, (X,), tmp_path / file)  # loads the file again and runs it
        assert report.max_relative_error < tolerance


def test_layers_that_are_not_there_are_named() -> None:
    for algorithm in (LowRank(energy=0.7, layers=("blocks.7",)), Ghost(layers=("blocks.7",))):
        with pytest.raises(ValueError, match=r"layers must be of stem, .*, or hold some, but got blocks\.7"):
            algorithm.apply(randomised(NETWORKS["residual"]()), inputs=X[:1])
