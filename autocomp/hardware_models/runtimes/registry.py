"""Finds runtimes by their names in device files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .ascend import ASCEND
from .base import Runtime
from .lite import LITE
from .onnxruntime import ONNXRUNTIME
from .tensorrt import TENSORRT

RUNTIMES: Mapping[str, Runtime] = {one.name: one for one in (ASCEND, LITE, ONNXRUNTIME, TENSORRT)}


def runtime_of(data: Mapping[str, Any], origin: str = "it") -> Runtime:
    """The runtime that a device file names; ValueError for an unknown name."""
    name = data.get("runtime", unnamed(data))
    if name not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise ValueError(f"the runtime of a device file must be one of {known}, but {origin} has {name!r}")
    return RUNTIMES[name]


def unnamed(data: Mapping[str, Any]) -> str:
    """The runtime of a file that names none, as in stored fronts: it follows from entries that only one runtime has."""
    if data.get("symmetric_inputs"):
        return TENSORRT.name
    return ASCEND.name if data["fusion"].get("pools") else LITE.name
