"""What a search may choose at some layers: fewer formats, milder cuts, certain primitives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autocomp.rules import is_names, is_number, shown
from autocomp.search_spaces import Format, Knob, split_value


@dataclass(frozen=True)
class Restrict:
    """Restricts the choices of a search at some layers.

    >>> autocomp.search(net, "latency<50%", "ascend", data, restrict=[
    ...     autocomp.Restrict("stages.3.*", formats=["w8a8"], keep=0.5),
    ...     autocomp.Restrict("head", primitives=["rtn"]),
    ... ])

    Args:
        layers: names of cells, which stand for all that is inside them, or patterns such as ``"stages.3.*"``; one or
            several.
        formats: that these layers may have besides float; None: all. An empty list leaves them in float.
        keep: the least share, in (0, 1], that stays of each channel group with one of these layers; None: any.
        primitives: names of those that may change these layers; None: all that the search has.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or nothing is restricted.
    """

    layers: str | Iterable[str]
    formats: Iterable[str] | None = None
    keep: float | None = None
    primitives: Iterable[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", _names(self.layers, "layers"))
        if not self.layers:
            raise ValueError("layers must be at least one name or pattern, but got none")
        for name in ("formats", "primitives"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _names(getattr(self, name), name))
        for text in self.formats or ():
            Format.parse(text)
        if self.keep is not None and not is_number(self.keep):
            raise TypeError(f"keep must be a number, but got {shown('keep', self.keep)}")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ValueError(f"keep must be in (0, 1], but got keep={self.keep}")
        if self.formats is None and self.keep is None and self.primitives is None:
            raise ValueError("Restrict needs at least one of formats, keep and primitives")

    def allowed(self, knob: Knob) -> Knob | None:
        """The knob with the values that remain; None where there are none but the first."""
        if self.primitives is not None and knob.primitive not in self.primitives:
            return None
        values = tuple(value for value in knob.values[1:] if self._allows(knob, value))
        return replace(knob, values=(knob.values[0], *values)) if values else None

    def _allows(self, knob: Knob, value: str | float | int) -> bool:
        chosen = split_value(value)[0]
        if knob.kind == "format":
            return self.formats is None or chosen in tuple(self.formats)
        return knob.kind != "keep" or self.keep is None or float(chosen) >= self.keep


def _names(given: object, argument: str) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Iterable) and is_names(found := tuple(given)):
        return found
    raise TypeError(f"{argument} must be names, but got {shown(argument, given)}")


Restricted = tuple[frozenset[str], Restrict]  # the layers that the patterns fit


def restricted(knobs: Iterable[Knob], restrictions: Sequence[Restricted]) -> list[Knob]:
    """The knobs with the values that all restrictions of their layers allow."""
    found: list[Knob] = []
    for knob in knobs:
        left: Knob | None = knob
        for layers, restriction in restrictions:
            if left is not None and layers.intersection(knob.layers):
                left = restriction.allowed(left)
        if left is not None:
            found.append(left)
    return found
