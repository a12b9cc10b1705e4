from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autocomp.deployment.inspection.layer_tables import LayerCounter
from autocomp.deployment.inspection.layer_times import KernelTime, node_of, owners, times_by
from autocomp.deployment.inspection.profiler import Profiler, is_here, threads_of
from autocomp.hardware_models import device
from autocomp.search_spaces import Plan
from tests.conftest import Subject


@pytest.mark.parametrize(
    ("kernel", "node"),
    [
        ("conv1", "conv1"), ("conv10", "conv10"), ("conv1_nchwc", "conv1"), ("conv1#rounded.levels", "conv1"),
        ("conv10.weight.float", "conv10"), ("Transpose_token_3", None), ("conv", None),
    ],
)  # fmt: skip
def test_a_kernel_is_named_after_its_node(kernel: str, node: str | None) -> None:
    assert node_of(kernel, ["conv1", "conv10"]) == node


def test_times_are_added_by_owner() -> None:
    kernels = [
        KernelTime("Reorder", "ReorderInput", 1.0),
        KernelTime("relu_nchwc", "Conv", 10.0),
        KernelTime("Transpose", "Transpose", 2.0),
        KernelTime("fc", "Gemm", 20.0),
        KernelTime("relu", "Relu", 4.0),
        KernelTime("Reorder", "ReorderOutput", 0.5),
    ]
    owner = {"relu": "relu", "fc": "fc"}
    assert times_by(kernels, owner) == {"relu": 15.5, "fc": 22.0}
    assert times_by(kernels, owner, {"relu": "conv", "fc": "fc"}) == {"conv": 11.0, "fc": 22.0, "relu": 4.5}
    assert times_by(kernels[:1], owner) == {}


def test_operators_without_weights_count_with_the_layer_before(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("residual").evaluator.space.graph
    found = owners(graph)
    assert set(found.values()) == set(graph.layers) and "Input-0" not in found
    assert all(found[layer] == layer for layer in graph.layers)
    assert found["blocks.0.bn1"] == "blocks.0.conv1"


@pytest.mark.parametrize("form", ["", "w8a8"])
def test_layers_are_measured_on_this_processor(named_subject: Callable[[str], Subject], form: str) -> None:
    evaluator = named_subject("residual").evaluator
    knobs = [knob for knob in evaluator.space.knobs if knob.kind == "format"]
    plan = Plan({knob.name: form for knob in knobs} if form else {})
    found = Profiler(evaluator, device("cpu"), 2)(plan, 4)
    assert all(layer.measured_ms is not None and layer.measured_ms > 0 for layer in found.layers)
    assert found.measured_ms == pytest.approx(sum(layer.measured_ms or 0 for layer in found.layers))
    assert "measured on this processor" in str(found)
    elsewhere = Profiler(evaluator, device("ascend-310p3"), 2)(plan, 4)
    assert elsewhere.measured_ms is None and "measured on this" not in str(elsewhere)


def test_which_device_is_here() -> None:
    chip = device("cpu")
    assert is_here(chip) and is_here(replace(chip, name="cpu:4")) and not is_here(device("ascend"))
    assert threads_of(chip) == 1 and threads_of(replace(chip, name="cpu:4")) == 4


@pytest.mark.parametrize("name", ["ascend-310p3", "cpu"])
def test_memory_over_time_peaks_where_the_cost_model_says(named_subject: Callable[[str], Subject], name: str) -> None:
    space, chip = named_subject("residual").evaluator.space, device(name)
    plan = Plan({knob.name: knob.values[-1] for knob in space.knobs})
    tables = LayerCounter(chip, space, 4)([plan])
    for one in (Plan(), plan):
        cost = chip.costs(space.workload(space.encode(one)[None], 4))[0]
        rows = tables.plans[one.key]
        assert max(row.memory_mb for row in rows) == pytest.approx(cost.memory_mb)
        assert len({round(row.memory_mb, 6) for row in rows}) > 2
