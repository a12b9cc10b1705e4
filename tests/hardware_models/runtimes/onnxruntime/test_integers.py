"""A runtime that computes in integers between rounded tensors, as onnxruntime does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import autocomp.hardware_models
from autocomp.hardware_models import CostTables, Device, device
from autocomp.hardware_models import lookup as lookup_module
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import FLOAT, INT8
from autocomp.hardware_models.runtimes.onnxruntime.integers import passes, rounded
from autocomp.search_spaces import Convolution, SearchSpace
from tests.hardware_models.networks import FORMATS, Builder, mixed, space_of, spaces

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"
TENSOR = 16 * 16 * 16  # elements of 16 channels at 16x16 pixels
WHOLE = np.full(16, -1)


@pytest.fixture(scope="module")
def chip() -> Device:
    return device(TEMPLATE)


def chain(middle: str = "ReLU", channels: int = 16) -> SearchSpace:
    """Three convolutions with an activation behind each."""
    b = Builder(channels, 16)
    x = 0
    for _ in range(3):
        x = b.add("activation", b.conv(x, channels, units=np.full(channels, -1)), op=middle)
    return b.space()


def lowered(chip: Device, space: SearchSpace, *formats: str) -> LoweredNetwork:
    row = np.array([[FORMATS.index(text) for text in formats]])
    return LoweredNetwork(chip, lower(space.graph), space.workload(row))


def precisions(chip: Device, space: SearchSpace, *formats: str) -> list[int]:
    found = lowered(chip, space, *formats)
    return [int(found.precision(head)[0]) for head in space.graph.layers.values()]


def separately_rounded(network: LoweredNetwork) -> list[float]:
    """In tensors of 16 channels, for each operator."""
    return [float(rounded(network, operator)[0] / TENSOR) for operator in network.program.operators]


@pytest.mark.parametrize("middle", ["ReLU", "Sigmoid", "Elu"])
def test_a_layer_runs_in_integers_where_its_own_format_says_so(chip: Device, middle: str) -> None:
    space = chain(middle)
    assert precisions(chip, space, "w8a8", "w4a8", "w8a8") == [INT8] * 3
    assert precisions(chip, space, "w8a8", "float", "w4a4") == [INT8, FLOAT, INT8]
    assert precisions(chip, space, "w8", "w4", "w4a8") == [FLOAT, FLOAT, INT8]


@pytest.mark.parametrize(("groups", "expected"), [(1, INT8), (16, FLOAT)])
def test_a_transposed_convolution_runs_in_integers_by_its_phases(chip: Device, groups: int, expected: int) -> None:
    """Of grouped ones no convolution computes the phases."""
    b = Builder(16, 16)
    x = b.conv(0, 16, 4, groups, units=WHOLE)
    node = b.nodes[x]
    window = Convolution((4, 4), (2, 2), pad=(1, 1, 1, 1), groups=groups, transposed=True)
    b.nodes[x] = replace(node, shape=(1, 16, 32, 32), attributes=replace(node.attributes, convolution=window))
    assert precisions(chip, b.space(), "w8a8") == [expected]


@pytest.mark.parametrize(
    ("formats", "tensors"),
    [
        (("float", "float", "float"), [0, 0, 0]),
        (("w8", "w4", "w8"), [0, 0, 0]),
        (("w8a8", "w8a8", "w8a8"), [1, 0, 0]),  # the network's input
        (("float", "w8a8", "float"), [1, 0, 1]),  # by the layer that writes it, and by the one that reads it
        (("w8a8", "float", "w8a8"), [1, 2, 0]),
    ],
)
def test_tensors_are_rounded_beside_layers_in_floats(
    chip: Device, formats: tuple[str, ...], tensors: list[float]
) -> None:
    assert separately_rounded(lowered(chip, chain(), *formats)) == tensors


def test_an_activation_that_no_rounding_includes_is_a_pass_in_integers(chip: Device) -> None:
    for op, count in (("ReLU", 0), ("ReLU6", 0), ("Sigmoid", 1)):
        found = lowered(chip, chain(op), "w8a8", "float", "w8a8")
        assert [passes(found, operator)[0] for operator in found.program.operators] == [count, 0, count]


def test_an_activation_that_is_not_free_costs_a_pass_in_floats_alone(chip: Device) -> None:
    """16 channels of 16x16 pixels behind each of three layers, in eight images."""
    latency = {}
    for op in ("ReLU", "ReLU6"):
        rows = np.array([[FORMATS.index(text)] * 3 for text in ("float", "w8", "w8a8")])
        latency[op] = chip.costs(chain(op).workload(rows, 8)).latency_ms
    extra = latency["ReLU6"] - latency["ReLU"]
    floats = 3 * 8 * TENSOR / chip.rates.constants()["activate_per_s"] * 1e3
    np.testing.assert_allclose(extra, [floats, floats, 0], atol=1e-9)
    row = np.zeros((1, 3), int)
    gpu = [device("gpu").costs(chain(op).workload(row, 8)).latency_ms[0] for op in ("ReLU", "ReLU6")]
    assert gpu[0] == gpu[1]


def residual() -> SearchSpace:
    b = Builder(16, 16)
    x = b.conv(0, 16, units=WHOLE)
    y = b.conv(b.conv(x, 16, units=WHOLE), 16, units=WHOLE)
    b.conv(b.add("add", y, x, op="Add"), 16, units=WHOLE)
    return b.space()


def test_an_addition_that_a_layer_in_floats_reads_runs_in_floats(chip: Device) -> None:
    """The layers before it stay in integers, which are converted."""
    assert precisions(chip, residual(), *["w8a8"] * 4) == [INT8] * 4
    inside, outside = (lowered(chip, residual(), *["w8a8"] * 3, last) for last in ("w8a8", "float"))
    add = inside.program.operators[2].output
    assert inside.graph.nodes[add].kind == "add"
    assert bool(inside.quantized(add)[0]) and not outside.quantized(add)[0]


@pytest.mark.parametrize("operator", ["concat", "pool"])
def test_operators_between_layers_run_in_integers_if_all_around_them_do(chip: Device, operator: str) -> None:
    b = Builder(16, 16)
    x, y = (b.conv(0, 16, units=WHOLE) for _ in range(2))
    if operator == "concat":
        middle = b.add("concat", x, y, shape=(1, 32, 16, 16), units=np.full(32, -1), op="Concat")
    else:
        middle = b.add("pool", x, shape=(1, 16, 8, 8), op="AvgPool")
    b.conv(middle, 16, units=WHOLE)
    space = b.space()
    between = [o for o in lower(space.graph).operators if o.head == middle]
    for formats in (("w8a8",) * 3, ("w8a8", "w8a8", "float"), ("float",) * 3):
        found = lowered(chip, space, *formats)
        assert passes(found, between[0])[0] == (formats == ("w8a8",) * 3)


def test_integers_save_time_and_room_where_they_are_multiplied(chip: Device) -> None:
    space = chain(channels=128)
    rows = np.array([[FORMATS.index(text)] * 3 for text in ("float", "w8", "w8a8")])
    cost = chip.costs(space.workload(rows, 4))
    assert cost.latency_ms[1] == cost.latency_ms[0] > cost.latency_ms[2]
    assert cost.memory_mb[1] == cost.memory_mb[0] > cost.memory_mb[2]
    assert cost.size_mb[1] < cost.size_mb[0] and cost.size_mb[2] < cost.size_mb[0]


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
    """In multiples of the device's channels: beyond a whole block, each channel of a depthwise layer takes a block.
    Groups of fewer may be multiplied with more others, and zeros between them."""
    chip = device(TEMPLATE)
    space = space_of(space.graph, chip.channel_divisor)
    assume(not any(node.groups > 1 and not node.depthwise for node in space.graph.nodes))
    groups = [i for i, knob in enumerate(space.knobs) if knob.kind != "format"]
    if not groups:
        return
    plan = space.random(np.random.default_rng(data.draw(st.integers(0, 99))), 1)[0]
    knob = data.draw(st.sampled_from(groups))
    rows = np.tile(plan, (len(space.knobs[knob].values), 1))
    rows[:, knob] = range(len(rows))
    latency = chip.costs(space.workload(rows, 2)).latency_ms
    assert np.all(np.diff(latency) <= 1e-12 * latency[0])
