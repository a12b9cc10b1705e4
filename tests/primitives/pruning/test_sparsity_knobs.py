"""2:4 sparsity as a choice of a search: in every form of the network, and in its costs."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.hardware_models import device
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import EXACT, ROUNDED, norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, PlanCompressor
from autocomp.primitives.registry import primitive, search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.gains import device_gains, gains_of
from autocomp.search_spaces import Format, NetworkGraph, Node, Plan, SearchSpace, Value
from tests.conftest import Subject

FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))
PRIMITIVES = ("sparsity", "adaround", "channel-pruning")


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


@pytest.fixture(scope="module")
def compressor(residual: Subject) -> PlanCompressor:
    known = residual.evaluator.compressor
    space = search_space(residual.graph, residual.parameters, Choices(FORMATS, 4, PRIMITIVES), known.moments)
    return PlanCompressor(space, residual.parameters, known.ranges, known.moments, known.patches)


def _most_in_four(weight: np.ndarray) -> int:
    rows = np.moveaxis(weight, 1, -1)
    padded = np.concatenate((rows, np.zeros((*rows.shape[:-1], -rows.shape[-1] % 4))), -1)
    return int((padded.reshape(-1, 4) != 0).sum(1).max())


def test_layers_with_groups_of_four_inputs_have_a_knob(named_subject: Callable[[str], Subject]) -> None:
    for name, without in (("residual", {"stem"}), ("concatenating", {"stem.0"})):
        subject = named_subject(name)
        knobs = primitive("sparsity").knobs(subject.graph, {}, FORMATS, 4, {})
        assert {knob.layers[0] for knob in knobs} == set(subject.graph.layers) - without
        assert {knob.values for knob in knobs} == {("dense", "2:4")}
    subject = named_subject("depthwise")
    knobs = primitive("sparsity").knobs(subject.graph, {}, FORMATS, 4, {})
    assert not any(subject.graph.nodes[subject.graph.layers[knob.layers[0]]].depthwise for knob in knobs)


def _everywhere(space: SearchSpace) -> dict[str, str]:
    return {knob.name: "2:4" for knob in space.knobs if knob.kind == "sparsity"}


@pytest.mark.parametrize("others", ["float", "w8", "w4", "w4a8"])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_pruned_then_sparse_then_rounded(compressor: PlanCompressor, others: str, keep: float) -> None:
    space = compressor.space
    plan: dict[str, Value] = dict(_everywhere(space))
    if others != "float":
        plan |= {knob.name: others for knob in space.knobs if knob.kind == "format"}
    plan |= {k.name: keep for k in space.knobs if k.kind == "keep" and keep in k.values and keep < 1}
    found = compressor(Plan(plan))
    sparse = space.sparse(Plan(plan))
    assert sparse == {layer for layer, state in found.layers.items() if state.sparse} and len(sparse) == 7
    for layer, state in found.layers.items():
        assert (_most_in_four(state.weight) <= 2) == (layer in sparse), layer
        assert (state.quantized is not None) == (others != "float")
        assert state.columns.all() == (keep == 1 or layer == "stem"), layer


def test_zeros_without_data(residual: Subject, compressor: PlanCompressor) -> None:
    plain = PlanCompressor(compressor.space, residual.parameters)
    layer = "blocks.0.conv1"
    found = plain(Plan({f"sparsity/{layer}": "2:4"})).layers[layer]
    kept = found.weight != 0
    weight = residual.parameters[residual.graph.nodes[residual.graph.layers[layer]].weight]
    np.testing.assert_array_equal(found.weight[kept], weight[kept])
    moments = PlanCompressor(compressor.space, residual.parameters, moments=compressor.moments)
    by_inputs = moments(Plan({f"sparsity/{layer}": "2:4"})).layers[layer].weight != 0
    assert (by_inputs != kept).any() and _most_in_four(by_inputs) == 2


def test_the_hessian_keeps_more_of_the_outputs(residual: Subject, compressor: PlanCompressor) -> None:
    def error(made: PlanCompressor) -> float:
        found = residual.evaluator.engine.outputs(made(plan), (residual.x,))[0]
        return norm_error(found, residual.evaluator.plain_outputs[0])

    plan = Plan({"sparsity/blocks.0.conv2": "2:4", "sparsity/blocks.1.conv2": "2:4"})
    without = PlanCompressor(compressor.space, residual.parameters)
    assert error(compressor) < 0.8 * error(without)


def _drawn(compressor: PlanCompressor, count: int) -> list[CompressedWeights]:
    vectors = compressor.space.random(np.random.default_rng(3), count)
    return [compressor(compressor.space.decode(vector)) for vector in vectors]


def test_every_form_agrees(residual: Subject, compressor: PlanCompressor, tmp_path: pathlib.Path) -> None:
    elastic, x, parameters = ElasticNetwork(residual.net, residual.graph), (residual.x[:4],), residual.parameters
    for compressed in _drawn(compressor, 6):
        assert any(state.sparse for state in compressed.layers.values())
        elastic.set(compressed)
        expected = elastic(x)[0]
        path = tmp_path / "net.onnx"
        model = onnx_network(residual.graph, parameters, compressed, Style(integer_weights=True))
        path.write_bytes(model.SerializeToString())
        converted = forward(convert(residual.net, residual.graph, parameters, compressed), x, graph=False)[0]
        rounded = any(state.activation is not None for state in compressed.layers.values())
        for found in (converted, run_onnx(path, x)[0]):
            assert norm_error(found, expected) <= (ROUNDED if rounded else EXACT), compressed.plan


def test_a_layer_that_is_only_sparse_is_converted(residual: Subject, compressor: PlanCompressor) -> None:
    compressed = compressor(Plan({"sparsity/head": "2:4"}))
    net = convert(residual.net, residual.graph, residual.parameters, compressed)
    assert _most_in_four(net.head.weight.asnumpy()) == 2


# costs ----------------------------------------------------------------------------------------------------------------


def test_no_gain_where_the_device_multiplies_zeros(compressor: PlanCompressor) -> None:
    space = compressor.space
    vectors = np.stack([np.zeros(len(space.knobs), np.int64), space.encode(Plan(_everywhere(space)))])
    for name in ("cpu", "ascend-310p3", "nvidia-a100", "nvidia-t4"):
        found = device(name).costs(space.workload(vectors, 8))
        for costs in (found.latency_ms, found.size_mb, found.memory_mb, found.energy_mj, found.macs):
            assert costs[0] == costs[1], name


def test_sparse_products_take_their_share_of_the_time(compressor: PlanCompressor) -> None:
    """Or the time of dense ones, where that is less: an operator's fixed time is longer."""
    space, slow = compressor.space, device("nvidia-h100")
    rates = replace(slow.rates, macs_per_s={"float": 1e9}, sparse_share={"float": 0.5}, sparse_operator_s=1e-5)
    slow = replace(slow, rates=rates)
    vectors = np.stack([np.zeros(len(space.knobs), np.int64), space.encode(Plan(_everywhere(space)))])
    workload = space.workload(vectors)
    dense, sparse = (slow.cost_table(space.workload(vector)) for vector in vectors)
    gained = 0
    for before, after in zip(dense, sparse, strict=True):
        is_sparse = before.name in space.sparse(Plan(_everywhere(space)))
        gained += after.latency_ms < before.latency_ms
        assert after.latency_ms <= before.latency_ms and (is_sparse or after == replace(before, share=after.share))
    assert gained >= 6
    costs = slow.costs(workload)
    assert costs.latency_ms[1] < 0.75 * costs.latency_ms[0]
    many = np.tile(vectors, (200, 1))  # costs of many plans are looked up in tables
    np.testing.assert_allclose(slow.costs(space.workload(many)).latency_ms[:2], costs.latency_ms, rtol=1e-12)


