"""Which channels stand or fall together, and which stay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.hardware_models import device
from autocomp.primitives import prune_channels
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification import trial_cut
from autocomp.primitives.verification.trial_cut import verify_channel_groups
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace
from tests.clock import FakeClock
from tests.conftest import Subject, subject_of
from tests.networks import NETWORKS, images, randomised
from tests.odd_networks import (
    BesselFunction,
    Gated,
    JoinedThenMet,
    ScaledInputs,
    SeveralEnds,
    UsedTwice,
    WrittenSize,
)
from tests.primitives.heads import FusedHeads, Heads


def groups(graph: NetworkGraph) -> dict[tuple[str, ...], int]:
    return {group.layers: group.units for group in graph.channel_groups}


def units(graph: NetworkGraph, name: str) -> np.ndarray:
    return next(node.units for node in graph.nodes if node.name == name)


def test_residual_stages_stand_together(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("residual").graph
    assert groups(graph) == {
        ("stem",): 16,
        ("blocks.0.conv1",): 16,
        ("blocks.0.conv2", "blocks.0.shortcut.0"): 16,
        ("blocks.1.conv1",): 32,
        ("blocks.1.conv2", "blocks.1.shortcut.0"): 32,
    }
    for block, count in ((0, 16), (1, 32)):
        both = [units(graph, f"blocks.{block}.{layer}") for layer in ("conv2", "shortcut.0")]
        np.testing.assert_array_equal(both[0], both[1])
        assert len(set(both[0].tolist())) == count


def test_concat_lines_channels_up(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("concatenating").graph
    parts = [units(graph, layer) for layer in ("narrow.0", "stem.0", "wide.0")]
    concat = next(node for node in graph.nodes if node.kind == "concat")
    np.testing.assert_array_equal(concat.units, np.concatenate(parts))
    np.testing.assert_array_equal(graph.input_units(graph.nodes[graph.layers["join.0"]]), concat.units)
    assert groups(graph) == {("stem.0",): 16, ("narrow.0",): 8, ("wide.0",): 24, ("join.0",): 16, ("hidden",): 20}


def test_flatten_repeats_each_channel_once_a_pixel(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("concatenating").graph
    flatten = next(node for node in graph.nodes if node.kind == "flatten")
    np.testing.assert_array_equal(flatten.units, np.repeat(units(graph, "join.0"), 9))


def test_depthwise_gate_and_expansion_stand_together(named_subject: Callable[[str], Subject]) -> None:
    graph = named_subject("depthwise").graph
    assert groups(graph)["expand.0", "depthwise.0", "excite"] == 32
    for layer in ("depthwise.0", "excite"):
        np.testing.assert_array_equal(units(graph, layer), units(graph, "expand.0"))
    assert groups(graph)[("squeeze",)] == 8


def test_grouped_convolution_loses_the_same_places_in_every_group(named_subject: Callable[[str], Subject]) -> None:
    """4 groups: 16 channels in are 4 units that occur 4 times, and 24 out are 6."""
    graph = named_subject("depthwise").graph
    assert groups(graph)[("grouped.0",)] == 6
    assert groups(graph)["stem.0", "project.0"] == 4
    for layer, places in (("grouped.0", 6), ("stem.0", 4), ("project.0", 4)):
        rows = units(graph, layer).reshape(4, places)
        assert (rows == rows[0]).all() and len(set(rows[0].tolist())) == places


def test_channels_that_meet_behind_a_concat_are_groups_of_their_own() -> None:
    """In one group of 16 the strongest ratio would keep 4, and these might all be the wide layer's."""
    graph = trace(randomised(JoinedThenMet()), (1, 3, 12, 12))
    assert groups(graph) == {("wide", "depthwise", "beside"): 12, ("narrow", "depthwise", "beside"): 4}
    assert len({group.name for group in graph.channel_groups}) == 2
    space = search_space(graph, parameters_of(randomised(JoinedThenMet())), Choices([], 1))
    (channels,) = space.workload(space.sizes[None] - 1).channels
    left = {layer: int(channels[i]) for layer, i in graph.layers.items()}
    assert left == {"wide": 3, "narrow": 1, "depthwise": 4, "beside": 4, "head": 4}


