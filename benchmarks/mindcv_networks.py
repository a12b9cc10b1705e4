"""The networks of a second builder, mindcv (`pip install --no-deps mindcv`): the same functions, written otherwise.

Only its `models` are loaded: the rest of the package asks for libraries of data sets. Without it its rows are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
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


SWIN = {  # as the rows' source names them: pixels, width, window, heads of the first stage
    "swin_base_patch4_window12_384": (384, 128, 12, 4),
    "swin_large_patch4_window12_384": (384, 192, 12, 6),
    "swin_large_patch4_window7_224": (224, 192, 7, 6),
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
    return models() is not None and (name in OWN or hasattr(models(), NAMES.get(name, name)))


def build(name: str) -> Any:
    """The network in MindSpore layers, untrained."""
    return OWN[name]() if name in OWN else getattr(models(), NAMES.get(name, name))()


def hrnet(width: int = 18) -> Any:
    """For classification, with the widths of HRNet-W18."""
    widths = {n: [width * 2**i for i in range(n)] for n, _ in PARTS} | {1: [64]}
    stages = {
        f"stage{n}": {
            "num_modules": count,
            "num_branches": n,
            "block": "BOTTLENECK" if n == 1 else "BASIC",
            "num_blocks": [4] * n,
            "num_channels": widths[n],
        }
        for n, count in PARTS
    }
    return import_module("mindcv.models.hrnet").HRNet(stages)


PARTS = ((1, 1), (2, 1), (3, 4), (4, 3))  # stages of HRNet, and their modules


def swin(name: str) -> Any:
    pixels, width, window, heads = SWIN[name]
    return import_module("mindcv.models.swintransformer").SwinTransformer(
        image_size=pixels,
        embed_dim=width,
        depths=[2, 2, 18, 2],
        num_heads=[heads * 2**i for i in range(4)],
        window_size=window,
    )


OWN: dict[str, Callable[[], Any]] = {
    "hrnet_w18_cls": hrnet,
    **{name: partial(swin, name) for name in SWIN},
}
