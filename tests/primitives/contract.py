"""What the contract suites share: images, a short training, what a network holds, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autocomp.primitives.export.files import export_mindir, run_mindir, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.platform import execution_mode, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import SearchSpace
from tests.networks import images

ms = load_mindspore()

import mindspore.dataset as ds  # noqa: E402
from mindspore import nn  # noqa: E402

X, Y = images(64), np.random.default_rng(1).integers(0, 5, 64).astype(np.int32)


def loss_function() -> Any:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def train(
    net: Any, callbacks: list[Any], epochs: int = 2, graph: bool = True, batch: int = 32, labels: np.ndarray = Y
) -> None:
    dataset = ds.NumpySlicesDataset((X, labels), ["image", "label"], shuffle=False).batch(batch)
    optimizer = nn.Momentum(net.trainable_params(), 0.01, 0.9)
    with execution_mode(graph):
        ms.Model(net, loss_function(), optimizer).train(epochs, dataset, callbacks, dataset_sink_mode=False)


def values(net: Any) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in net.get_parameters()}


def assert_untouched(net: Any, before: dict[str, np.ndarray]) -> None:
    after = values(net)
    assert list(after) == list(before)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def outputs_of_files(net: Any, x: np.ndarray, folder: Path) -> list[np.ndarray]:
    """Of a float network's MindIR and ONNX file, loaded again."""
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters).of(np.ones(graph.unit_count, bool), {})
    mindir, onnx = folder / "net.mindir", folder / "net.onnx"
    export_mindir(net, (x,), mindir)
    onnx.write_bytes(onnx_network(graph, parameters, plain, Style()).SerializeToString())
    return [run_mindir(mindir, (x,))[0], run_onnx(onnx, (x,))[0]]
