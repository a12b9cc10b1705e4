"""Numbers of a declared network that a search chooses, and the record of one building of the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autocomp.rules import not_empty, shown, whole


class Build:
    """One building of a declared network: the widths that it asks for, in order.

    given: values by name; the largest where none is given.
    """

    def __init__(self, given: Mapping[str, int] | None = None) -> None:
        self.given = given or {}
        self.widths: dict[str, tuple[int, ...]] = {}

    def width(self, values: tuple[int, ...], name: str) -> int:
        name = name or f"width{len(self.widths)}"
        if name in self.widths:
            raise ValueError(f"every Width must have a name of its own, but two have name={name!r}")
        self.widths[name] = values
        return self.given.get(name, max(values))


_BUILDS: list[Build] = []  # the innermost last


@contextmanager
def building(build: Build) -> Iterator[Build]:
    """The widths that are made in the body belong to this building."""
    _BUILDS.append(build)
    try:
        yield build
    finally:
        _BUILDS.pop()


class Width(int):
    """A number of channels, or any number that a network is built with: one of these values, which a search chooses.

    It is an integer, and may be given to as many cells as share it:

    >>> width = nas.Width(16, 24, 32, name="width")
    >>> self.stem = nn.Conv2d(1, width, 3)
    >>> self.expand = nn.Conv2d(width, 6 * width, 1)

    Where no search builds the network it is the largest of the values.

    values: at least one, integers from 1 on. name: how results call it; without one it is ``width0``, ``width1`` and so
        on, in the order in which a network makes them.
    """

    def __new__(cls, *values: int, name: str = "") -> Width:
        if not isinstance(name, str):
            raise TypeError(f"name must be text, but got {shown('name', name)}")
        if not not_empty(values):
            raise ValueError("Width must have at least one value, but got none")
        for value in values:
            whole(1).check("a value of Width", value)
        if len(set(values)) < len(values):
            raise ValueError(f"the values of Width must differ, but got {shown('values', values)}")
        numbers = tuple(map(int, values))
        return super().__new__(cls, _BUILDS[-1].width(numbers, name) if _BUILDS else max(numbers))

    def __reduce__(self) -> Any:
        """A copy is a plain integer: it makes no choice of its own."""
        return int, (int(self),)
