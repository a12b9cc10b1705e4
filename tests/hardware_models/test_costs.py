"""Costs of plans: many at once equal one by one, and monotone where physics is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.hardware_models import Cost, device, devices
from autocomp.hardware_models import lookup as lookup_module
from autocomp.hardware_models import model as model_module
from autocomp.search_spaces import Argument, Knob, NetworkGraph, Node, NodeAttributes, SearchSpace

from .networks import FORMATS, Builder, mixed, spaces

NAMES = st.sampled_from(devices())
BATCH = st.sampled_from([1, 3, 64])


def random_plans(space: SearchSpace, count: int, seed: int = 0) -> np.ndarray:
    return space.random(np.random.default_rng(seed), count)


@settings(max_examples=30, deadline=None)
@given(spaces(), NAMES, BATCH)
def test_many_plans_at_once_equal_one_by_one(space: SearchSpace, name: str, batch: int) -> None:
    plans = random_plans(space, 40)
    together = device(name).costs(space.workload(plans, batch))
    for i, plan in enumerate(plans):
        assert device(name).costs(space.workload(plan, batch))[0] == together[i]


def test_looked_up_costs_equal_computed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    space = mixed()
    plans = random_plans(space, 2500)
    looked_up = device("ascend").costs(space.workload(plans, 8))
    monkeypatch.setattr(lookup_module, "MOST_COMBINATIONS", 0)
    monkeypatch.setattr(model_module, "CHUNK", 700)
    assert device("ascend").costs(space.workload(plans, 8)) == looked_up


OPERATORS_MB = 0.0012  # at most: unpacking 4 bits, and rounding an input


ANY_CHANNELS = st.sampled_from([name for name in devices() if not device(name).matrix.alignments])


@settings(max_examples=40, deadline=None)
@given(spaces(), ANY_CHANNELS, BATCH, st.data())
def test_one_stronger_choice_never_costs_more(space: SearchSpace, name: str, batch: int, data: st.DataObject) -> None:
    """Fewer channels, and fewer bits; each along the values of one knob, the others anywhere.

    Only the file may grow, by no more than the operators that turn a tiny layer's integers into numbers."""
    plan = random_plans(space, 1, data.draw(st.integers(0, 99)))[0]
    knob = data.draw(st.integers(0, len(space.knobs) - 1))
    rows = np.tile(plan, (len(space.knobs[knob].values), 1))
    rows[:, knob] = range(len(rows))
    if space.knobs[knob].kind == "format":
        rows = rows[[FORMATS.index(text) for text in ("float", "w8a8", "w4a8", "w4a4")]]
    cost = device(name).costs(space.workload(rows, batch))
    for metric in Cost.metrics():
        values = getattr(cost, metric)
        growth = OPERATORS_MB if metric == "size_mb" and space.knobs[knob].kind == "format" else 0.0
        assert np.all(np.diff(values) <= 1e-12 * values[0] + growth), metric


@settings(max_examples=30, deadline=None)
@given(spaces(), NAMES)
def test_a_smaller_batch_is_never_slower(space: SearchSpace, name: str) -> None:
    plans = random_plans(space, 5)
    latencies = [device(name).costs(space.workload(plans, batch)).latency_ms for batch in (1, 2, 5, 64)]
    assert np.all(np.diff(latencies, axis=0) >= 0)


@pytest.mark.parametrize("name", devices())
def test_a_smaller_input_is_never_slower(name: str) -> None:
    latencies = []
    for pixels in (4, 6, 8, 16, 32):
        space = mixed(pixels)
        latencies.append(device(name).costs(space.workload(np.zeros((1, len(space.knobs)), int), 4)).latency_ms[0])
    assert latencies == sorted(latencies)


@pytest.mark.parametrize("name", devices())
def test_formats_that_are_not_executed_give_size_and_no_speed(name: str) -> None:
    space = mixed()
    chip = device(name)
    formats = space.knobs[0].formats
    rows = np.zeros((len(formats), len(space.knobs)), int)
    layers = [i for i, knob in enumerate(space.knobs) if knob.kind == "format"]
    rows[:, layers] = np.arange(len(formats))[:, None]
    cost = chip.costs(space.workload(rows, 64))
    latency = dict(zip(FORMATS, cost.latency_ms, strict=True))
    size = dict(zip(FORMATS, cost.size_mb, strict=True))
    assert latency["w8"] == latency["w4"] == latency["float"]
    assert size["float"] > size["w8"]
    assert size["w8"] == size["w4"] if chip.form == "atc" else size["w8"] > size["w4"]
    if "int8" in chip.rates.macs_per_s:
        assert latency["w4a4"] == latency["w4a8"] == latency["w8a8"]


@pytest.mark.parametrize("name", devices())
def test_what_a_chip_executes_is_faster_where_arithmetic_binds(name: str) -> None:
    b = Builder(256, 64)
    b.conv(0, 256)
    space = b.space()
    rows = np.array([[FORMATS.index(text), 0] for text in ("float", "w8a8", "w4a4")])
    latency = device(name).costs(space.workload(rows, 16)).latency_ms
    assert (latency[1] < latency[0]) == ("int8" in device(name).rates.macs_per_s)
    assert latency[2] == latency[1]  # no file has products of 4-bit integers


def test_channels_cost_by_the_tile() -> None:
    """Between two multiples of 16 an Ascend's matrix unit computes the larger."""
    b = Builder(256, 8)
    b.conv(0, 64)
    space = b.space()
    knob = space.knobs[1]
    kept = Knob("keep/g0", "prune", (), (1.0, 48 / 64, 40 / 64, 32 / 64), knob.group, knob.order)
    fixed = SearchSpace(space.graph, (kept,))
    rows = [device("ascend").cost_table(fixed.workload(np.array([[choice]]), 32))[0] for choice in range(4)]
    assert {row.bound for row in rows} == {"compute"}
    times = [row.latency_ms for row in rows]
    assert times[0] > times[1] == times[2] > times[3]


