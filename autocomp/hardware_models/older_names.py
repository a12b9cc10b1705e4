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
GONE = (  # entries and precisions of models that are no longer needed; files may still have them
    *("unpack_per_s", "unpack4_per_s", "stride_per_s", "apart_per_s", "separate_requantize_per_s"),
    *("row_s", "pool_per_s", "group_s", "unpacked"),
)
PRESENT = {older: present for present, older in OLDER.items()}


def in_present_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data under the entries' present names, without those that are no longer read."""
    found = _renamed(data, lambda name: PRESENT.get(name, name))
    if "unpacked" in found.get("rates", {}).get("macs_per_s", {}):  # written before files named their runtime
        found.setdefault("runtime", "onnxruntime")
    return _without_gone(found)


def in_older_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data under the names that a storage was keyed by before."""
    return _renamed(data, lambda name: OLDER.get(name, name))


def _without_gone(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in data.items() if name not in GONE}
    return {name: _without_gone(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _renamed(data: Mapping[str, Any], name_of: Callable[[str], str]) -> dict[str, Any]:
    """Only tables hold entries: lists and numbers stay as they are."""
    return {
        name_of(name): _renamed(value, name_of) if isinstance(value, Mapping) else value for name, value in data.items()
    }
