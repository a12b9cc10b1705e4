"""A search for onnxruntime: what is evaluated, exported, stored and trained has tensors in integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import autocomp
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.export.files import ROUNDED, norm_error, run_onnx
from autocomp.primitives.tracing.platform import forward
from autocomp.results.front import ParetoSet, Point
from autocomp.search_spaces import Plan
from tests.networks import images
from tests.searching import network, samples, search

INTEGERS = "w8a8"


@pytest.fixture(scope="module")
def front() -> ParetoSet:
    found = search(budget=None, device=str(TEMPLATE), trials=4)
    assert isinstance(found, ParetoSet)
    return found


@pytest.fixture(scope="module")
def point(front: ParetoSet) -> Point:
    """Every layer in integers."""
    deployer: Any = front.deployer
    space = deployer.evaluator.space
    return front.evaluate(Plan({knob.name: INTEGERS for knob in space.knobs if knob.kind == "format"}))


def rounded(path: Path) -> int:
    """How many tensors the file rounds."""
    return [node.op_type for node in onnx.load(path).graph.node].count("QuantizeLinear")


def test_the_file_rounds_additions_too(point: Point, tmp_path: Path) -> None:
    point.export(tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    added = [node for node in graph.node if node.op_type == "Add"]
    assert added
    for node in added:
        assert {made[name] for name in node.input} == {"DequantizeLinear"}


def test_the_file_gives_the_accuracy_that_the_search_found(point: Point, tmp_path: Path) -> None:
    point.export(tmp_path / "net.onnx")
    x, y = samples()
    (scores,) = run_onnx(tmp_path / "net.onnx", (x,))
    assert np.mean(scores.argmax(1) == y) == pytest.approx(point.accuracy, abs=0.02)


def test_a_stored_front_exports_the_same_file(front: ParetoSet, point: Point, tmp_path: Path) -> None:
    loaded = autocomp.load(front.save(tmp_path / "front"), network(), samples())
    again = next(one for one in loaded.evaluated if one.plan == point.plan)
    for one, name in ((point, "first.onnx"), (again, "second.onnx")):
        one.export(tmp_path / name)
    first, second = (run_onnx(tmp_path / name, (images(4),))[0] for name in ("first.onnx", "second.onnx"))
    assert np.array_equal(first, second)


def test_a_trained_point_is_exported_in_integers(point: Point, tmp_path: Path) -> None:
    tuned = point.fine_tune(samples(), epochs=1, batch=100, progress=False)
    tuned.export(tmp_path / "tuned.onnx")
    point.export(tmp_path / "point.onnx")
    assert rounded(tmp_path / "tuned.onnx") >= rounded(tmp_path / "point.onnx")  # two readers may have trained apart
    (found,) = run_onnx(tmp_path / "tuned.onnx", (samples()[0],))
    assert np.mean(found.argmax(1) == samples()[1]) == pytest.approx(tuned.accuracy, abs=0.02)
    (floats,) = run_onnx(tmp_path / "tuned.onnx", (images(4),))
    assert norm_error(floats, forward(tuned.net, (images(4),), graph=False)[0]) < 2 * ROUNDED
