"""Plans that hold keys and values in integers: the rounding, the costs, the front, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.errors import NoEffectError
from autocomp.hardware_models import device
from autocomp.hardware_models.generation import costs_of
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.quantization import product_knobs
from autocomp.primitives.quantization.product_knobs import CACHE, PRODUCTS, CacheKnobs
from autocomp.primitives.registry import search_space
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.exclusion import excluded_layers
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Knob, NetworkGraph, Plan, SearchSpace
from autocomp.search_spaces.decoding import attentions
from tests.primitives.heads import Heads
from tests.primitives.quantization.small_llama import DEPTH, KEY_HEADS, LENGTH, small_llama, tokens

CONTEXT, NPU = 500, "ascend-910b1:mindspore"
FORMATS = [Format.parse(text) for text in ("w8", "w8a8")]
CHOICES = Choices(FORMATS, 4, ("channel-pruning", "rtn", CACHE), context=CONTEXT)
FIRST, SECOND = "cache/blocks.0.attention", "cache/blocks.1.attention"


@dataclass
class Made:
    net: Any
    evaluator: Any
    x: np.ndarray

    @property
    def space(self) -> SearchSpace:
        return self.evaluator.space

    @property
    def graph(self) -> NetworkGraph:
        return self.space.graph

    def outputs(self, plan: dict[str, Any]) -> np.ndarray:
        return np.asarray(self.evaluator.engine.outputs(self.evaluator.compress(Plan(plan)), (self.x,))[0])


@pytest.fixture(scope="module")
def made() -> Made:
    net, x = small_llama(), tokens(8)
    return Made(net, evaluator_of(net, trace(net, (x[:1],)), CHOICES, (x,), None, (x,)), x)


def test_each_attention_has_a_knob(made: Made) -> None:
    knobs = [knob for knob in made.space.knobs if knob.kind == "cache"]
    assert [knob.name for knob in knobs] == [FIRST, SECOND]
    assert [name for knob in knobs for name in knob.layers] == list(made.graph.products)
    assert all(knob.values == ("float", "int8", "int4") and knob.primitive == CACHE for knob in knobs)
    assert made.space.cache_parts(Plan({SECOND: "int4"})) == (None, None, 4, 4)


def test_an_odd_depth_takes_no_half_bytes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [one._replace(depth=3) for one in attentions(made.graph)]
    monkeypatch.setattr(product_knobs, "attentions", lambda graph: odd)
    assert {knob.values for knob in CacheKnobs().knobs(made.graph, {}, FORMATS, 4, {})} == {("float", "int8")}


def levels(x: np.ndarray, axis: int, bits: int) -> np.ndarray:
    scale = np.maximum(np.abs(x).max(axis, keepdims=True) / (2 ** (bits - 1) - 1), 1e-8)
    return np.asarray(np.round(x / scale) * scale)


@pytest.mark.parametrize(("value", "bits"), [("int8", 8), ("int4", 4)])
def test_earlier_tokens_are_rounded_and_a_token_itself_is_not(made: Made, value: str, bits: int) -> None:
    compressed, engine = made.evaluator.compress(Plan({SECOND: value})), made.evaluator.engine
    keys, values = (made.graph.products[name] for name in attentions(made.graph)[1].products)
    wanted = {i for product in (keys, values) for i in (product, *made.graph.nodes[product].inputs)}
    found, own = engine.node_outputs(compressed, (made.x,), wanted), np.eye(LENGTH, dtype=bool)
    q, k = (found[i] for i in made.graph.nodes[keys].inputs)
    np.testing.assert_allclose(found[keys], np.where(own, q @ k, q @ levels(k, -2, bits)), rtol=1e-4, atol=1e-3)
    shares, v = (found[i] for i in made.graph.nodes[values].inputs)
    alone = np.where(own, shares, 0)
    expected = (shares - alone) @ levels(v, -1, bits) + alone @ v
    np.testing.assert_allclose(found[values], expected, rtol=1e-4, atol=1e-4)


def test_fewer_bits_cost_more_and_the_first_token_nothing(made: Made) -> None:
    plain = made.outputs({})
    eight, four = (made.outputs({FIRST: value, SECOND: value}) for value in ("int8", "int4"))
    assert 1e-3 < norm_error(eight, plain) < norm_error(four, plain)
    np.testing.assert_allclose(four[:, 0], plain[:, 0], atol=1e-4)


def test_networks_and_files_have_no_cache(made: Made, tmp_path: Path) -> None:
    """Beside other choices: the Cell and the file compute what the plan without the cache's choice gives."""
    keep = next(knob for knob in made.space.knobs if knob.group and knob.name.endswith("gate"))
    others = {keep.name: keep.values[1], "format/blocks.0.down": "w8"}
    plan, deployer = Plan({**others, FIRST: "int4"}), NetworkDeployer(made.net, made.evaluator, (made.x,), CHOICES)
    plain = made.outputs(others)
    assert norm_error(made.outputs(dict(plan)), plain) > 0.01
    assert norm_error(forward(deployer.net(plan), (made.x,), graph=False)[0], plain) < 1e-3
    report = deployer.export(plan, tmp_path / "net.onnx")
    assert norm_error(autocomp.load_deployed(report.path).run(made.x)[0], plain) < 1e-3


