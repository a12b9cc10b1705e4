"""A detector as its authors deploy it, exported: YOLOv8n of mindyolo, boxes decoded inside the network.

    pip install --no-deps mindyolo==0.5.0
    python benchmarks/yolo.py

Random weights, BatchNorm's statistics as they are created. The float network is exported to ONNX, reloaded and compared
with MindSpore. The last line says the largest relative error.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

PIXELS = 320
# the network of configs/yolov8/yolov8n.yaml in mindyolo's repository, which its package leaves out
CONVOLUTIONS = [[-1, 1, "ConvNormAct", [64 << i, 3, 2]] for i in range(5)]
REPEATED = [[-1, n, "C2f", [128 << i, True]] for i, n in enumerate((3, 6, 6, 3))]
BACKBONE = [CONVOLUTIONS[0], *(one for pair in zip(CONVOLUTIONS[1:], REPEATED, strict=True) for one in pair)]
HEAD = [
    [-1, 1, "Upsample", [None, 2, "nearest"]], [[-1, 6], 1, "Concat", [1]], [-1, 3, "C2f", [512]],
    [-1, 1, "Upsample", [None, 2, "nearest"]], [[-1, 4], 1, "Concat", [1]], [-1, 3, "C2f", [256]],
    [-1, 1, "ConvNormAct", [256, 3, 2]], [[-1, 12], 1, "Concat", [1]], [-1, 3, "C2f", [512]],
    [-1, 1, "ConvNormAct", [512, 3, 2]], [[-1, 9], 1, "Concat", [1]], [-1, 3, "C2f", [1024]],
    [[15, 18, 21], 1, "YOLOv8Head", ["nc", "reg_max", "stride"]],
]  # fmt: skip
SETTINGS = {
    "model_name": "yolov8", "nc": 80, "reg_max": 16, "depth_multiple": 0.33, "width_multiple": 0.25,
    "stride": [8, 16, 32], "backbone": [*BACKBONE, [-1, 1, "SPPF", [1024, 5]]], "head": HEAD,
}  # fmt: skip


class Settings(dict[str, Any]):
    """A dict whose entries are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def only_models() -> None:
    """mindyolo without its data pipeline, which needs packages that a network does not."""
    found = find_spec("mindyolo")
    if found is None or found.submodule_search_locations is None:
        raise SystemExit("this needs: pip install --no-deps mindyolo==0.5.0")
    for name in ("mindyolo", "mindyolo.utils"):
        bare = ModuleType(name)
        bare.__path__ = [str(Path(found.submodule_search_locations[0], *name.split(".")[1:]))]
        sys.modules[name] = bare
    import logging

    sys.modules["mindyolo.utils"].logger = logging.getLogger("mindyolo")  # type: ignore[attr-defined]


def network() -> Any:
    only_models()
    from mindyolo.models.yolov8 import YOLOv8

    return YOLOv8(Settings(SETTINGS), in_channels=3, num_classes=80).set_train(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=PIXELS)
    pixels = parser.parse_args().pixels
    net = network()
    x = np.random.default_rng(0).uniform(size=(2, 3, pixels, pixels)).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        report = autocomp.export(net, Path(place) / "yolov8n.onnx", (x,))
        print(f"float: {report}")
    print(f"largest error: {report.max_relative_error:.2g} relative")


if __name__ == "__main__":
    main()
