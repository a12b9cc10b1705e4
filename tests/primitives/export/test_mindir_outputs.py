"""MindIR files of networks that return more than tensors can be loaded again; None is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.primitives import trace
from autocomp.primitives.export.files import export_mindir, run_mindir, run_onnx
from autocomp.primitives.tracing.platform import forward

X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
OUTPUTS = {
    "last": 1, "first": 1, "deep": 2, "dict": 1, "dict in a list": 2, "number": 2, "constant": 2, "tuple of None": 1,
    "dict of None": 1, "list of None": 1, "empty": 1,
    "empty in a tuple": 3,
}  # fmt: skip


class Returning(nn.Cell):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.hidden, self.head = kind, nn.Dense(6, 16), nn.Dense(16, 3)

    def construct(self, x: Tensor) -> Any:
        y = self.head(ops.relu(self.hidden(x)))
        if self.kind == "last":
            return y, None
        if self.kind == "first":
            return None, y
        if self.kind == "deep":
            return (y, (None, (None, y.mean(1))), None)
        if self.kind == "dict":
            return {"logits": y, "aux": None}
        if self.kind == "dict in a list":
            return [y, {"aux": None, "mask": y > 0}]
        if self.kind == "number":
            return y, 2.5, None
        if self.kind == "constant":
            return y, None, Tensor([1.0, 2.0])
        if self.kind == "tuple of None":
            return y, (None,)
        if self.kind == "dict of None":
            return y, {"aux": None, "others": (None, None)}
        if self.kind == "list of None":
            return [y, [None]]
        if self.kind == "empty in a tuple":
            return (y > 0).any(), (y, (y.mean(1), ())), []
        return y, ()


@pytest.mark.parametrize("kind", OUTPUTS)
def test_none_is_left_out_of_files(kind: str, tmp_path: Path) -> None:
    net, path = Returning(kind), tmp_path / "net.mindir"
    export_mindir(net, (X,), path)
    found, expected = run_mindir(path, (X,)), forward(net, (X,), graph=False)
    assert len(found) == len(expected) == OUTPUTS[kind]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype or kind == "number"
        np.testing.assert_allclose(one, other, atol=1e-6)
    graph = trace(net, (X,))
    assert list(graph.layers) == ["hidden", "head"] and len(graph.outputs) == OUTPUTS[kind]
    assert {node.attributes.cell for node in graph.nodes if node.layer} == {"hidden:Dense", "head:Dense"}


@pytest.mark.parametrize("kind", ["deep", "dict of None"])
def test_search_and_load(kind: str, tmp_path: Path) -> None:
    net = Returning(kind)
    front = autocomp.search(net, "size<95%", "ascend-310p3", X, trials=3, fine_tune=0, progress=False)
    point = front.pick()
    for ending, run in (("mindir", run_mindir), ("onnx", run_onnx)):
        report = point.export(tmp_path / f"net.{ending}")
        assert report.max_relative_error < 1e-4 and len(run(report.path, (X[:1],))) == OUTPUTS[kind]
    front.save(tmp_path / "front")
    again = autocomp.load(tmp_path / "front", net).pick().net(Tensor(X))
    assert again[1] == {"aux": None, "others": (None, None)} if kind == "dict of None" else again[2] is None
