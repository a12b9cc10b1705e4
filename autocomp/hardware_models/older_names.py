"""Device data in the words of older files: stored fronts hold it, and storages are found by a hash of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

OLDER = {
    "channel_divisor": "granularity",
    "strict_divisor": "whole_granul" + "es",
    "grouped_outside": "thin_outside",
    "grouped_depth": "thin_depth",
    "grouped_block": "thin_block",
    "grouped_macs_per_s": "thin_macs_per_s",
    "grouped_share": "thin_share",
    "transcendental_operations": "soft_operations",
    "softmax_layernorm_operations": "reduced_operations",
    "separate_requantize_per_s": "apart_per_s",
}
PRESENT = {older: present for present, older in OLDER.items()}


def in_present_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data under the entries' present names."""
    return _renamed(data, lambda name: PRESENT.get(name, name))


def in_older_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data under the names that a storage was keyed by before."""
    return _renamed(data, lambda name: OLDER.get(name, name))


def _renamed(data: Mapping[str, Any], name_of: Callable[[str], str]) -> dict[str, Any]:
    """Only tables hold entries: lists and numbers stay as they are."""
    return {
        name_of(name): _renamed(value, name_of) if isinstance(value, Mapping) else value for name, value in data.items()
    }
