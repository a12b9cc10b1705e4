"""In how many bits a plan holds keys and values."""

from __future__ import annotations

from typing import NamedTuple

CACHE_BITS: dict[str, int | None] = {"float": None, "int8": 8, "int4": 4}  # values of a knob of kind ``cache``


class RoundedRead(NamedTuple):
    """A product of two activations that reads keys, or else values, from a cache in integers of so many bits."""

    bits: int
    keys: bool
