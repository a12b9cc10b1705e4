from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autocomp.hardware_models import Device, device
from autocomp.hardware_models.device_file import rates_data
from autocomp.hardware_models.fitting.fit import changed
from autocomp.hardware_models.fitting.own_device import calibrated, fitted_rates, predicted
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


CHIPS: dict[str, tuple[str, dict[str, float]]] = {  # a known relative, and how many times as fast the device is
    "a camera's chip": ("ascend-310b4", {"macs_per_s.float": 0.1, "macs_per_s.int8": 0.2, "dram_bytes_per_s": 0.2}),
    "twice an Ascend": ("ascend-310p3", {"macs_per_s.float": 2, "dram_bytes_per_s": 3, "cache_bytes_per_s": 2}),
    "an H100": ("nvidia-t4", {"macs_per_s.float": 12, "macs_per_s.int8": 12, "dram_bytes_per_s": 9, "vector_per_s": 8}),
}


@pytest.mark.parametrize("name", CHIPS)
def test_the_rates_of_any_chip_come_back(name: str) -> None:
    """Matrix rates, bandwidth and launch, from times with 2 % of noise; a launch of less than 1 % is not seen."""
    relative, factors = CHIPS[name]
    chip, rng = device(relative), np.random.default_rng(1)
    truth = changed(chip.rates, factors)
    real = Device.parse({**chip.data, "rates": rates_data(truth) | {"source": "test"}}, "real")
    rows = table_rows(chip, Path("none.csv"))
    known = [replace(row, latency_ms=predicted(real, row) * float(np.exp(rng.normal(0, 0.02)))) for row in rows]
    found = fitted_rates(chip, known)
    for precision in ("float", "int8"):
        assert found.macs_per_s[precision] == pytest.approx(truth.macs_per_s[precision], rel=0.1)
    assert found.dram_bytes_per_s == pytest.approx(truth.dram_bytes_per_s, rel=0.1)
    unseen = 1e-5 * float(np.median([row.latency_ms for row in known if row.latency_ms is not None]))  # seconds
    assert found.operator_s["float"] == pytest.approx(truth.operator_s["float"], rel=0.1, abs=unseen)
    assert found.inference_s == pytest.approx(truth.inference_s, rel=0.1)


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
