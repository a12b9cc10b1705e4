"""Files of networks that were made by hand: checked, and as large as those of a search's points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import autocomp
from autocomp.deployment import deploy
from autocomp.primitives import LSQ, RTN, ChannelPruner
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Plan, SearchSpace
from tests.networks import Residual, images, randomised

X = images(8)


@pytest.fixture(scope="module")
def net() -> Residual:
    return randomised(Residual())


@pytest.mark.parametrize("ending", [".onnx", ".mindir"])
def test_a_network_in_integers_is_smaller_and_computes_the_same(net: Residual, tmp_path: Path, ending: str) -> None:
    algorithm = RTN(8, 8)
    quantized = algorithm.convert(algorithm.apply(net, calibrate=X))
    found = autocomp.export(quantized, tmp_path / f"q{ending}", X[:2])
    plain = autocomp.export(net, tmp_path / f"f{ending}", X[:2])
    assert found.size_mb < plain.size_mb and found.format == ending[1:]
    assert found.size_mb == pytest.approx((tmp_path / f"q{ending}").stat().st_size / 1e6)
    if ending == ".onnx":
        session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: X})[0]
        expected = forward(quantized, (X,), graph=False)[0]
        assert np.linalg.norm(outputs - expected) < 0.05 * np.linalg.norm(expected)


def test_a_plain_network_is_written_as_a_searchs_float_point(net: Residual, tmp_path: Path) -> None:
    found = autocomp.export(net, tmp_path / "a.onnx", (1, 3, 12, 12))
    graph, parameters = trace(net, (X[:1],)), parameters_of(net)
    compressed = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    deploy.export(
        convert(net, graph, parameters, compressed), graph, parameters, compressed, (X[:1],), tmp_path / "b.onnx"
    )
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert found.max_relative_error < 1e-4


def test_a_pruned_network_is_traced_as_it_is(net: Residual, tmp_path: Path) -> None:
    algorithm = ChannelPruner(flops=0.5)
    pruned = algorithm.apply(net, inputs=X[:1])
    labels = np.arange(len(X)) % 5
    algorithm.prune(pruned, [(X, labels.astype(np.int32))], _loss())
    smaller = algorithm.convert(pruned)
    found = autocomp.export(smaller, tmp_path / "p.onnx", X[:1])
    assert found.size_mb < autocomp.export(net, tmp_path / "f.onnx", X[:1]).size_mb


def _loss() -> object:
    from autocomp.primitives.cells.layers import ms

    return ms.nn.CrossEntropyLoss()


def test_what_still_trains_is_refused(net: Residual, tmp_path: Path) -> None:
    training = LSQ(4, 4).apply(net, calibrate=X)
    with pytest.raises(ValueError, match=r"^export takes a converted network: call algorithm.convert\(net\) first"):
        autocomp.export(training, tmp_path / "a.onnx", X[:1])
    assert not (tmp_path / "a.onnx").exists()
