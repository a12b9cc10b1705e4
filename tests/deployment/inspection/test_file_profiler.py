"""A user's own ONNX file, node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import autocomp
from autocomp.deployment.inspection import file_profiler

RNG = np.random.default_rng(0)
FIRST, SECOND = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 8), (8, 2)))
X = RNG.normal(size=(20, 4)).astype(np.float32)


def model(batch: int | str = "n", named: bool = True) -> onnx.ModelProto:
    """Two products with a ReLU between them."""
    names = ("first", "relu", "second") if named else ("", "", "")
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name=names[0]),
        helper.make_node("Relu", ["a"], ["b"], name=names[1]),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name=names[2]),
    ]
    graph = helper.make_graph(
        nodes,
        "mine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(FIRST, "w1"), numpy_helper.from_array(SECOND, "w2")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    onnx.save(model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_tensors_times_and_memory(file: Path) -> None:
    found = autocomp.profile(file, X, samples=16)
    first, relu, _ = found.layers
    assert [layer.name for layer in found.layers] == ["first", "relu", "second"] and found.samples == 16
    assert (first.kind, first.format, relu.format) == ("MatMul", "float", "")
    expected = X[:16] @ FIRST
    assert first.low == pytest.approx(expected.min()) and first.deviation == pytest.approx(expected.std(), rel=1e-4)
    assert relu.zeros == pytest.approx((expected <= 0).mean())
    weights = FIRST.nbytes + SECOND.nbytes
    assert [layer.memory_mb for layer in found.layers] == pytest.approx(
        [(weights + live) / 1e6 for live in (4 * (4 + 8), 4 * (8 + 8), 4 * (8 + 2))]
    )
    assert found.measured_ms is not None and found.measured_ms > 0
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert "measured on this processor" in str(found) and "most memory" in str(found)


def test_nodes_without_names_get_their_own(tmp_path: Path) -> None:
    onnx.save(model(named=False), tmp_path / "net.onnx")
    found = autocomp.profile(str(tmp_path / "net.onnx"))
    assert [layer.name for layer in found.layers] == ["MatMul.0", "Relu.1", "MatMul.2"] and found.samples == 1


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    onnx.save(model(batch=3), tmp_path / "net.onnx")
    found = autocomp.profile(tmp_path / "net.onnx", X)
    assert found.samples == 3 and found.layers[0].high == pytest.approx((X[:3] @ FIRST).max())
    assert autocomp.profile(tmp_path / "net.onnx", inputs=(3, 4)).samples == 3


def test_a_fixed_batch_is_read_whole_however_large_its_tensors_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(model(batch=3), tmp_path / "net.onnx")
    monkeypatch.setattr(file_profiler, "MOST_ELEMENTS", 1)
    assert autocomp.profile(tmp_path / "net.onnx").samples == 3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"data": X[:, :3]}, r"net\.onnx does not take inputs of shape \(1, 3\)"),
        ({"data": ((X, X), None)}, r"net\.onnx takes 1 inputs, but got 2$"),
        ({"plan": {"format/first": "w8"}}, r"^a plan is for a network in MindSpore, but got the file .*net\.onnx"),
        ({"samples": 0}, "^samples must be at least 1"),
    ],
)
def test_what_does_not_fit_is_said(file: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((ValueError, autocomp.errors.ExportError), match=sentence):
        autocomp.profile(file, **given)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^there is no file .*no\.onnx$"):
        autocomp.profile(tmp_path / "no.onnx")
    (tmp_path / "net.onnx").write_text("none")
    with pytest.raises(ValueError, match=r"net\.onnx must be a whole ONNX file, but it cannot be read"):
        autocomp.profile(tmp_path / "net.onnx")
