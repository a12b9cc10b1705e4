"""One place where one choice is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .formats import Format
from .graph import ChannelGroup
from .plan import Value


@dataclass(frozen=True)
class Knob:
    """Ordered values, the first of which leaves the network as it is, from the mildest to the strongest.

    name: ``"<kind>/<layer or channel group>"``.
    primitive: registered name of the algorithm that applies the choice.
    layers: the layers that the choice affects.
    values: of kind ``format`` strings as :class:`Format` reads them (``"float"``, ``"w8"``, ``"w4a8"``); of kind
        ``keep`` the share of the group's units kept, 1.0 first.
    group, order: of kind ``keep``: the channel group, and its units (indices within the group) from the most to the
        least important; a ratio keeps the first of them, so that stronger choices are subsets of milder ones.
    channel_divisor: of kind ``keep``: the number of units kept is a multiple of it (or all of them).
    """

    name: str
    primitive: str
    layers: tuple[str, ...]
    values: tuple[Value, ...]
    group: ChannelGroup | None = None
    order: np.ndarray | None = field(default=None, compare=False)
    channel_divisor: int = 1

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"the values of knob {self.name} must be distinct and at least one, but got {self.values}")
        if (self.group is None) != (self.order is None):
            raise ValueError(f"knob {self.name} must have both a channel group and an order of its units, or neither")

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    def index(self, value: Value) -> int:
        if value not in self.values:
            raise ValueError(f"knob {self.name} takes {', '.join(map(str, self.values))}, but got {value!r}")
        return self.values.index(value)

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        """The parsed format of each value, for a knob of kind ``format``."""
        return tuple(Format.parse(str(value)) for value in self.values)

    @cached_property
    def kept(self) -> np.ndarray:
        """(values, units of the group) bool: which units each value keeps, for a knob of kind ``keep``."""
        if self.group is None or self.order is None:
            raise ValueError(f"knob {self.name} prunes no channels")
        units = self.group.units
        masks = np.zeros((len(self.values), units), bool)
        for mask, value in zip(masks, self.values, strict=True):
            mask[self.order[: kept_units(units, float(value), self.channel_divisor)]] = True
        return masks


def kept_units(units: int, keep_ratio: float, channel_divisor: int = 1) -> int:
    """How many of ``units`` stay: the multiple of ``channel_divisor`` nearest to the ratio, at least one divisor, at
    most all units."""
    if not 0 < keep_ratio <= 1:
        raise ValueError(f"keep_ratio must be in (0, 1], but got keep_ratio={keep_ratio}")
    if keep_ratio == 1:
        return units
    steps = max(1, round(units * keep_ratio / channel_divisor))
    return min(units, steps * channel_divisor)
