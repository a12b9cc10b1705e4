"""The main job on real data: a trained network and a part of Fashion-MNIST, both shipped (see NOTICE).

python -m autocomp quickstart
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autocomp.primitives.tracing.platform import load_mindspore

if TYPE_CHECKING:
    from autocomp.problem.data import Samples

Part = Literal["calibrate", "evaluate", "test"]


def load_samples(part: Part) -> Samples:
    """Images (n, 1, 28, 28) float32, normalised as the network was trained, and their classes.

    ``calibrate``: 1,000 of the images that the network was trained on. ``evaluate``: 2,000 that were held out.
    ``test``: the 10,000 test images.
    """
    from autocomp.problem.data import Samples

    load_mindspore()
    from .network import MEAN, STD

    with np.load(_file("fashion_mnist.npz")) as arrays:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    x = ((images[:, None].astype(np.float32) / 255) - MEAN) / STD
    return Samples.read((x.astype(np.float32), labels), part)


def load_network() -> Any:
    """The trained QuickstartNet, a MindSpore Cell in evaluation mode."""
    ms = load_mindspore()
    from .network import QuickstartNet

    net = QuickstartNet()
    with np.load(_file("weights.npz")) as arrays:
        ms.load_param_into_net(net, {name: ms.Parameter(ms.Tensor(array), name=name) for name, array in arrays.items()})
    return net.set_train(False)


def _file(name: str) -> str:
    return str(resources.files(__package__).joinpath(name))