def test_cell_used_twice_keeps_what_it_reads_and_writes_the_same() -> None:
    assert groups(trace(UsedTwice(), (1, 3, 12, 12))) == {("first", "twice"): 8}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_of_the_network_stay(named_subject: Callable[[str], Subject], name: str) -> None:
    graph = named_subject(name).graph
    assert graph.whole == {"head": "it is an output of the network"}
    assert (graph.nodes[graph.outputs[0]].units == -1).all()
    assert (graph.nodes[0].units == -1).all()


def test_hidden_output_stays_with_all_that_is_added_to_it() -> None:
    graph = trace(SeveralEnds(), [(1, 3, 12, 12), (1, 6)])
    assert graph.whole == dict.fromkeys(("image", "vector", "head"), "it is an output of the network")
    assert groups(graph) == {("hidden",): 12}


def test_what_is_multiplied_with_an_output_stays() -> None:
    graph = trace(Gated(), (1, 3, 12, 12))
    assert set(graph.whole) == {"gate", "value", "head"}
    assert groups(graph) == {("free",): 8}


def test_unknown_operator_keeps_what_reaches_it() -> None:
    graph = trace(BesselFunction(), (1, 3, 12, 12))
    assert graph.whole["before"] == "it reaches BesselI0, which is left as it is"
    assert groups(graph) == {("after",): 8}


def test_depthwise_on_the_input_stays() -> None:
    graph = trace(ScaledInputs(), (1, 3, 12, 12))
    assert groups(graph) == {("point",): 8}
    assert (units(graph, "depthwise") == -1).all()


@pytest.mark.parametrize(("network", "removed"), [(Heads, {"keys": [0, 17]}), (FusedHeads, {"queries": [0, 2]})])
def test_heads_are_cut_whole(network: type[Heads], removed: dict[str, list[int]]) -> None:
    """32 channels are 4 heads of 8; channels of heads 0 and 2, or the units themselves, take with them the heads'
    queries, keys and values and what reads them."""
    net = randomised(network())
    parameters, shape = parameters_of(net), (1, 3, 16, 16)
    graph = trace(net, shape)
    per_head = np.repeat(np.arange(4), 8)
    made = np.tile(per_head, 3) if network is FusedHeads else per_head
    np.testing.assert_array_equal(units(graph, "queries"), made)
    np.testing.assert_array_equal(graph.input_units(graph.nodes[graph.layers["project"]]), per_head)
    small = prune_channels(net, removed, shape)
    for layer in ("queries",) if network is FusedHeads else ("queries", "keys", "values"):
        kept = np.isin(made, [1, 3])
        np.testing.assert_array_equal(getattr(small, layer).weight.asnumpy(), parameters[f"{layer}.weight"][kept])
    kept = np.isin(per_head, [1, 3])
    np.testing.assert_array_equal(small.project.weight.asnumpy(), parameters["project.weight"][:, kept])


@pytest.mark.parametrize("network", [Heads, FusedHeads])
def test_fewer_heads_cost_less(network: type[Heads]) -> None:
    """16 tokens: weights of 32 x 32, of them the four of the attention with half of their rows or columns, and two
    products of 16 x 16 x 8 a head."""
    graph = trace(network(), (1, 3, 16, 16))
    knob = Knob("keep/queries", "channel-pruning", ("queries",), (1.0, 0.5), graph.channel_groups[0], np.arange(4))
    space = SearchSpace(graph, (knob,))
    cost = device("ascend").costs(space.workload(np.array([[0], [1]])))
    others, layers, products = 16 * 32 * 48 + 32 * 5, 16 * 4 * 32 * 32, 2 * 4 * 16 * 16 * 8
    np.testing.assert_array_equal(cost.macs, [others + layers + products, others + (layers + products) / 2])


