"""ResNet-20, ResNet-56 and the CIFAR-10 images (JPEG) of the folder ``--shared``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from training import Images


class Cifar:
    """shared: the folder with data/ and models/."""

    def __init__(self, shared: Path) -> None:
        for folder in ("data", "models"):
            if str(shared / folder) not in sys.path:
                sys.path.insert(0, str(shared / folder))
        import load
        import resnet_cifar

        self._load, self._resnet = load, resnet_cifar

    def network(self, depth: int = 20) -> Any:
        return self._resnet.trained(depth)

    def images(self, split: str, limit: int | None = None) -> Images:
        """The first of them, normalised as the network was trained. split: "train" or "test"."""
        pixels, labels = self._load.cifar10(split, limit)
        x = (pixels.astype(np.float32) / 255 - self._resnet.MEAN) / self._resnet.STD
        return Images(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), labels)
