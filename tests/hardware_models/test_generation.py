"""Costs of a language model that generates: a further token, the cache, and what compression gains there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.errors import BudgetError
from autocomp.hardware_models import Cost, CostTables, device
from autocomp.hardware_models.generation import GenerationCosts, costs_of
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.budget import Budget, check_reachable
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace
from autocomp.search_spaces.decoding import decoding
from tests.primitives.quantization.small_llama import DEPTH, KEY_HEADS, LENGTH, WORDS, small_llama, tokens

CONTEXT, BLOCKS = 500, 2
NPU = "ascend-910b1:mindspore"


@pytest.fixture(scope="module")
def graph() -> NetworkGraph:
    return trace(small_llama(), (np.zeros((1, LENGTH), np.int32),))


def space_of(graph: NetworkGraph) -> SearchSpace:
    """Formats of all layers together, and the channel groups."""
    formats = tuple(Knob(f"format/{one}", "rtn", (one,), ("float", "w8", "w4", "w8a8")) for one in graph.layers)
    keeps = tuple(
        Knob(f"keep/{group.name}", "channel-pruning", group.layers, (1.0, 0.5), group, np.arange(group.units))
        for group in graph.channel_groups
    )
    return SearchSpace(graph, formats + keeps)


def in_format(space: SearchSpace, value: int) -> np.ndarray:
    return np.array([[value if knob.kind == "format" else 0 for knob in space.knobs]])


def test_one_token_runs_and_all_are_attended_to(graph: NetworkGraph) -> None:
    found = decoding(graph, CONTEXT)
    shapes = {node.name: node.shape for node in found.graph.nodes}
    assert shapes["blocks.0.attention.q"] == (1, 32) and shapes["blocks.1.down"] == (1, 32)
    assert found.graph.nodes[found.graph.outputs[0]].shape == (1, 1, WORDS)
    assert [node.shape for node in found.graph.nodes if node.kind == "softmax"] == [(1, 4, 1, CONTEXT)] * BLOCKS
    assert len(found.cached) == 2 * BLOCKS and {one.depth for one in found.cached} == {DEPTH}
    assert {found.graph.nodes[one.node].elements for one in found.cached} == {CONTEXT * KEY_HEADS * DEPTH}
    layers = [found.graph.nodes[i] for i in found.graph.layers.values()]
    assert all(node.positions == 1 for node in layers), "keys and values are computed for one token, too"
    assert sum(node.macs for node in layers) * LENGTH == sum(graph.nodes[i].macs for i in graph.layers.values())


def test_the_cache_is_keys_and_values_of_all_tokens(graph: NetworkGraph) -> None:
    space, none = space_of(graph), np.zeros((1, len(space_of(graph).knobs)), np.int64)
    numbers = 2 * BLOCKS * CONTEXT * KEY_HEADS * DEPTH
    chip = device("ascend-910b1")
    for batch, bits, bytes_ in ((1, None, 2.0), (4, None, 2.0), (1, 8, 1 + 4 / DEPTH), (2, 4, 0.5 + 4 / DEPTH)):
        found = costs_of(chip, space, batch, CONTEXT, bits)(none)
        assert found.cache_mb[0] == pytest.approx(batch * numbers * bytes_ / 1e6)
        plain = CostTables(chip, space, batch)(none)
        assert found.memory_mb[0] >= plain.memory_mb[0] + found.cache_mb[0]
        for name in ("latency_ms", "size_mb", "energy_mj", "macs", "params"):
            assert getattr(found, name) == getattr(plain, name), name
    assert isinstance(costs_of(chip, space, 1), CostTables)
    assert CostTables(chip, space)(none)[0].tpot_ms == 0


def test_heads_and_blocks_that_go_take_their_cache_with_them(graph: NetworkGraph) -> None:
    space = space_of(graph)
    costs = GenerationCosts(device(NPU), space, 1, CONTEXT)
    vectors = np.zeros((2, len(space.knobs)), np.int64)
    heads = [i for i, knob in enumerate(space.knobs) if knob.group and knob.name.endswith("0.attention.q")]
    assert len(heads) == 1, "a key-value head and its heads"
    vectors[1, heads] = 1
    found = costs(vectors)
    assert found.cache_mb[1] == pytest.approx(found.cache_mb[0] * 0.75)
    assert found.tpot_ms[1] < found.tpot_ms[0] and found.memory_mb[1] < found.memory_mb[0]


def test_a_longer_context_costs_a_token_more_and_the_prompt_nothing(graph: NetworkGraph) -> None:
    space = space_of(graph)
    none = np.zeros((1, len(space.knobs)), np.int64)
    costs = [costs_of(device("nvidia-h100"), space, 1, context)(none)[0] for context in (1, 1000, 100_000)]
    tpots, caches = [cost.tpot_ms for cost in costs], [cost.cache_mb for cost in costs]
    assert tpots == sorted(tpots) and tpots[2] > 1.3 * tpots[0]
    assert caches[2] == pytest.approx(100_000 * caches[0])
    assert len({cost.latency_ms for cost in costs}) == 1


def wide(graph: NetworkGraph) -> NetworkGraph:
    """The same with dense layers of 64 times as many outputs and inputs, in which their weights count; and a prompt of
    many tokens, in which arithmetic does."""
    nodes = []
    for node in graph.nodes:
        size = node.weight_shape
        nodes.append(node if size is None else replace(node, weight_shape=(64 * size[0], 64 * size[1]), units=MANY))
    return replace(graph, nodes=tuple(nodes), channel_groups=())


MANY = np.empty(0, np.int64)


def test_weights_alone_in_integers_pay_for_a_token(graph: NetworkGraph) -> None:
    """Where the chip reads them as they are stored: reading weights is all that a token's run does."""
    space = space_of(wide(graph))
    costs = costs_of(device(NPU), space, 1, CONTEXT)
    floats, w8, w4 = (costs(in_format(space, value))[0] for value in (0, 1, 2))
    assert w4.tpot_ms < w8.tpot_ms < 0.9 * floats.tpot_ms
    compiled = costs_of(device("ascend-910b1"), space, 1, CONTEXT)  # atc makes floats of them
    assert compiled(in_format(space, 2))[0].tpot_ms == compiled(in_format(space, 0))[0].tpot_ms


