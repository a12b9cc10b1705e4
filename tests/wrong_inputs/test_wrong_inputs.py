"""Every public entry point refuses wrong inputs by one sentence that names the argument and the value."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import autocomp
import autocomp.nas
import autocomp.primitives
from autocomp.errors import AutocompError

from . import front_door, primitives
from .cases import Case

LEAST = 10
CASES: dict[str, list[Case]] = {**front_door.cases(), **primitives.cases()}
ENTRIES = {
    name: getattr(module, name) for module in (autocomp, autocomp.nas, autocomp.primitives) for name in module.__all__
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_point_has_wrong_inputs(name: str) -> None:
    """One without any argument can be given nothing that is wrong."""
    entry: Any = ENTRIES[name]
    count = len(CASES.get(name, ()))
    assert count >= LEAST or not inspect.signature(entry).parameters, f"{name} has {count} wrong inputs"


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{name} {case.name}") for name, cases in CASES.items() for case in cases]
)
def test_a_wrong_input_gets_one_sentence(case: Case) -> None:
    with pytest.raises((TypeError, ValueError, OSError, AutocompError), match=case.sentence) as caught:
        case.call()
    text = str(caught.value)
    assert len(text) < 2000 and "object at 0x" not in text
    assert "\n" not in text or "^" in text, "only a mark below a budget takes lines of its own"
