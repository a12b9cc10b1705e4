"""Why MindSpore's compiler does not take a network, where its own words do not say it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any


def why_not(net: Any) -> str:
    """What of the network's code the compiler cannot read, with the cell that has it; "" where nothing is known."""
    for name, cell in net.cells_and_names():
        place = f"cell {name}" if name else "the network"
        if first := _without_self(cell):
            return f"the first parameter of construct must be self, but in {place} it is {first}"
        for attribute, kind in _unreadable(cell):
            return f"MindSpore compiles functions written with def, but {attribute} of {place} is, or holds, {kind}"
    return ""


def _without_self(cell: Any) -> str:
    """The first parameter of the cell's ``construct`` where that is not self."""
    construct = inspect.getattr_static(type(cell), "construct")
    first = next(iter(inspect.signature(construct).parameters.values()), None) if callable(construct) else None
    wrong = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD and first.name != "self"
    return first.name if first is not None and wrong else ""


def _unreadable(cell: Any) -> Iterator[tuple[str, str]]:
    for attribute, value in vars(cell).items():
        items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
        for item in () if attribute.startswith("_") else items:
            if inspect.isfunction(item) and item.__name__ == "<lambda>":
                yield attribute, "a lambda"
            elif isinstance(item, partial):
                yield attribute, "a functools.partial"
