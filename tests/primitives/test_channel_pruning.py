"""Keep ratios, and which units go first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.errors import NoEffectError
from autocomp.primitives.channel_pruning import ChannelPruning, keep_step, keep_values, unit_importance
from autocomp.primitives.registry import primitive, primitives, register, search_space
from autocomp.primitives.rtn import RTN
from autocomp.search_spaces import ChannelGroup, Format, Knob, NetworkGraph, Plan
from tests.conftest import Subject


@given(units=st.integers(2, 300), granularity=st.sampled_from([1, 4, 8, 16]))
def test_values_say_what_is_really_kept(units: int, granularity: int) -> None:
    group = ChannelGroup("g", ("g",), 0, units)
    step = keep_step(group, granularity)
    values = keep_values(group, step)
    assert values[0] == 1
    kept = Knob("keep/g", "p", ("g",), values, group, np.arange(units), step).kept.sum(1)
    np.testing.assert_array_equal(kept, np.round(np.array(values) * units))
    assert (np.diff(kept) < 0).all() and kept[-1] >= 1
    if units >= 2 * granularity:
        assert (kept[1:] % granularity == 0).all()


def test_small_groups_are_cut_too() -> None:
    group = ChannelGroup("g", ("g",), 0, 16)
    assert keep_values(group, keep_step(group, 16)) == (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)


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
        space = search_space(subject.graph, subject.parameters, [Format.parse("w8")], 4, "rtn")
        assert {knob.primitive for knob in space.knobs} == {"rtn"}
        assert space.formats(Plan({"format/head": "w8"})) == {"head": Format(8)}

    def test_nothing_to_do(self) -> None:
        empty = NetworkGraph((), ())
        for one in (RTN(), ChannelPruning()):
            with pytest.raises(NoEffectError, match=rf"^{one.name} found no "):
                one.knobs(empty, {}, [], 16, {})
        with pytest.raises(NoEffectError, match="there is nothing to compress"):
            search_space(empty, {}, [], 16)

    def test_unknown_and_twice(self) -> None:
        with pytest.raises(ValueError, match=r"unknown primitive 'x'; known: .*channel-pruning.*rtn"):
            primitive("x")
        with pytest.raises(ValueError, match="a primitive called 'rtn' is already registered"):
            register(RTN())
