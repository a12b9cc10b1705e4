"""The runtime of a device: named in its file, found for files that name none, the same network under each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp.hardware_models
from autocomp.hardware_models import Device, device, devices
from autocomp.hardware_models.fitting.fit import changed
from autocomp.hardware_models.rates import RuntimeWork
from autocomp.hardware_models.runtimes.onnxruntime import ONNXRUNTIME
from autocomp.hardware_models.runtimes.registry import RUNTIMES
from tests.hardware_models.networks import mixed

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"
EVERY: tuple[str | Path, ...] = (*devices(), TEMPLATE)


def plans(chip: Device) -> Any:
    space = mixed(16)
    return chip.costs(space.workload(space.random(np.random.default_rng(0), 200), 2))


def test_shipped_devices_name_their_runtime() -> None:
    names = {name: device(name).runtime.name for name in EVERY}
    assert set(names.values()) == {"ascend", "tensorrt", "onnxruntime", "lite"} <= set(RUNTIMES)
    assert names["ascend-310p3"] == "ascend" and names["nvidia-t4"] == "tensorrt" and names["cpu"] == "lite"
    assert all(device(name).data["runtime"] == found for name, found in names.items())


@pytest.mark.parametrize("name", devices())
def test_a_file_that_names_no_runtime_has_the_same_costs_and_key(name: str | Path) -> None:
    """Stored fronts and files of one's own were written before files named their runtime."""
    chip = device(name)
    older = Device.parse({key: value for key, value in chip.data.items() if key != "runtime"}, "older")
    assert older.runtime is chip.runtime and older.key == chip.key
    assert plans(older) == plans(chip)


def test_an_older_file_of_onnxruntime_is_known_by_its_precisions() -> None:
    """What it says of work that the runtime no longer does is not read."""
    chip = device(TEMPLATE)
    rates = {**chip.data["rates"], "row_s": 1e-8, "unpack_per_s": 1e9}
    rates["macs_per_s"] = {**rates["macs_per_s"], "unpacked": 4e10}
    data = {key: value for key, value in chip.data.items() if key != "runtime"}
    older = Device.parse({**data, "rates": rates}, "older")
    assert older.runtime is chip.runtime and older.key == chip.key
    assert plans(older) == plans(chip)


def test_another_runtime_is_another_device() -> None:
    chip = device(TEMPLATE)
    lite = Device.parse({**chip.data, "runtime": "lite"}, "other")
    assert lite.key != chip.key
    assert np.any(plans(lite).latency_ms != plans(chip).latency_ms)
    space = mixed(16)
    whole = space.workload(np.zeros((1, len(space.knobs)), np.intp))
    assert lite.costs(whole).memory_mb < chip.costs(whole).memory_mb  # onnxruntime copies what lies in blocks
    assert "gather_per_s" in chip.rates.constants() and "gather_per_s" not in lite.rates.constants()


def test_a_file_without_them_takes_what_its_runtime_does() -> None:
    ascend, t4 = device("ascend-310p3").data, device("nvidia-t4").data
    fusion = {name: value for name, value in ascend["fusion"].items() if name != "pools"}
    assert Device.parse({**ascend, "fusion": fusion}, "mine").fuses_pools
    symmetric = Device.parse({key: value for key, value in t4.items() if key != "symmetric_inputs"}, "mine")
    assert symmetric.symmetric_inputs


def test_constants_of_a_runtime_are_named_as_others() -> None:
    rates = device(TEMPLATE).rates
    new = changed(rates, {"pass_per_s": 2.0, "macs_per_s.int8": 3.0})
    assert new.constants()["pass_per_s"] == 2 * rates.constants()["pass_per_s"]
    assert new.constants()["macs_per_s"]["int8"] == 3 * rates.constants()["macs_per_s"]["int8"]
    assert {name for name, value in new.constants().items() if value != rates.constants()[name]} == {
        "pass_per_s",
        "macs_per_s",
    }


def test_rates_price_the_work_of_their_own_runtime_alone() -> None:
    rates = ONNXRUNTIME.rates()
    with pytest.raises(TypeError, match="must price onnxruntime's work, but got RuntimeWork"):
        rates.serial(np.ones(1), np.ones(1), RuntimeWork())
