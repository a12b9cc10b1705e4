"""A plan: one value for every knob that departs from "leave as is"."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping

from autocomp.process.bounded_files import parse_json
from autocomp.rules import is_number, shown

Value = str | float | int
RESOLUTION = "resolution/images"  # a choice that is made for a whole network: see lower_resolution


def _check(values: Mapping[str, Value]) -> None:
    """TypeError, ValueError for anything but a mapping of names to texts, bools or finite numbers."""
    if not isinstance(values, Mapping):
        raise TypeError(f"a plan must be a mapping of knob names to values, but got {shown('values', values)}")
    for name, value in values.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of a plan's knobs must be text, but got {shown('name', name)}")
        if not (isinstance(value, (str, bool)) or is_number(value)):
            raise TypeError(f"the value of {name} must be text, a number or a bool, but got {shown('value', value)}")
        if not isinstance(value, str) and not math.isfinite(value):
            raise ValueError(f"the value of {name} must be finite, but got value={value}")


class Plan(Mapping[str, Value]):
    """Frozen and hashable; two plans are equal when their canonical JSON is equal.

    >>> plan = Plan({"keep/conv1": 0.5, "format/conv1": "w8a8"})
    >>> str(plan)
    '{"format/conv1":"w8a8","keep/conv1":0.5}'
    >>> Plan.parse(str(plan)) == plan
    True
    """

    __slots__ = ("_json", "_values")

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        values = {} if values is None else values
        _check(values)
        self._values = {name: values[name] for name in sorted(values)}
        self._json = json.dumps(self._values, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Plan:
        if not isinstance(text, str):
            raise TypeError(f"a plan's text must be text, but got {shown('text', text)}")
        values = parse_json(text, "a plan's text")
        if not isinstance(values, dict):
            raise ValueError(f"a plan is a JSON object of knob names and values, but got {shown('text', text)}")
        return cls(values)

    @property
    def key(self) -> str:
        """Stable over runs, processes and machines."""
        return hashlib.sha256(self._json.encode()).hexdigest()[:16]

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return self._json

    def __repr__(self) -> str:
        return f"Plan({self._values})"

    def __hash__(self) -> int:
        return hash(self._json)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self._json == other._json


def lower_resolution(plan: Mapping[str, Value]) -> Value | None:
    """The share of the sides of images at which a plan's network runs behind images that it scales down; None for one
    at the network's own resolution."""
    return plan.get(RESOLUTION)
