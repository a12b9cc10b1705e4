"""The networks of a second builder, mindcv (`pip install --no-deps mindcv`): the same functions, written otherwise.

Only its `models` are loaded: the rest of the package asks for libraries of data sets. Without it its rows are left out.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAMES = {  # of the measurements -> of mindcv, where they differ
    "mobilenet_v1": "mobilenet_v1_100",
    "mobilenet_v2": "mobilenet_v2_100",
    "mobilenet_v3_small": "mobilenet_v3_small_100",
    "ghostnet_1.0x": "ghostnet_100",
    "se_resnet50": "seresnet50",
    "vit_b_16": "vit_b_16_224",
    "mnasnet0_5": "mnasnet_050",
    "mnasnet0_75": "mnasnet_075",
    "mnasnet1_0": "mnasnet_100",
    "mnasnet1_3": "mnasnet_130",
}


@cache
def models() -> ModuleType | None:
    """mindcv's models; None where mindcv is not installed."""
    found = find_spec("mindcv")
    if found is None or found.submodule_search_locations is None:
        return None
    package = ModuleType("mindcv")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["mindcv"] = package
    return import_module("mindcv.models")


def has(name: str) -> bool:
    return models() is not None and hasattr(models(), NAMES.get(name, name))


def build(name: str) -> Any:
    """The network in MindSpore layers, untrained."""
    return getattr(models(), NAMES.get(name, name))()
