"""Cells with which a network declares what a search may choose."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.rules import CELL, shown, whole

ms = load_mindspore()
nn: Any = ms.nn


class Declared(nn.SequentialCell):
    """A place of a network where a search chooses.

    values: what may be chosen. merged: whether it computes the sum of all that may be chosen, times ``mark``, by whose
        name a traced graph tells the places apart; only to trace all networks at once.
    """

    values: tuple[Any, ...] = ()
    merged = False

    def _declare(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self.mark = ms.Parameter(ms.Tensor(np.ones(1, np.float32)), name="mark", requires_grad=False)
        self.add_all = ms.ops.AddN()

    def plain(self, value: Any) -> Any:
        """The cell that stands for the value."""
        raise NotImplementedError


class Choice(Declared):
    """One of several cells, which a search chooses.

    >>> self.body = nas.Choice(block(3), block(5), nn.Identity())
    >>> self.body = nas.Choice(small=block(3), large=block(5))

    The cells take the same input, and give outputs of one shape. Where no search builds the network, the first of them
    runs. Results name the choice by its path in the network, and its cells by their keywords, else by their numbers
    from 0 on.
    """

    def __init__(self, *cells: Any, **named: Any) -> None:
        found: dict[Any, Any] = {**dict(enumerate(cells)), **named}
        for name, cell in found.items():
            if not (CELL.is_kind(cell) and isinstance(cell, nn.Cell)):
                raise TypeError(f"a Choice must be between cells, but got {shown(str(name), cell)}")
        if len(found) < 2:
            raise ValueError(f"a Choice must have at least two cells, but got {len(found)}")
        super().__init__(OrderedDict((str(name), cell) for name, cell in found.items()))
        self._declare(tuple(found))

    def construct(self, *inputs: Any) -> Any:
        if not self.merged:
            return self.cell_list[0](*inputs)
        outputs: tuple[Any, ...] = ()
        for cell in self.cell_list:
            outputs += (cell(*inputs),)
        return self.add_all(outputs) * self.mark

    def plain(self, value: Any) -> Any:
        return list(self.cell_list)[self.values.index(value)]


class Repeat(Declared):
    """A block ``least`` to ``most`` times in a row; a search chooses how often.

    >>> self.body = nas.Repeat(lambda i: block(stride=2 if i == 0 else 1), 1, 4)

    block: a function of the position, from 0 on, which makes a cell. Blocks from the ``least``-th on give the shape
        that they take. Where no search builds the network, there are ``most`` of them.
    """

    def __init__(self, block: Callable[[int], Any], least: int, most: int) -> None:
        if not callable(block) or isinstance(block, nn.Cell):
            raise TypeError(
                f"block must be a function of a position that makes a cell, but got {shown('block', block)}"
            )
        whole(0).check("least", least)
        whole(1).check("most", most)
        if least > most:
            raise ValueError(f"least must be at most most={most}, but got least={least}")
        blocks = [block(i) for i in range(most)]
        for i, cell in enumerate(blocks):
            if not isinstance(cell, nn.Cell):
                raise TypeError(f"block must make cells, but block({i}) is of type {type(cell).__name__}")
        super().__init__(*blocks)
        self._declare(tuple(range(least, most + 1)))
        self.least = int(least)

    def construct(self, x: Any) -> Any:
        if not self.merged:
            for cell in self.cell_list:
                x = cell(x)
            return x
        outputs = (x,) if self.least == 0 else ()
        for position in range(len(self.cell_list)):
            x = self.cell_list[position](x)
            if position + 1 >= self.least:
                outputs += (x,)
        return self.add_all(outputs) * self.mark

    def plain(self, value: Any) -> Any:
        return nn.SequentialCell(*list(self.cell_list)[:value]) if value else nn.Identity()
