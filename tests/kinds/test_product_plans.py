"""Plans with products of two activations in integers: the same numbers in every form, in files, costs and fronts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.errors import NoEffectError
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.hardware_models import device
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import EXACT, ROUNDED, norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.quantization.product_knobs import PRODUCTS
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.exclusion import excluded_layers
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem import jobs
from autocomp.problem.gains import device_gains
from autocomp.search_spaces import Format, Knob, NetworkGraph, Plan, SearchSpace
from tests.kinds.attention_networks import network
from tests.networks import images, tokens
from tests.primitives.export.integer_networks import kernels_of

NAMES = ("vit", "fused", "swin", "shared", "opened", "bert")
CUT = ("vit", "fused", "opened")
FORMATS = [Format.parse(text) for text in ("float", "w8", "w8a8", "w4")]
INTEGERS = "w8a8"


@dataclass
class Made:
    net: Any
    evaluator: Any
    choices: Choices
    x: np.ndarray

    @property
    def graph(self) -> NetworkGraph:
        graph: NetworkGraph = self.evaluator.space.graph
        return graph

    @property
    def products(self) -> dict[str, str]:
        return {f"format/{name}": INTEGERS for name in self.graph.products}

    @property
    def layers(self) -> dict[str, str]:
        return {f"format/{layer}": INTEGERS for layer in self.graph.layers}

    def written(self, plan: Any, integers: bool) -> bytes:
        compressed = self.evaluator.compress(Plan(plan))
        data = onnx_network(self.graph, self.evaluator.parameters, compressed, Style(integer_weights=integers))
        return bytes(data.SerializeToString())

    def outputs(self, plan: Any, integers: bool = False) -> np.ndarray:
        return run_onnx(self.written(plan, integers), (self.x,))[0]


@cache
def made(name: str, symmetric: bool = False) -> Made:
    net, x = network(name), (tokens if name == "bert" else images)(16)
    cuts = ("channel-pruning",) if name in CUT else ()
    choices = Choices(FORMATS, 4, (*cuts, "rtn", PRODUCTS), symmetric, quantizes_tensors=True)
    return Made(net, jobs.evaluator_of(net, trace(net, (x[:1],)), choices, (x,), None, (x,)), choices, x)


@pytest.mark.parametrize("name", NAMES)
def test_both_products_of_attention_are_choices(name: str) -> None:
    own = made(name)
    knobs = [knob for knob in own.evaluator.space.knobs if knob.primitive == PRODUCTS]
    assert len(knobs) == len(own.graph.products) == 2
    assert [knob.layers for knob in knobs] == [(one,) for one in own.graph.products]
    assert all(knob.values == ("float", INTEGERS) for knob in knobs)


@pytest.mark.parametrize("name", NAMES)
def test_files_multiply_integers_where_the_plan_says_so(name: str, tmp_path: Path) -> None:
    own = made(name)
    first, second = own.products
    for plan, count in (({}, 0), (own.layers, 0), ({first: INTEGERS}, 1), ({second: INTEGERS}, 1), (own.products, 2)):
        ran = kernels_of(own.written(plan, True), own.x, tmp_path)
        assert ran["MatMulIntegerToFloat"] + ran["QLinearMatMul"] == count, plan
        assert ran["MatMul"] + ran["FusedMatMul"] == 2 - count, plan
    ran = kernels_of(own.written(own.layers | own.products, True), own.x, tmp_path)
    assert not ran["MatMul"] + ran["FusedMatMul"] + ran["Gemm"]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_computes_what_was_evaluated(name: str) -> None:
    own = made(name)
    groups = {knob.name: knob.values[-1] for knob in own.evaluator.space.knobs if knob.group}
    assert bool(groups) == (name in CUT)
    plain = own.outputs({})
    assert norm_error(own.outputs(own.products, True), own.outputs(own.products)) < EXACT
    for plan in (own.products, own.layers | own.products, groups | own.layers | own.products):
        assert norm_error(own.outputs(plan, True), own.outputs(plan)) < ROUNDED
        assert norm_error(own.outputs(plan), plain) > 1e-3
    assert norm_error(own.outputs(own.products), plain) < 0.02


def test_a_product_is_that_of_both_operands_rounded() -> None:
    """Each with the one scale of its tensor, queries, keys and values of one layer too."""
    own = made("fused")
    compressed = own.evaluator.compress(Plan(own.products))
    flow, engine = own.graph.integer_flow, own.evaluator.engine
    for i in own.graph.products.values():
        operands = own.graph.nodes[i].inputs
        found = engine.node_outputs(compressed, (own.x,), {*operands, i})
        a, b = (compressed.tensors[source](found[source]) for source in operands)
        a, b = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
        assert norm_error(found[i].reshape(-1), (a @ b).reshape(-1)) < EXACT
    parts = {flow.source[i] for i in compressed.tensors}
    assert len(parts) == 4 and len({compressed.tensors[i] for i in parts}) == 4


def test_a_softmax_has_all_levels_above_zero() -> None:
    own = made("vit")
    compressed = own.evaluator.compress(Plan(own.products))
    (softmax,) = (i for i in compressed.tensors if own.graph.nodes[i].op.startswith("Softmax"))
    assert compressed.tensors[softmax].zero_point == 0 and compressed.tensors[softmax].scale <= 1.0001 / 255


def test_a_plan_without_them_is_as_it_was() -> None:
    own = made("vit")
    choices = replace(own.choices, primitives=("channel-pruning", "rtn"))
    without = jobs.evaluator_of(own.net, own.graph, choices, (own.x,), None, (own.x,))
    plan = own.layers | {"keep/queries": 0.5}
    assert Made(own.net, without, choices, own.x).written(plan, True) == own.written(plan, True)
    with pytest.raises(ValueError, match="unknown knob 'format/MatMul"):
        without.space.encode(Plan(own.products))


def test_symmetric_files_round_both_operands_around_zero() -> None:
    own = made("swin", symmetric=True)
    compressed = own.evaluator.compress(Plan(own.layers | own.products))
    assert all(one.symmetric for one in compressed.tensors.values())
    read = {own.graph.nodes[i].inputs[k] for i in own.graph.products.values() for k in (0, 1)}
    assert read <= compressed.tensors.keys()
    assert norm_error(own.outputs(own.layers | own.products, True), own.outputs(own.layers | own.products)) < ROUNDED


def test_training_leaves_products_in_floats_and_the_file_has_them(tmp_path: Path) -> None:
    own = made("vit")
    deployer = NetworkDeployer(own.net, own.evaluator, (own.x,), own.choices)
    plan = Plan(own.layers | own.products | {"keep/queries": 0.5})
    tuned, _ = deployer.fine_tune(plan, own.x, FineTuning(steps=1, batch=8))
    tuned.export(plan, tmp_path / "net.onnx")
    ran = kernels_of((tmp_path / "net.onnx").read_bytes(), own.x, tmp_path)
    assert not ran["MatMul"] + ran["FusedMatMul"]


# costs ---------------------------------------------------------------------------------------------------------------


def of(graph: NetworkGraph) -> tuple[SearchSpace, np.ndarray]:
    """Formats of layers and products, and four plans: floats, layers, products, both in integers."""
    names = [*graph.layers, *graph.products]
    space = SearchSpace(graph, tuple(Knob(f"format/{name}", "rtn", (name,), ("float", INTEGERS)) for name in names))
    layers = np.arange(len(names)) < len(graph.layers)
    return space, np.stack([0 * layers, layers, ~layers, layers | ~layers]).astype(np.int64)


@pytest.mark.parametrize("name", [str(TEMPLATE), "nvidia-a100", "ascend-310p3", "cpu"])
def test_only_runtimes_that_multiply_them_gain(name: str) -> None:
    chip, (space, vectors) = device(name), of(made("vit").graph)
    found = chip.costs(space.workload(vectors, 2048))
    of_products = found.latency_ms[0] - found.latency_ms[2]
    if name == "nvidia-a100":
        assert of_products > 0 and len(device_gains(chip, space.graph, 2048, [PRODUCTS])) == 2
    if name in ("ascend-310p3", "cpu"):
        assert found.latency_ms[3] == found.latency_ms[1] != found.latency_ms[0] and of_products == 0
        assert not device_gains(chip, space.graph, 2048, [PRODUCTS])
    if name == str(TEMPLATE):
        rows = {row.name: row.latency_ms for row in chip.cost_table(space.workload(vectors[2:3], 64))}
        floats = {row.name: row.latency_ms for row in chip.cost_table(space.workload(vectors[:1], 64))}
        assert all(rows[product] >= floats[product] for product in space.graph.products)


@pytest.mark.parametrize("name", NAMES)
def test_what_they_add_to_a_file_is_predicted(name: str) -> None:
    chip, own = device(str(TEMPLATE)), made(name)
    space = own.evaluator.space
    for layers in ({}, own.layers):
        plans = [Plan(layers), Plan(layers | own.products)]
        predicted = np.diff(chip.costs(space.workload(np.stack([*map(space.encode, plans)]))).size_mb)
        assert 1e6 * predicted[0] == pytest.approx(np.diff([len(own.written(p, True)) for p in plans])[0], rel=0.06)


# choices -------------------------------------------------------------------------------------------------------------


def test_auto_offers_them_where_they_pay() -> None:
    own = made("vit")
    gains = device_gains(device("nvidia-a100"), own.graph, 2048)
    assert gains.keys() >= own.products.keys()
    for found, expected in ((gains, 2), ({}, 0)):
        choices = replace(own.choices, primitives="auto", gains=found)
        space = search_space(own.graph, own.evaluator.parameters, choices)
        assert sum(knob.primitive == PRODUCTS for knob in space.knobs) == expected


def test_without_a_runtime_or_a_form_that_rounds_tensors_they_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = made("vit")
    with pytest.raises(NoEffectError, match="rounds both operands of a product"):
        search_space(own.graph, own.evaluator.parameters, replace(own.choices, quantizes_tensors=False))
    engine = MindSporeEngine(own.net, own.graph)
    monkeypatch.setattr(jobs, "choose_engine", lambda *_: engine)
    with pytest.raises(NoEffectError, match="needs a network with an ONNX form"):
        jobs.evaluator_of(own.net, own.graph, own.choices, (own.x,), None, (own.x,))


def test_a_cell_that_is_excluded_takes_its_products_with_it() -> None:
    own = made("swin")
    excluded = excluded_layers(own.net, own.graph, "attention")
    assert excluded == {"attention.qkv", "attention.mix", *own.graph.products}
    space = search_space(own.graph, own.evaluator.parameters, replace(own.choices, excluded=excluded))
    assert {knob.layers[0] for knob in space.knobs} == {"patches", "head"}


# the road of a search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swin", "bert"])
def test_a_search_finds_exports_and_reads_them_back(name: str, tmp_path: Path) -> None:
    own = made(name)
    settings: dict[str, Any] = {"primitives": ("rtn", PRODUCTS), "trials": 4, "progress": False}
    front = autocomp.search(own.net, None, str(TEMPLATE), own.x, **settings)
    point = front.evaluate(Plan(own.layers | own.products))
    shown: Any = front.deployer.layers([point.plan])  # type: ignore[union-attr]
    rows = {one.name: row.format for one, row, _ in shown.rows(point.plan)}
    assert {rows[product] for product in own.graph.products} == {INTEGERS}
    report = point.export(tmp_path / "net.onnx")
    assert report.max_relative_error < ROUNDED
    assert not kernels_of(report.path.read_bytes(), own.x, tmp_path)["MatMul"]
    front.save(tmp_path / "front")
    loaded = autocomp.load(tmp_path / "front", own.net, own.x)
    assert loaded.evaluate(point.plan).accuracy == point.accuracy


def test_a_network_is_rebuilt_from_a_plan_with_products() -> None:
    """Its products are in floats, as in every Cell."""
    own = made("swin")
    plan = Plan(own.layers | own.products)
    small = autocomp.rebuild(own.net, str(plan), own.x[:1])
    cell = NetworkDeployer(own.net, own.evaluator, (own.x,), own.choices).net(plan)
    assert {p.name: p.shape for p in small.get_parameters()} == {p.name: p.shape for p in cell.get_parameters()}
