"""The shipped data and network are what they say, and the main job runs on them from end to end."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import autocomp
from autocomp.quickstart import load_network, load_samples
from autocomp.quickstart import run as quickstart
from autocomp.quickstart.run import Extent, accuracy, of_cell
from autocomp.search_spaces import Plan
from tests.results.browser import BROWSER, seen_by_browser


@pytest.mark.parametrize(("part", "count"), [("calibrate", 1000), ("evaluate", 2000), ("test", 10_000)])
def test_samples(part: str, count: int) -> None:
    samples = load_samples(part)  # type: ignore[arg-type]
    assert samples.x[0].shape == (count, 1, 28, 28)
    assert samples.x[0].dtype == np.float32
    assert samples.y is not None
    assert set(samples.y) == set(range(10))
    assert abs(samples.x[0].mean()) < 0.05
    assert abs(samples.x[0].std() - 1) < 0.05


def test_parts_do_not_overlap() -> None:
    images = {part: {x.tobytes() for x in load_samples(part).x[0]} for part in ("calibrate", "evaluate", "test")}
    assert not images["evaluate"] & images["test"]
    assert not images["evaluate"] & images["calibrate"]


def test_the_network_was_really_trained() -> None:
    net = load_network()
    assert accuracy(of_cell(net), load_samples("test").take(2000)) >= 0.91
    assert 100_000 <= sum(p.size for p in net.get_parameters()) <= 300_000


def test_incomplete_batches_count_every_sample_once() -> None:
    samples = load_samples("test").take(300)
    assert samples.y is not None
    seen: list[int] = []

    def first_hundred_right(x: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        rows = np.arange(len(x)) + 256 * (len(seen) - 1)
        y = np.resize(samples.y, len(rows) + 256)[rows]  # type: ignore[arg-type]
        return np.eye(10)[np.where(rows < 100, y, (y + 1) % 10)]

    assert accuracy(first_hundred_right, samples) == pytest.approx(100 / 300)
    assert seen == [256, 256]


def test_integers_that_no_processor_multiplies_are_tested_by_the_cell(tmp_path: Path) -> None:
    data = autocomp.Data(calibrate=load_samples("calibrate").take(64), evaluate=load_samples("evaluate").take(64))
    front = autocomp.search(
        load_network(), "size<90%", quickstart.TRAINED_ON, data, inputs=(quickstart.BATCH, 1, 28, 28), trials=2,
        primitives="rtn", progress=False,
    )  # fmt: skip
    point = replace(front.float_point, plan=Plan({"format/head": "w4a8@rtn"}))
    table = quickstart._files({"float": front.float_point, "head": point}, load_samples("test").take(300), tmp_path)
    assert b"QuantV2" in (tmp_path / "head.mindir").read_bytes()
    assert list(table.columns[0].cells) == ["float.mindir", "head.mindir", "float.onnx", "head.onnx"]
    accuracies = [float(str(cell).rstrip(" %")) for cell in table.columns[3].cells]
    assert min(accuracies) > 85


def test_the_notice_is_shipped() -> None:
    notice = (Path(autocomp.__file__).parent / "quickstart" / "NOTICE").read_text()
    assert "Zalando SE" in notice
    assert "Permission is hereby granted" in notice


def test_the_whole_road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "QUICK", Extent(trials=6, calibrate=64, evaluate=200, test=256))
    shown = io.StringIO()
    front = quickstart.run(tmp_path, quick=True, console=Console(file=shown, width=140))
    assert len(front.evaluated) == 6
    files = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "front.json", "float.mindir", "float.onnx"} <= files
    exported = sorted(path for path in tmp_path.iterdir() if path.suffix in (".mindir", ".onnx"))
    assert len(exported) >= 4
    smallest = min(path.stat().st_size for path in exported)
    assert smallest < 0.5 * (tmp_path / "float.onnx").stat().st_size
    assert all(path.name in shown.getvalue() for path in exported)
    assert json.loads((tmp_path / "front.json").read_text())
    if BROWSER is not None:
        seen = seen_by_browser((tmp_path / "report.html").read_text(encoding="utf-8"), tmp_path)
        assert seen["errors"] == [] and seen["boxes"] > 10 and seen["lines"] > 10
        assert all(seen[part] for part in ("front", "network", "search", "arrow", "dark"))