def test_kernels_of_several_positions_reach_less_of_the_matrix_unit() -> None:
    chip = device("ascend")
    times = {}
    for kernel, channels in ((1, 4608), (3, 512)):
        b = Builder(channels, 32)
        b.conv(0, 4096, kernel)
        times[kernel] = chip.cost_table(b.space().workload(np.zeros((1, 2), int), 64))[0]
    launch = chip.rates.operator_s["float"] * 1e3
    assert times[1].bound == times[3].bound == "compute"
    assert times[1].macs == times[3].macs
    share = (times[1].latency_ms - launch) / (times[3].latency_ms - launch)
    assert share == pytest.approx(chip.rates.window_share)
    assert 0.5 < chip.rates.window_share < 0.9


def in_formats(*names: str) -> Cost:
    """A dense layer of 10 by 40 at batch 2, under each of the formats."""
    own = NodeAttributes((Argument("node", 0),), weight="w")
    dense = Node("dense", "dense", "Dense", (0,), (1, 10), "dense", (10, 40), attributes=own)
    graph = NetworkGraph((Node("x", "input", "Input", (), (1, 40)), dense), (1,), other_params=6)
    space = SearchSpace(graph, (Knob("format/dense", "rtn", ("dense",), names),))
    return device("cpu").costs(space.workload(np.arange(len(names))[:, None], 2))


def test_bit_operations_and_weights_count_exact_bits_whatever_the_device_stores() -> None:
    found = in_formats("float", "w8a8", "w5a8", "w3", "w2a8")
    assert found.bops.tolist() == [800 * bits for bits in (32 * 32, 8 * 8, 5 * 8, 3 * 32, 2 * 8)]
    assert found.weight_bytes.tolist() == [400 * bits / 8 + 6 * 4 for bits in (32, 8, 5, 3, 2)]


@pytest.mark.parametrize("name", ["ascend-310p3", "nvidia-t4"])
def test_bit_operations_of_a_network_are_the_sum_over_its_layers(name: str) -> None:
    space = mixed()
    plans = random_plans(space, 50)
    workload, found = space.workload(plans, 4), device(name).costs(space.workload(plans, 4))
    rows = {row.name: row.macs for row in device(name).cost_table(workload[7:8])}
    bits = {layer: workload[7:8].bits_of(node) for layer, node in space.graph.layers.items()}
    total = sum(rows[layer] * float(weights[0] * inputs[0]) for layer, (weights, inputs) in bits.items())
    assert found.bops[7] == pytest.approx(total)
    assert (found.bops <= found.macs * 32 * 32).all() and (found.weight_bytes <= found.params * 4).all()


def test_a_cost_reads_as_one_or_many() -> None:
    space = mixed()
    cost = device("cpu").costs(space.workload(random_plans(space, 3)))
    assert len(cost) == 3
    assert [one.latency_ms for one in cost] == cost.latency_ms.tolist()
    names = ("latency_ms", "memory_mb", "size_mb", "energy_mj", "macs", "params", "bops", "weight_bytes")
    assert Cost.metrics() == (*names, "tpot_ms", "cache_mb")
    with pytest.raises(TypeError, match="one plan has no length"):
        len(cost[0])


@pytest.mark.parametrize("name", ["nvidia-t4", "nvidia-h100", "ascend-310p3"])
def test_a_layer_that_runs_in_floats_after_all_moves_floats(name: str) -> None:
    """Set to integers it takes what its integers take, or what it takes in floats, whichever is less."""
    chip = device(name)
    shape, own = (1, 2048), NodeAttributes((Argument("node", 0),), weight="w")
    for outputs in (16, 1000, 4096):
        dense = Node("dense", "dense", "Dense", (0,), (1, outputs), "dense", (outputs, 2048), attributes=own)
        graph = NetworkGraph((Node("x", "input", "Input", (), shape), dense), (1,))
        space = SearchSpace(graph, (Knob("format/dense", "rtn", ("dense",), ("float", "w8a8")),))
        slow = replace(chip, rates=replace(chip.rates, macs_per_s={**chip.rates.macs_per_s, "float": 1.0}))
        both = chip.costs(space.workload(np.array([[0], [1]])))
        in_integers = slow.costs(space.workload(np.array([[1]]))).latency_ms[0]
        assert both.latency_ms[1] == pytest.approx(min(both.latency_ms[0], in_integers))


def layer_ms(channels: int, kernel: int, name: str = "nvidia-h100") -> float:
    b = Builder(64, 56)
    b.conv(b.conv(0, channels, kernel), 64, kernel)
    return sum(row.latency_ms for row in device(name).cost_table(b.space().workload(np.zeros((1, 4), int), 8)))


def test_channels_between_those_that_a_gpu_reads_at_once_are_slower_than_more_of_them() -> None:
    """Measured on an H100: 64 to 63 channels, 3x3, takes 2.2 times as long; 1x1 1.0 to 1.3 times."""
    assert 1.8 < layer_ms(63, 3) / layer_ms(64, 3) < 2.6
    assert 1.0 < layer_ms(63, 1) / layer_ms(64, 1) < 1.4
    assert layer_ms(56, 3) < layer_ms(61, 3)


@pytest.mark.parametrize("name", [name for name in devices() if device(name).matrix.alignments])
def test_a_search_offers_no_channels_that_a_gpu_punishes(name: str) -> None:
    chip = device(name)
    assert chip.strict_divisor
    assert chip.channel_divisor % min(count for count, *_ in chip.matrix.alignments) == 0
