"""One place where one choice is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .activations import Activation
from .blocks import ResidualBlock
from .chains import LayerChain
from .formats import Format
from .graph import ChannelGroup
from .plan import Value
from .values import split_value

DENSE, SPARSE = "dense", "2:4"  # values of a knob of kind ``sparsity``


@dataclass(frozen=True)
class Knob:
    """Ordered values, the first of which leaves the network as it is, from the mildest to the strongest.

    name: ``"<kind>/<layer or channel group>"``.
    primitive: registered name of the algorithm that carries the choice out, unless a value names another one after an
        ``@`` (:func:`split_value`) or ``primitives`` does.
    layers: the layers that the choice affects.
    values: of kind ``format`` strings as :class:`Format` reads them (``"float"``, ``"w8"``, ``"w4a8"``,
        ``"w4a8@lsq"``); of kind ``keep`` the share of the group's units kept, 1.0 first; of kind ``sparsity``
        ``"dense"`` and ``"2:4"``; of kind ``structure`` ``"whole"`` and names of chains, ``"rank0.5@low-rank"``; of
        kind ``skip`` ``"whole"`` and ``"skipped@block-skipping"``; of kind ``activation`` ``"kept"`` and
        ``"relu@activations"``; of kind ``cache`` ``"float"``, ``"int8"`` and ``"int4"``: of keys and values, which the
        two products read that are its layers.
    group, order: of kind ``keep``: the channel group, and its units (indices within the group) from the most to the
        least important; a ratio keeps the first of them, so that stronger choices are subsets of milder ones.
    channel_divisor: of kind ``keep``: the number of units kept is a multiple of it (or all of them).
    primitives: the primitive of each value, where they differ; otherwise empty.
    orders: of kind ``keep``: the order of a primitive that values name, ``"0.5@taylor"``.
    trainers: primitives that carry out a value by training, after a search has chosen it; a plan names one of them
        (``"w4a8@lsq"``) although it is no value of its own.
    chains: of kind ``structure``: the layers that a value puts in the place of the layer.
    block: of kind ``skip``: what is left out. activation: of kind ``activation``: what a ReLU stands for.
    dividing: primitives whose values divide the layer's input by a scale for each channel, which its weight takes.
    ranging: those of them that round each row of the input with a range of its own.
    """

    name: str
    primitive: str
    layers: tuple[str, ...]
    values: tuple[Value, ...]
    group: ChannelGroup | None = None
    order: np.ndarray | None = field(default=None, compare=False)
    channel_divisor: int = 1
    primitives: tuple[str, ...] = ()
    orders: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    trainers: tuple[str, ...] = ()
    chains: Mapping[Value, LayerChain] = field(default_factory=dict, compare=False)
    block: ResidualBlock | None = field(default=None, compare=False)
    activation: Activation | None = field(default=None, compare=False)
    dividing: tuple[str, ...] = ()
    ranging: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise ValueError(f"the values of knob {self.name} must be distinct and at least one, but got {self.values}")
        if (self.group is None) != (self.order is None):
            raise ValueError(f"knob {self.name} must have both a channel group and an order of its units, or neither")

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    def index(self, value: Value) -> int:
        """The position of the value; one that a trainer carries out has that of the same choice without it."""
        if value in self.values:
            return self.values.index(value)
        chosen, primitive = split_value(value)
        alike = [i for i, own in enumerate(self.values) if split_value(own)[0] == chosen]
        if alike and (primitive in self.trainers or (not primitive and len(alike) == 1)):
            return alike[0]
        raise ValueError(f"knob {self.name} takes {', '.join(map(str, self.values))}, but got {value!r}")

    def primitive_of(self, value: Value) -> str:
        """The name of the primitive that carries out this value."""
        named = split_value(value)[1]
        return named or (self.primitives[self.index(value)] if self.primitives else self.primitive)

    def divides(self, value: Value) -> bool:
        """Whether the value divides the layer's input by a scale for each channel."""
        return bool(self.dividing) and self.primitive_of(value) in self.dividing

    def by_row(self, value: Value) -> bool:
        """Whether the value rounds each row of the layer's input with a range of its own."""
        return bool(self.ranging) and self.primitive_of(value) in self.ranging

    @cached_property
    def every_primitive(self) -> tuple[str, ...]:
        """The primitives of all values but the first, which leaves the network as it is, and the trainers."""
        return tuple(dict.fromkeys([*map(self.primitive_of, self.values[1:]), *self.trainers]))

    @cached_property
    def formats(self) -> tuple[Format, ...]:
        """The parsed format of each value, for a knob of kind ``format``."""
        return tuple(Format.parse(str(split_value(value)[0])) for value in self.values)

    @cached_property
    def kept(self) -> np.ndarray:
        """(values, units of the group) bool: which units each value keeps, for a knob of kind ``keep``."""
        if self.group is None or self.order is None:
            raise ValueError(f"knob {self.name} prunes no channels")
        units = self.group.units
        masks = np.zeros((len(self.values), units), bool)
        for mask, value in zip(masks, self.values, strict=True):
            ratio, primitive = split_value(value)
            mask[self.orders.get(primitive, self.order)[: kept_units(units, float(ratio), self.channel_divisor)]] = True
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
