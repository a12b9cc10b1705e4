"""What was measured of points counts in a budget in place of what was predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import autocomp
from autocomp.deployment.timing import time_points
from autocomp.errors import ExportError
from autocomp.hardware_models import Device, device
from autocomp.measurement.processor import TEMPLATE
from autocomp.results.front import ParetoSet
from tests.fronts import front
from tests.networks import Residual, images, randomised

ROWS = [(0.88, 0.48, 0.5), (0.86, 0.4, 0.4), (0.84, 0.3, 0.3), (0.82, 0.2, 0.2)]


@pytest.fixture
def found() -> ParetoSet:
    return front(ROWS, "latency<50%")


def names(points: ParetoSet) -> list[str]:
    return [next(iter(point.plan)).removeprefix("format/layer") for point in points]


def test_a_point_that_takes_too_long_leaves_the_front_and_the_pick(found: ParetoSet) -> None:
    assert found.pick("accuracy>-3%").accuracy == 0.88
    slow = found.pick("accuracy>-3%")
    found.take_latency(slow, 2.2, 4.0)
    assert names(found) == ["2", "3", "4"]
    with pytest.raises(ValueError, match="no evaluated plan within the budget latency<50% meets accuracy>-3%"):
        found.pick("accuracy>-3%")


def test_a_share_is_of_the_float_network_in_the_same_turns(found: ParetoSet) -> None:
    found.take_latency(found[0], 9.0, 20.0)  # a slow machine at that moment
    assert names(found) == ["1", "2", "3", "4"]
    assert found.float_point.measured["latency_ms"] == 20.0


def test_an_absolute_bound_is_compared_with_the_measured_milliseconds() -> None:
    found = front(ROWS, "latency<2ms")
    found.take_latency(found[-1], 2.1, 3.0)  # predicted 0.8 ms
    assert "4" not in names(found)


def test_points_that_were_not_measured_follow_the_median_of_three(found: ParetoSet) -> None:
    points = dict(zip(names(found), found, strict=True))
    for name, share in (("2", 0.48), ("3", 0.36)):  # 1.2 times as predicted
        found.take_latency(points[name], 4 * share, 4.0)
    assert names(found) == ["1", "2", "3", "4"]
    found.take_latency(points["4"], 4 * 0.24, 4.0)
    assert names(found) == ["2", "3", "4"]  # 48 % are 58 % now


def test_where_all_are_too_slow_the_nearest_are_shown(found: ParetoSet) -> None:
    for point in tuple(found):
        found.take_latency(point, 4.0 * (point.ratio("latency") + 0.5), 4.0)
    assert not found.feasible
    assert found.notes[0].startswith("no evaluated plan meets the budget latency<50%")


def test_it_is_saved(found: ParetoSet, tmp_path: Path) -> None:
    found.take_latency(found[1], 2.2, 4.0)
    again = ParetoSet.load(found.save(tmp_path))
    assert names(again) == names(found) == ["1", "3", "4"]
    assert again.timed.measured == found.timed.measured
    assert again.float_point.measured == {"latency_ms": 4.0}


def test_a_search_for_this_processor_runs_its_points(tmp_path: Path) -> None:
    data = {**device(TEMPLATE).data, "name": "cpu"}  # as if it had been measured
    net = randomised(Residual())
    settings: dict[str, Any] = {"trials": 12, "seed": 1, "progress": False}
    found = autocomp.search(net, "latency<90%", Device.parse(data, "cpu"), images(16), **settings)
    measured = found.timed.measured
    assert measured and found.float_point.measured["latency_ms"] == found.timed.float_ms > 0
    for point in found.evaluated:
        if point.plan in found.timed:
            own, whole, share = measured[point.plan.key]
            assert point.violation == pytest.approx(own / (0.9 * whole) - 1, abs=1e-9)
            assert (point.measured["latency_ms"], point.ratio("latency")) == (own, share)
    again = autocomp.load(found.save(tmp_path), net, images(16))
    assert [point.plan for point in again] == [point.plan for point in found]
    assert [point.measured for point in again] == [point.measured for point in found]


@pytest.mark.parametrize("error", [ExportError("no form"), OSError("the disk is full"), KeyboardInterrupt()])
def test_what_was_found_is_not_lost(
    found: ParetoSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def failing(*_: object) -> bytes:
        raise error

    monkeypatch.setattr("autocomp.deployment.timing._file", failing)
    time_points(found, device(TEMPLATE), ())
    assert names(found) == ["1", "2", "3", "4"]
    assert f"points were not measured on this processor: {str(error) or 'interrupted'}" in caplog.text