class TestTrialCut:
    def test_size_that_the_code_writes_out_is_found(self, caplog: pytest.LogCaptureFixture) -> None:
        net, x = randomised(WrittenSize()), images(1)
        traced = trace(net, (x,))
        assert groups(traced) == {("first",): 8, ("second",): 16}
        with caplog.at_level(logging.INFO, logger="autocomp"):
            graph = verify_channel_groups(net, traced, parameters_of(net), (x,))
        assert groups(graph) == {("first",): 8}
        assert graph.whole["second"].strip()
        assert "the channels of second are left whole: cutting them fails" in caplog.text

    def test_what_is_left_can_be_cut(self) -> None:
        net, x = randomised(WrittenSize()), images(1)
        graph = verify_channel_groups(net, trace(net, (x,)), parameters_of(net), (x,))
        kept = np.array([True, False] * 4)
        compressed = PlanCompressor(SearchSpace(graph, ()), parameters_of(net)).of(kept, {})
        small = convert(net, graph, parameters_of(net), compressed)
        assert small.first.weight.shape == (4, 3, 3, 3) and small.second.weight.shape == (16, 4, 3, 3)
        assert forward(small, (x,), graph=False)[0].shape == (1, 4)

    @pytest.mark.parametrize(("seconds", "trials"), [(0.0, 0), (2.5, 3), (3.5, 4)])
    def test_what_is_not_tried_in_time_stays_whole(
        self, seconds: float, trials: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A trial is a forward pass, which takes a second of this clock; all that are needed here take longer."""
        clock, net, x = FakeClock.install(monkeypatch), randomised(WrittenSize()), images(1)
        run, made = trial_cut.forward_in_any_mode, []

        def forward_on_clock(*arguments: Any) -> Any:
            clock.now += 1
            made.append(1)
            return run(*arguments)

        monkeypatch.setattr(trial_cut, "forward_in_any_mode", forward_on_clock)
        traced = trace(net, (x,))
        graph = verify_channel_groups(net, traced, parameters_of(net), (x,), Deadline(seconds))
        assert groups(graph) == {} and len(made) == trials
        assert set(graph.whole) >= {"first", "second"}
        assert trial_cut.LATE in graph.whole.values()
        if not seconds:
            assert not made and {graph.whole["first"], graph.whole["second"]} == {trial_cut.LATE}

    @pytest.mark.parametrize("name", NETWORKS)
    def test_networks_that_can_be_cut_stay_as_traced(self, named_subject: Callable[[str], Subject], name: str) -> None:
        subject = named_subject(name)
        assert verify_channel_groups(subject.net, subject.graph, subject.parameters, (subject.x[:2],)) is subject.graph


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_plan_empties_a_layer(name: str, data: st.DataObject) -> None:
    subject = subject_of(name)
    space, graph = subject.space, subject.graph
    vector = data.draw(st.tuples(*(st.integers(0, int(size) - 1) for size in space.sizes)))
    plan = space.decode(vector)
    kept = space.kept(plan)
    for group in graph.channel_groups:
        assert kept[group.start : group.stop].any()
    for layer, state in PlanCompressor(space, subject.parameters, subject.evaluator.compressor.ranges)(
        plan
    ).layers.items():
        assert min(state.weight.shape) > 0, layer
        assert state.weight.shape[:2] == (state.rows.sum(), state.columns.sum())
        assert np.isfinite(state.weight).all()
    channels = space.workload(np.array([vector])).channels[0]
    for node, count in zip(graph.nodes, channels, strict=True):
        assert count == (
            len(node.units) if not (node.units >= 0).any() else (kept[node.units] | (node.units < 0)).sum()
        )
        assert count > 0 or not node.units.size
