from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autocomp.hardware_models import device
from autocomp.hardware_models.fitting.own_device import calibrated, predicted
from autocomp.hardware_models.measurements.shapes import MeasuredShape
from autocomp.measurement.own_devices import table_rows, with_results

FAST, RELATIVE = "nvidia-h100", "nvidia-a100"


@pytest.fixture(scope="module")
def rows() -> list[MeasuredShape]:
    """What is asked for where only a relative is known."""
    return table_rows(RELATIVE, Path("none.csv"))


def test_the_rates_of_a_fast_chip_come_back(rows: list[MeasuredShape]) -> None:
    truth, rng = device(FAST), np.random.default_rng(0)
    known = [replace(row, latency_ms=predicted(truth, row) * float(np.exp(rng.normal(0, 0.02)))) for row in rows]
    found = calibrated(device(RELATIVE), known, {"name": "mine"})
    for precision in ("float", "int8"):
        assert found.rates.macs_per_s[precision] == pytest.approx(truth.rates.macs_per_s[precision], rel=0.05)
    assert found.rates.dram_bytes_per_s == pytest.approx(truth.rates.dram_bytes_per_s, rel=0.1)
    assert found.rates.operator_s["float"] == pytest.approx(truth.rates.operator_s["float"], rel=0.1)


def test_shapes_are_not_made_larger_for_a_slow_chip(rows: list[MeasuredShape]) -> None:
    slow = table_rows("ascend-310b4", Path("none.csv"))
    most = {name: max(row.shape.batch for row in found) for name, found in (("fast", rows), ("slow", slow))}
    assert most["slow"] < most["fast"] and len(slow) < len(rows)
    assert len({row.shape.name for row in rows}) == len(rows)


def test_results_of_a_folder(rows: list[MeasuredShape], tmp_path: Path) -> None:
    for i, row in enumerate(rows[:3]):
        (tmp_path / f"{row.shape.name}.json").write_text(json.dumps([{"computeMs": 1.0 + i}]))
    (tmp_path / "notes.md").write_text("not a result")
    found = with_results(rows, [tmp_path])
    assert [row.latency_ms for row in found[:4]] == [1.0, 2.0, 3.0, None]
    with pytest.raises(ValueError, match=r"a folder of results must hold \.json, .* files, but .* holds none"):
        with_results(rows, [_empty(tmp_path)])


def _empty(folder: Path) -> Path:
    empty = folder / "empty"
    empty.mkdir()
    return empty