def test_automatic_where_the_device_gains(residual: Subject) -> None:
    graph, fast = residual.graph, device("nvidia-h100")
    assert device_gains(device("cpu"), graph, 1) == {}
    slow = replace(fast, rates=replace(fast.rates, macs_per_s={"float": 1e8}, sparse_share={"float": 0.5}))
    gains = device_gains(slow, graph, 1)
    assert gains and set(gains.values()) == {("2:4",)}
    space = search_space(graph, residual.parameters, Choices(FORMATS, 4, gains=gains))
    assert {knob.name for knob in space.knobs if knob.kind == "sparsity"} == set(gains)
    for choices in (Choices(FORMATS, 4), Choices(FORMATS, 4, gains={})):
        space = search_space(graph, residual.parameters, choices)
        assert not any(knob.kind == "sparsity" for knob in space.knobs)
    with pytest.raises(NoEffectError):
        search_space(graph, residual.parameters, Choices(FORMATS, 4, "sparsity", gains={}))


@pytest.mark.parametrize(("rows", "gains"), [(8192, True), (128, False)])
def test_products_gain_on_h100_if_they_are_large(rows: int, gains: bool) -> None:
    """As measured there: 1.23 times as fast with 8,192 rows of 4,096 channels in and out, and slower with 128."""
    nodes = (
        Node("x", "input", "Input", (), (rows, 4096), units=np.full(4096, -1)),
        Node("fc", "dense", "Dense", (0,), (rows, 4096), "fc", (4096, 4096), units=np.full(4096, -1)),
    )
    graph = NetworkGraph(nodes, (1,))
    space = SearchSpace(graph, primitive("sparsity").knobs(graph, {}, FORMATS, 4, {}))
    assert bool(gains_of(device("nvidia-h100"), space, 1)) == gains