@pytest.mark.parametrize(
    ("text", "met"),
    [("tpot<100%", True), ("tpot<1us", False), ("cache<1MB", True), ("cache<10KiB", False), ("memory<1KB", False)],
)
def test_budgets_bound_them(graph: NetworkGraph, text: str, met: bool) -> None:
    space = space_of(graph)
    costs = costs_of(device(NPU), space, 1, CONTEXT)
    of_float = costs(np.zeros((1, len(space.knobs)), np.int64))
    budget = Budget.parse(text)
    assert (budget.violation(of_float, None, of_float[0], None)[0] <= 0) == met
    if not met:
        with pytest.raises(BudgetError, match=r"cannot be reached on .*: the nearest is"):
            check_reachable(budget, of_float, of_float[0], NPU)


def test_without_a_context_a_sentence_asks_for_it(graph: NetworkGraph) -> None:
    zero = Cost(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"tpot is a cost of generating and needs the tokens .* give context=4096"):
        Budget.parse("tpot<2ms").violation(zero, None, zero, None)
    with pytest.raises(ValueError, match="cache is a cost of generating"):
        autocomp.search(small_llama(), "cache<2MB", NPU)
    for settings in ({"cache_bits": 8}, {"context": 0}, {"context": 10, "cache_bits": 3}):
        with pytest.raises(ValueError, match=r"cache_bits|context must be"):
            autocomp.estimate(small_llama(), NPU, np.zeros((1, LENGTH), np.int32), **settings)  # type: ignore[arg-type]


def test_a_network_that_does_not_generate_is_refused(graph: NetworkGraph) -> None:
    image = tuple(replace(n, shape=(1, 3, 8, 8)) if n.kind == "input" else n for n in graph.nodes)
    with pytest.raises(ValueError, match=r"reads tokens \(n, length\) as its first input, but it reads \(1, 3, 8, 8\)"):
        decoding(replace(graph, nodes=image), 10)
    without = tuple(replace(n, kind="add") if n.kind == "matmul" else n for n in graph.nodes)
    with pytest.raises(ValueError, match="none of its products of activations reads tokens by tokens"):
        decoding(replace(graph, nodes=without), 10)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> tuple[autocomp.ParetoSet, Path]:
    folder = tmp_path_factory.mktemp("generation") / "front"
    found = autocomp.search(
        small_llama(), "tpot<100%, memory<90%", NPU, autocomp.Data(evaluate=tokens(16), metric="perplexity"),
        primitives=["post-training"], trials=4, context=CONTEXT, cache_bits=8, progress=False,
    )  # fmt: skip
    found.save(folder)
    return found, folder


def test_a_search_minimises_them(front: tuple[autocomp.ParetoSet, Path]) -> None:
    found, folder = front
    assert found.objectives == ("tpot", "memory") and found.settings["context"] == CONTEXT
    assert found.feasible and all(point.value("cache") == found.float_point.value("cache") > 0 for point in found)
    assert "tpot" in str(found) and min(point.ratio("tpot") for point in found) < 1
    data = autocomp.Data(evaluate=tokens(16), metric="perplexity")
    again = autocomp.load(folder, small_llama(), data)
    bound = again.float_point.value("tpot")
    assert 0 < again.resolve(f"tpot<{bound}ms, memory<95%").value("tpot") <= bound


def test_an_estimate_has_them() -> None:
    x = np.zeros((1, LENGTH), np.int32)
    found = autocomp.compare(small_llama(), [NPU, "nvidia-h100"], x, "w8", context=CONTEXT, cache_bits=8)
    assert all(cost.tpot_ms > 0 and cost.memory_mb > cost.cache_mb for cost in found.values())
    assert {cost.cache_mb for cost in found.values()} == {2 * BLOCKS * CONTEXT * KEY_HEADS * (DEPTH + 4) / 1e6}
