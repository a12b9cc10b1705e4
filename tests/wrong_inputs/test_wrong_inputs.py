"""Every public entry point refuses wrong inputs by one sentence that names the argument and the value."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest

import autocomp
import autocomp.nas
import autocomp.primitives
from autocomp.errors import AutocompError

from . import declared_networks, front_door, primitives
from .cases import Case

LEAST = 10
# What a search itself calls.
OF_THE_SEARCH = {"ParetoSet.join", "ParetoSet.short_of_accuracy", "ParetoSet.take_latency", "Point.of", "Point.trained"}
CASES: dict[str, list[Case]] = {**front_door.cases(), **primitives.cases(), **declared_networks.cases()}
ENTRIES = {
    name: getattr(module, name) for module in (autocomp, autocomp.nas, autocomp.primitives) for name in module.__all__
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_point_has_wrong_inputs(name: str) -> None:
    """One without any argument can be given nothing that is wrong."""
    entry: Any = ENTRIES[name]
    count = len(CASES.get(name, ()))
    assert count >= LEAST or not inspect.signature(entry).parameters, f"{name} has {count} wrong inputs"


def qualified(call: Any) -> str:
    return qualified(call.func) if isinstance(call, partial) else getattr(call, "__qualname__", "")


@pytest.mark.parametrize("entry", [autocomp.ParetoSet, autocomp.Point])
def test_every_method_of_fronts_and_points_has_wrong_inputs(entry: type) -> None:
    """Of those that take something."""
    reached = {qualified(case.call) for cases in CASES.values() for case in cases}
    methods = {
        f"{entry.__name__}.{name}"
        for name, member in vars(entry).items()
        if not name.startswith("_") and len(_parameters(member)) > 1
    }
    assert len(methods) > 5 and methods - reached - OF_THE_SEARCH == set()


def _parameters(member: Any) -> list[str]:
    """Empty for what is no method."""
    made = getattr(member, "__func__", member)
    return list(inspect.signature(made).parameters) if inspect.isfunction(made) else []


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name} {case.name}") for name, cases in CASES.items() for case in cases]
)
def test_a_wrong_input_gets_one_sentence(case: Case) -> None:
    with pytest.raises((TypeError, ValueError, OSError, AutocompError), match=case.sentence) as caught:
        case.call()
    text = str(caught.value)
    assert len(text) < 2000 and "object at 0x" not in text
    assert "\n" not in text or "^" in text, "only a mark below a budget takes lines of its own"
