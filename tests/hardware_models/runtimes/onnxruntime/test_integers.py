"""A runtime that computes in integers only between rounded tensors, as onnxruntime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import autocomp.hardware_models
from autocomp.hardware_models import CostTables, Device, device
from autocomp.hardware_models import lookup as lookup_module
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import FLOAT, INT8, UNPACKED
from autocomp.search_spaces import SearchSpace
from tests.hardware_models.networks import FORMATS, Builder, mixed, spaces

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"


@pytest.fixture(scope="module")
def chip() -> Device:
    return device(TEMPLATE)


def chain(middle: str = "ReLU", channels: int = 16) -> SearchSpace:
    """Three convolutions with an activation behind each."""
    b = Builder(channels, 16)
    x = 0
    for _ in range(3):
        x = b.add("activation", b.conv(x, channels, units=np.full(channels, -1)))
        b.nodes[x] = type(b.nodes[x])(**{**vars(b.nodes[x]), "op": middle})
    return b.space()


def precisions(chip: Device, space: SearchSpace, *formats: str) -> list[int]:
    row = np.array([[FORMATS.index(text) for text in formats]])
    workload = space.workload(row)
    lowered = LoweredNetwork(chip, lower(space.graph), workload)
    return [int(lowered.precision(head)[0]) for head in space.graph.layers.values()]


def test_a_layer_runs_in_integers_where_its_output_is_read_in_integers(chip: Device) -> None:
    space = chain()
    assert precisions(chip, space, "w8a8", "w8a8", "w8a8") == [INT8, INT8, UNPACKED]
    assert precisions(chip, space, "w8a8", "float", "w8a8") == [UNPACKED, FLOAT, UNPACKED]
    assert precisions(chip, space, "w8", "w8a8", "w8a8") == [UNPACKED, INT8, UNPACKED]
    assert precisions(chip, space, "w4a8", "w8a8", "float") == [UNPACKED, UNPACKED, FLOAT]


def test_an_activation_between_them_keeps_floats(chip: Device) -> None:
    assert precisions(chip, chain("Sigmoid"), "w8a8", "w8a8", "w8a8") == [UNPACKED] * 3
    assert precisions(chip, chain("ReLU6"), "w8a8", "w8a8", "w8a8") == [INT8, INT8, UNPACKED]


def test_an_activation_that_is_not_free_costs_a_pass_in_floats_alone(chip: Device) -> None:
    """16 channels of 16x16 pixels behind each of three layers, in eight images."""
    latency = {}
    for op in ("ReLU", "ReLU6"):
        rows = np.array([[FORMATS.index(text)] * 3 for text in ("float", "w8")])
        latency[op] = chip.costs(chain(op).workload(rows, 8)).latency_ms
    extra = latency["ReLU6"] - latency["ReLU"]
    np.testing.assert_allclose(
        extra, [3 * 8 * 16 * 16 * 16 / chip.rates.constants()["activate_per_s"] * 1e3, 0], atol=1e-9
    )
    row = np.zeros((1, 3), int)
    gpu = [device("gpu").costs(chain(op).workload(row, 8)).latency_ms[0] for op in ("ReLU", "ReLU6")]
    assert gpu[0] == gpu[1]


def test_a_residual_addition_keeps_floats(chip: Device) -> None:
    b = Builder(16, 16)
    whole = np.full(16, -1)
    x = b.conv(0, 16, units=whole)
    y = b.conv(b.conv(x, 16, units=whole), 16, units=whole)
    b.conv(b.add("add", y, x), 16, units=whole)
    assert precisions(chip, b.space(), *["w8a8"] * 4) == [UNPACKED, INT8, UNPACKED, UNPACKED]


def test_integers_pass_a_max_pool(chip: Device) -> None:
    b = Builder(16, 16)
    x = b.conv(0, 16, units=np.full(16, -1))
    pool = b.add("pool", x, shape=(1, 16, 8, 8))
    b.nodes[pool] = type(b.nodes[pool])(**{**vars(b.nodes[pool]), "op": "MaxPool"})
    b.conv(pool, 16, units=np.full(16, -1))
    assert precisions(chip, b.space(), "w8a8", "w8a8") == [INT8, UNPACKED]


def test_storing_integers_costs_time_and_saves_room(chip: Device) -> None:
    space = chain(channels=128)
    rows = np.array([[FORMATS.index(text)] * 3 for text in ("float", "w8", "w8a8")])
    cost = chip.costs(space.workload(rows, 4))
    assert cost.latency_ms[1] > cost.latency_ms[0] > cost.latency_ms[2]
    assert cost.size_mb[1] < cost.size_mb[0]


@settings(max_examples=25, deadline=None)
@given(spaces(), st.sampled_from([1, 3]))
def test_many_plans_at_once_equal_one_by_one(space: SearchSpace, batch: int) -> None:
    chip = device(TEMPLATE)
    plans = space.random(np.random.default_rng(0), 30)
    together = chip.costs(space.workload(plans, batch))
    tables = CostTables(chip, space, batch)(plans)
    for i, plan in enumerate(plans):
        one = chip.costs(space.workload(plan, batch))[0]
        assert one == together[i]
        for metric in one.metrics():
            assert getattr(tables[i], metric) == pytest.approx(getattr(one, metric), rel=1e-9)


def test_looked_up_costs_equal_computed_ones(chip: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    space = mixed()
    plans = space.random(np.random.default_rng(0), 2500)
    looked_up = chip.costs(space.workload(plans, 8))
    monkeypatch.setattr(lookup_module, "MOST_COMBINATIONS", 0)
    assert chip.costs(space.workload(plans, 8)) == looked_up


@settings(max_examples=25, deadline=None)
@given(spaces(), st.data())
def test_fewer_channels_are_never_slower(space: SearchSpace, data: st.DataObject) -> None:
    chip = device(TEMPLATE)
    groups = [i for i, knob in enumerate(space.knobs) if knob.kind != "format"]
    if not groups:
        return
    plan = space.random(np.random.default_rng(data.draw(st.integers(0, 99))), 1)[0]
    knob = data.draw(st.sampled_from(groups))
    rows = np.tile(plan, (len(space.knobs[knob].values), 1))
    rows[:, knob] = range(len(rows))
    latency = chip.costs(space.workload(rows, 2)).latency_ms
    assert np.all(np.diff(latency) <= 1e-12 * latency[0])
