"""Files from before entries had their present names are read: fronts, device files, and the keys of storages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.hardware_models import Device, device, devices
from autocomp.hardware_models.older_names import OLDER, in_older_names, in_present_names
from autocomp.primitives.tracing.platform import forward
from tests.searching import network, samples

FOLDER = Path(__file__).resolve().parents[1] / "data" / "older_front"


def test_an_older_front_is_loaded_with_its_network() -> None:
    front = autocomp.load(FOLDER, network())
    assert len(front) == 3 and {"granularity", "thin_macs_per_s"} <= _words((FOLDER / "front.json").read_text())
    x = samples()[0]
    smallest = min(front, key=lambda point: point.cost.size_mb)
    classes = forward(smallest.net, (x,), graph=False)[0].argmax(1)
    assert np.mean(classes == samples()[1]) == pytest.approx(smallest.accuracy, abs=0.02)


def test_an_older_front_solves_another_budget() -> None:
    front = autocomp.load(FOLDER, network())
    assert front.resolve("size<40%").cost.size_mb < 0.4 * front.float_point.cost.size_mb


@pytest.mark.parametrize("name", devices())
def test_older_device_files_are_the_same_devices(name: str) -> None:
    present = device(name)
    older = in_older_names(present.data)
    assert "granularity" in older and "channel_divisor" not in older
    again = Device.parse(older, name)
    assert again.key == present.key and again.data == present.data


def test_names_are_changed_in_tables_within_tables() -> None:
    given = {"matrix": {"thin_depth": True, "tile": {"float": [16, 16, 16]}}, "whole_depth": 1}
    found = in_present_names(given)
    assert found == {"matrix": {"grouped_depth": True, "tile": {"float": [16, 16, 16]}}, "whole_depth": 1}
    assert in_older_names(found) == given and len(set(OLDER.values())) == len(OLDER)


def _words(text: str) -> set[str]:
    return {word.strip('"') for word in text.replace(":", " ").split()}
