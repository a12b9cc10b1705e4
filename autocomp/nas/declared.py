"""The search space that a declared network describes, and its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.surgery import rename_parameters, replace_cells
from autocomp.rules import SEED, shown

from .widths import Build, building


class NetworkSpace:
    """All networks that a declared one describes: ``Choice`` and ``Repeat`` among its cells, and its widths.

    >>> space = nas.NetworkSpace(Net)
    >>> space.choices
    {'width': (16, 24, 32), 'body': (1, 2, 3, 4), 'body.0': (0, 1, 2), ...}
    >>> net = space.network({"width": 24, "body": 2, "body.0": 1, ...})

    build: the network's class, or a function without arguments that makes it; the same one each time.

    choices: the name of each choice -> its values. Cells are named by their path in the network. cell: the declared
        network itself. slots: its cells that leave something to choose, by path.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        if not callable(build) or (hasattr(build, "cells_and_names") and not isinstance(build, type)):
            raise TypeError(
                f"build must be a class or a function that makes a network, but got {shown('build', build)}"
            )
        self.build = build
        self.cell, made = self._built({}, 0)
        self.widths = made.widths
        self.slots = slots_of(self.cell)
        self.choices = {**self.widths, **{name: cell.values for name, cell in self.slots.items()}}
        if not self.choices:
            raise ValueError("a declared network must have a Choice, a Repeat or a Width, but this one has none")

    def _built(self, widths: Mapping[str, int], seed: int) -> tuple[Any, Build]:
        with seeded(seed), building(Build(widths)) as made:
            net = self.build()
            if not isinstance(net, load_mindspore().nn.Cell):
                raise TypeError(f"build must make a mindspore.nn.Cell, but it made a {type(net).__name__}")
            net.init_parameters_data()
        return net, made

    def declared(self, widths: Mapping[str, int], seed: int = 0) -> Any:
        """The declared network, with all its choices but the widths. ValueError where it has other ones each time."""
        net, made = self._built(widths, seed)
        found = {**made.widths, **{name: cell.values for name, cell in slots_of(net).items()}}
        if found != self.choices:
            raise ValueError("a declared network must have the same choices each time, whatever the widths are")
        return net

    def network(self, choice: Mapping[str, Any], seed: int = 0) -> Any:
        """The network of one choice: a plain Cell with new weights, the same ones for the same seed.

        choice: a value for each name of ``choices``.
        """
        SEED.check("seed", seed)
        self.check(choice)
        net = self.declared({name: int(choice[name]) for name in self.widths}, seed)
        names = {id(cell): name for name, cell in slots_of(net).items()}
        while slots := outermost(net):  # what stands for a place may declare further ones
            for path, cell in slots.items():
                name = names.get(id(cell))
                chosen = cell.plain(cell.values[0] if name is None else choice[name])
                if not path:
                    net = chosen
                    break
                replace_cells(net, {path: chosen})
        rename_parameters(net)
        return net

    def check(self, choice: Mapping[str, Any]) -> None:
        """TypeError, ValueError unless it has a value of its own for each choice."""
        if not isinstance(choice, Mapping):
            raise TypeError(f"a choice must be a mapping of names to values, but got {shown('choice', choice)}")
        names = ", ".join(self.choices)
        if missing := [name for name in self.choices if name not in choice]:
            raise ValueError(f"a choice must have a value for each of {names}, but got none for {missing[0]}")
        if unknown := [name for name in choice if name not in self.choices]:
            raise ValueError(f"a choice must have values for {names} alone, but got one for {unknown[0]!r}")
        for name, value in choice.items():
            if not any(type(value) is type(one) and value == one for one in self.choices[name]):
                raise ValueError(f"{name} must be one of {self.choices[name]}, but got {shown(name, value)}")

    def __reduce__(self) -> Any:
        """Workers build the network again: MindSpore's cells are not sent."""
        return NetworkSpace, (self.build,)

    @property
    def count(self) -> int:
        """The number of networks that differ in their cells or widths."""
        return count_of(self.cell) * math.prod(map(len, self.widths.values()))

    def effective(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a choice that makes a difference: without what lies in cells that were not chosen."""
        kept = {name: choice[name] for name in self.widths}
        names = {id(cell): name for name, cell in self.slots.items()}
        _visit(self.cell, choice, names, kept)
        return {name: kept[name] for name in self.choices if name in kept}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """MindSpore draws new weights from NumPy's random numbers, whose state is restored."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def is_declared(cell: Any) -> bool:
    from .cells import Declared

    return isinstance(cell, Declared)


def slots_of(net: Any) -> dict[str, Any]:
    """By path, the cells that leave something to choose."""
    return {path: cell for path, cell in net.cells_and_names() if is_declared(cell) and len(cell.values) > 1}


def outermost(net: Any) -> dict[str, Any]:
    """By path, the declared cells that lie in no other one."""
    found: dict[str, Any] = {}
    for path, cell in net.cells_and_names():
        if is_declared(cell) and not any(not outer or path.startswith(f"{outer}.") for outer in found):
            found[path] = cell
    return found


def count_of(cell: Any) -> int:
    """The number of networks that the choices in this cell make."""
    inner = [count_of(child) for child in dict.fromkeys(cell._cells.values()) if child is not None]
    if not is_declared(cell):
        return math.prod(inner)
    if hasattr(cell, "least"):
        products = list(accumulate(inner, lambda a, b: a * b, initial=1))
        return sum(products[count] for count in cell.values)
    return sum(inner)


def _visit(cell: Any, choice: Mapping[str, Any], names: Mapping[int, str], kept: dict[str, Any]) -> None:
    children = list(cell._cells.values())
    if id(cell) in names:
        name = names[id(cell)]
        kept[name] = choice[name]
        children = children[: choice[name]] if hasattr(cell, "least") else [cell.plain(choice[name])]
    for child in children:
        if child is not None:
            _visit(child, choice, names, kept)
