"""What a search may choose at some layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autocomp import Restrict
from autocomp.errors import NoEffectError
from autocomp.primitives.choices import Choices
from autocomp.primitives.registry import search_space
from autocomp.search_spaces import Format, SearchSpace
from tests.conftest import Subject

FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4", "w4a8")))


@pytest.fixture
def subject(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def space_of(subject: Subject, *restrictions: tuple[str, Restrict]) -> SearchSpace:
    found = tuple((frozenset([layer]), one) for layer, one in restrictions)
    return search_space(subject.graph, subject.parameters, Choices(FORMATS, 4, restrictions=found))


def values(space: SearchSpace, name: str) -> tuple[Any, ...]:
    return next((knob.values for knob in space.knobs if knob.name == name), ())


def test_formats_of_one_layer(subject: Subject) -> None:
    space, whole = space_of(subject, ("stem", Restrict("stem", formats=["w8a8"]))), space_of(subject)
    assert values(space, "format/stem") == ("float", "w8a8")
    others = [knob.name for knob in whole.knobs if knob.name != "format/stem"]
    assert all(values(space, name) == values(whole, name) for name in others)


def test_no_format_leaves_a_layer_in_float(subject: Subject) -> None:
    assert values(space_of(subject, ("stem", Restrict("stem", formats=[]))), "format/stem") == ()


def test_at_least_a_share_of_channels_stays_in_every_group_of_the_layer(subject: Subject) -> None:
    space = space_of(subject, ("stem", Restrict("stem", keep=0.6)))
    groups = [knob for knob in space_of(subject).knobs if knob.kind == "keep" and "stem" in knob.layers]
    assert groups
    for knob in groups:
        assert values(space, knob.name) == tuple(value for value in knob.values if float(value) >= 0.6)


def test_whole_groups_have_no_knob(subject: Subject) -> None:
    space = space_of(subject, ("stem", Restrict("stem", keep=1.0)))
    assert not any(knob.kind == "keep" and "stem" in knob.layers for knob in space.knobs)


def test_primitives_of_one_layer(subject: Subject) -> None:
    space = space_of(subject, ("stem", Restrict("stem", primitives=["rtn"])))
    assert values(space, "format/stem") == ("float", "w8", "w8a8", "w4@rtn", "w4a8@rtn")
    assert not any(knob.kind == "keep" and "stem" in knob.layers for knob in space.knobs)


def test_restrictions_add_up(subject: Subject) -> None:
    space = space_of(
        subject, ("stem", Restrict("stem", formats=["w8a8", "w4"])), ("stem", Restrict("stem", formats=["w4", "w4a8"]))
    )
    assert values(space, "format/stem") == ("float", "w4")


def test_nothing_left_is_said(subject: Subject) -> None:
    every = frozenset(subject.graph.layers)
    choices = Choices(FORMATS, 4, restrictions=((every, Restrict("*", formats=[], keep=1.0)),))
    with pytest.raises(NoEffectError, match="the restrictions leave every layer as it is"):
        search_space(subject.graph, subject.parameters, choices)