def test_costs_follow_the_plan(made: Made) -> None:
    numbers = CONTEXT * KEY_HEADS * DEPTH  # keys, or values, of one attention
    plans = [{}, {FIRST: "int8"}, {FIRST: "int4"}, {FIRST: "int4", SECOND: "int4"}]
    vectors = np.stack([made.space.encode(Plan(plan)) for plan in plans])
    for batch in (1, 3):
        found = costs_of(device(NPU), made.space, batch, CONTEXT)(vectors)
        each = np.array([[2.0, 2.0], [1 + 4 / DEPTH, 2.0], [0.5 + 4 / DEPTH, 2.0], [0.5 + 4 / DEPTH] * 2])
        np.testing.assert_allclose(found.cache_mb, 2 * batch * numbers * each.sum(1) / 1e6)
        np.testing.assert_allclose(found.memory_mb - found.cache_mb, found.memory_mb[0] - found.cache_mb[0])
        assert np.ptp(found.latency_ms) == np.ptp(found.size_mb) == 0
        assert (np.diff(found.tpot_ms) > 0).all(), "integers become floats before they are multiplied"
    assert (costs_of(device(NPU), made.space, 1, 100 * CONTEXT)(vectors).tpot_ms > found.tpot_ms).all()


def test_heads_that_are_cut_leave_the_cache(made: Made) -> None:
    keep = next(knob for knob in made.space.knobs if knob.group and knob.name.endswith("0.attention.q"))
    vectors = np.stack([made.space.encode(Plan({FIRST: "int8", keep.name: value})) for value in keep.values])
    vectors[0] = made.space.encode(Plan({FIRST: "int8"}))
    found = costs_of(device(NPU), made.space, 1, CONTEXT)(vectors)
    part = 2 * CONTEXT * KEY_HEADS * DEPTH / 1e6
    kept = keep.kept.mean(1)
    np.testing.assert_allclose(found.cache_mb, part * (2 + (1 + 4 / DEPTH) * kept))


def test_a_search_chooses_the_bits(tmp_path: Path) -> None:
    data = autocomp.Data(evaluate=tokens(16), metric="perplexity")
    front = autocomp.search(
        small_llama(), "cache<60%, memory<100%", NPU, data, primitives=["rtn", CACHE], trials=6, context=CONTEXT,
        progress=False,
    )  # fmt: skip
    assert front.feasible and all(any(point.cache_bits) for point in front), "floats have more than 60 %"
    best = min(front, key=lambda point: point.value("cache"))
    assert "cache int" in best.name and CACHE in best.primitives
    front.save(tmp_path)
    again = autocomp.load(tmp_path, small_llama(), data)
    (same,) = (point for point in again if point.plan == best.plan)
    assert same.cache_bits == best.cache_bits and set(same.cache_bits) <= {8, 4, None}
    measured = again.evaluate(best.plan)
    assert measured.accuracy == pytest.approx(best.observed) and measured.value("cache") == best.value("cache")
    with pytest.raises(ValueError, match="a point needs its network to be applied"):
        assert autocomp.load(tmp_path)[0].cache_bits


def test_where_it_has_no_effect_a_sentence_says_why(made: Made) -> None:
    def space(**given: Any) -> SearchSpace:
        return search_space(made.graph, parameters_of(made.net), replace(CHOICES, **given))

    for given, said in (
        ({"context": None}, "chooses the bits of a language model's cache, .*: give context=4096, too"),
        ({"cache_bits": 8}, "which cache_bits=8 fixes: leave one of them out"),
        ({"has_onnx_form": False}, "needs a network with an ONNX form"),
        (
            {"primitives": (CACHE, PRODUCTS), "quantizes_tensors": True},
            f"{CACHE} and {PRODUCTS} round the same keys and values: ask for one of them",
        ),
    ):
        with pytest.raises(NoEffectError, match=said):
            space(**given)
    automatic = {knob.kind for knob in space(primitives="auto").knobs}
    assert "cache" in automatic and "cache" not in {knob.kind for knob in space(primitives="auto", context=None).knobs}
    images = trace(Heads(), (np.zeros((1, 3, 12, 12), np.float32),))
    with pytest.raises(NoEffectError, match=r"found no attention .*: its first input must be tokens \(n, length\)"):
        CacheKnobs().knobs(images, {}, FORMATS, 4, {})


def test_blocks_are_excluded_and_restricted_by_their_names(made: Made) -> None:
    """MindSpore calls the operators of the second block by the path of the first."""

    def cached(**given: Any) -> list[Knob]:
        space = search_space(made.graph, parameters_of(made.net), replace(CHOICES, **given))
        return [knob for knob in space.knobs if knob.kind == "cache"]

    (left,) = cached(excluded=excluded_layers(made.net, made.graph, "blocks.0"))
    assert left.name == SECOND
    inside = made.graph.places_within({"blocks.1.attention"})
    assert [knob.name for knob in cached(restrictions=((inside, Restrict("blocks.1", primitives=["rtn"])),))] == [FIRST]
