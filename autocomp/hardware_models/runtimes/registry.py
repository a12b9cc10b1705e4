"""Finds runtimes by their names in device files, and behind the names of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autocomp.errors import nearest
from autocomp.search_spaces import Format

from .ascend import ASCEND, MINDSPORE
from .base import Runtime
from .cuda import CUDA
from .lite import LITE, LITE_FLOATS
from .onnxruntime import ONNXRUNTIME
from .tensorrt import TENSORRT

RUNTIMES: Mapping[str, Runtime] = {
    one.name: one for one in (ASCEND, LITE, ONNXRUNTIME, TENSORRT, MINDSPORE, LITE_FLOATS, CUDA)
}
IN_FILES = (ASCEND.name, LITE.name, ONNXRUNTIME.name, TENSORRT.name)  # those that a device file usually names
OTHERS: Mapping[str, tuple[Runtime, ...]] = {  # that run on the chips of a runtime, too
    ASCEND.name: (MINDSPORE, LITE_FLOATS),
    TENSORRT.name: (CUDA,),
    ONNXRUNTIME.name: (LITE_FLOATS,),
}
PROCESSOR = "cpu"
NOT_CLAIMED = ("aliases", "container", "fit", "measured", "symmetric_inputs")


def runtime_of(data: Mapping[str, Any], origin: str = "it") -> Runtime:
    """The runtime that a device file names; ValueError for an unknown name."""
    name = data.get("runtime", unnamed(data))
    if name not in RUNTIMES:
        known = ", ".join(IN_FILES)
        raise ValueError(f"the runtime of a device file must be one of {known}, but {origin} has {name!r}")
    return RUNTIMES[name]


def unnamed(data: Mapping[str, Any]) -> str:
    """The runtime of a file that names none, as in stored fronts: it follows from entries that only one runtime has."""
    if data.get("symmetric_inputs"):
        return TENSORRT.name
    return ASCEND.name if data["fusion"].get("pools") else LITE.name


def title_of(data: Mapping[str, Any]) -> str:
    """The runtime's name as users know it. A processor that was not measured is modelled as under Lite, but its files
    are those of onnxruntime."""
    own = runtime_of(data)
    unmeasured = own is LITE and data["name"].partition(":")[0] == PROCESSOR
    return ONNXRUNTIME.name if unmeasured else own.title or own.name


def others_of(data: Mapping[str, Any]) -> dict[str, Runtime]:
    """The other runtimes on the chip of a device file, by the names that users write behind the device's."""
    own = runtime_of(data)
    others = OTHERS.get(ONNXRUNTIME.name if title_of(data) == ONNXRUNTIME.name and own is LITE else own.name, ())
    return {one.title or one.name: one for one in others}


def on_other_runtime(data: Mapping[str, Any], title: str) -> dict[str, Any]:
    """A device file's content for another runtime on the same chip: only float and the formats that it executes or
    stores are left, and what was measured under the file's own runtime is not claimed for it.

    ValueError names the runtimes of the chip.
    """
    own, others, name = title_of(data), others_of(data), data["name"]
    if title not in (own, *others):
        names = ", ".join([f"{name} ({own})", *(f"{name}:{other}" for other in others)])
        raise ValueError(f"unknown runtime {title!r} of {name}; valid are {names}{nearest(title, (own, *others))}")
    if title == own:
        return dict(data)
    other = others[title]
    source = f"those of {name} under {own}: {data['rates'].get('source', 'not named')}; not measured under {title}"
    left = {key: value for key, value in data.items() if key not in NOT_CLAIMED}
    formats = [text for text in data["formats"] if not other.floats_alone or Format.parse(text) == Format()]
    return {**left, "name": f"{name}:{title}", "runtime": other.name, "formats": formats,
            "rates": {**data["rates"], "source": source}}  # fmt: skip
