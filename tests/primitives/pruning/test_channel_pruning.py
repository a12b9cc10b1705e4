"""Keep ratios, and which units go first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.errors import NoEffectError
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.pruning.channel_pruning import (
    ChannelPruning,
    in_multiples,
    keep_step,
    keep_values,
    unit_importance,
)
from autocomp.primitives.quantization.rtn import RTN
from autocomp.primitives.registry import primitive, primitives, register, search_space
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import ChannelGroup, Format, Knob, NetworkGraph, Plan
from tests.conftest import Subject
from tests.hardware_models.networks import Builder
from tests.networks import randomised
from tests.primitives.heads import Heads


@given(units=st.integers(2, 300), channel_divisor=st.sampled_from([1, 4, 8, 16]))
def test_values_say_what_is_really_kept(units: int, channel_divisor: int) -> None:
    group = ChannelGroup("g", ("g",), 0, units)
    step = keep_step(group, channel_divisor)
    values = keep_values(group, step)
    assert values[0] == 1
    kept = Knob("keep/g", "p", ("g",), values, group, np.arange(units), step).kept.sum(1)
    np.testing.assert_array_equal(kept, np.round(np.array(values) * units))
    assert (np.diff(kept) < 0).all() and kept[-1] >= 1
    if units >= 2 * channel_divisor:
        assert (kept[1:] % channel_divisor == 0).all()


def test_small_groups_are_cut_too() -> None:
    group = ChannelGroup("g", ("g",), 0, 16)
    assert keep_values(group, keep_step(group, 16)) == (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)


@pytest.mark.parametrize(("units", "kept"), [(8, []), (16, []), (24, [24, 16]), (40, [40, 32, 16])])
def test_whole_granules_alone_where_the_runtime_is_slower_between_them(units: int, kept: list[int]) -> None:
    b = Builder(3, 8)
    b.conv(b.conv(0, units), 5, units=np.full(5, -1))
    graph = b.graph()
    group = replace(graph.channel_groups[0], layers=("conv1",))
    graph = replace(graph, channel_groups=(group,))
    step = keep_step(group, 16)
    knob = Knob("keep/g0", "p", ("conv1",), keep_values(group, step), group, np.arange(units), step)
    found = in_multiples(graph, knob, 16)
    assert [round(float(value) * units) for value in (found.values if found else ())] == kept
    if found is not None:
        np.testing.assert_array_equal(found.kept.sum(1), kept)


def test_heads_are_no_channels_of_a_granule() -> None:
    """Four heads of eight channels each: 24 channels are a granule and a half, and may stay."""
    net = randomised(Heads())
    graph = trace(net, (1, 3, 16, 16))
    choices = Choices([Format()], 16, "channel-pruning")
    coarse = search_space(graph, parameters_of(net), replace(choices, strict_divisor=True))
    fine = search_space(graph, parameters_of(net), choices)
    heads = next(knob for knob in coarse.knobs if "queries" in knob.layers)
    assert heads.values == (1.0, 0.75, 0.5, 0.25)
    assert {knob.name: knob.values for knob in coarse.knobs} == {knob.name: knob.values for knob in fine.knobs}


def test_nothing_to_cut_in_whole_granules_is_said(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    fine = Choices([Format(), Format(8, 8)], 64)
    coarse = replace(fine, strict_divisor=True)
    of_fine, of_coarse = (search_space(subject.graph, subject.parameters, choices) for choices in (fine, coarse))
    assert {knob.kind for knob in of_coarse.knobs} == {"format"} != {knob.kind for knob in of_fine.knobs}
    with pytest.raises(NoEffectError, match="in multiples of 64 channels"):
        search_space(subject.graph, subject.parameters, replace(coarse, primitives="channel-pruning"))


def test_stronger_choices_are_subsets_of_milder_ones(subject: Subject) -> None:
    for knob in subject.space.knobs:
        if knob.group is not None:
            for milder, stronger in zip(knob.kept, knob.kept[1:], strict=False):
                assert (milder | ~stronger).all() and stronger.sum() < milder.sum()


def test_importance_by_hand(named_subject: Callable[[str], Subject]) -> None:
    """|weights that make the unit|^2 (with BatchNorm's factor) * |weights that read it|^2."""
    subject = named_subject("residual")
    p = {name: value.astype(np.float64) for name, value in subject.parameters.items()}
    found = unit_importance(subject.graph, subject.parameters)
    group = subject.graph.group("blocks.0.conv1")
    factor = p["blocks.0.bn1.gamma"] / np.sqrt(p["blocks.0.bn1.moving_variance"] + 1e-5)
    made = (p["blocks.0.conv1.weight"] ** 2).sum((1, 2, 3)) * factor**2
    read = (p["blocks.0.conv2.weight"] ** 2).sum((0, 2, 3))
    np.testing.assert_allclose(found[group.start : group.stop], made * read, rtol=1e-5)


def test_dead_channels_go_first(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("concatenating")
    parameters = dict(subject.parameters)
    weight = parameters["join.0.weight"].copy()
    weight[[3, 5]] = 0
    parameters["join.0.weight"] = weight
    knobs = {knob.name: knob for knob in ChannelPruning().knobs(subject.graph, parameters, [], 4, {})}
    order = knobs["keep/join.0"].order
    assert order is not None and set(order[-2:].tolist()) == {3, 5}


class TestRegistry:
    def test_knobs_of_all(self, subject: Subject) -> None:
        kinds = {knob.kind for knob in subject.space.knobs}
        assert kinds == {"format", "keep"} and set(primitives()) >= {"rtn", "channel-pruning"}
        formats = [knob for knob in subject.space.knobs if knob.kind == "format"]
        assert [knob.layers[0] for knob in formats] == list(subject.graph.layers)
        assert all(knob.values == ("float", "w8", "w8a8", "w4", "w4a8") for knob in formats)

    def test_of_one(self, subject: Subject) -> None:
        space = search_space(subject.graph, subject.parameters, Choices([Format.parse("w8")], 4, "rtn"))
        assert {knob.primitive for knob in space.knobs} == {"rtn"}
        assert space.formats(Plan({"format/head": "w8"})) == {"head": Format(8)}

    def test_nothing_to_do(self) -> None:
        empty = NetworkGraph((), ())
        for one in (RTN(), ChannelPruning()):
            with pytest.raises(NoEffectError, match=rf"^{one.name} found no "):
                one.knobs(empty, {}, [], 16, {})
        with pytest.raises(NoEffectError, match="there is nothing to compress"):
            search_space(empty, {}, Choices([], 16))

    def test_unknown_and_twice(self) -> None:
        with pytest.raises(ValueError, match=r"unknown primitive 'x'; known: .*channel-pruning.*rtn"):
            primitive("x")
        with pytest.raises(ValueError, match="a primitive called 'rtn' is already registered"):
            register(RTN())
