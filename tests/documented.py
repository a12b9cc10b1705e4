"""The examples of the documentation, and what their pages promise: a network, samples, a front, all of them small."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

import autocomp
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.arguments import check_workers
from autocomp.problem.data import Samples

from .networks import randomised

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(
    str(path.relative_to(ROOT)) for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
)
BLOCK = re.compile(r"(?:<!-- not run by the tests: ([^>]*?) -->\s*)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BATCH = 4096  # for which costs are predicted, so that fixed times count little although the network is small
TRIALS, SAMPLES, CANDIDATES = 4, 128, 500
WIDTH, COPIES = 64, 4  # channels of a layer; how many of them are alike


@dataclass(frozen=True)
class Block:
    """language: as the fence says. reason: why it is not run, else empty."""

    language: str
    code: str
    reason: str


def blocks_of(page: str) -> list[Block]:
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [Block(language, code, reason) for reason, language, code in found]


def commands(shell: str) -> Iterator[list[str]]:
    """The arguments of each call of autocomp, without what only shells read."""
    for line in shell.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for start in (i for i, word in enumerate(words) if word.rpartition("/")[2] == "autocomp"):
            rest = words[start + 1 :]
            yield rest[: rest.index("&&")] if "&&" in rest else rest


class Classifier(nn.Cell):
    """Two convolutions, images (n, channels, h, w)."""

    def __init__(self, channels: int = 1, classes: int = 5) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, WIDTH, 3, 2), nn.BatchNorm2d(WIDTH)
        self.conv2, self.bn2 = nn.Conv2d(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH)
        self.relu, self.fc = nn.ReLU(), nn.Dense(WIDTH, classes)

    def construct(self, x: Any) -> Any:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.relu(self.bn2(self.conv2(x))).mean((2, 3)))


class Segmenter(nn.Cell):
    """Two classes for each pixel of images (n, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, WIDTH, 3), nn.BatchNorm2d(WIDTH)
        self.relu, self.conv2 = nn.ReLU(), nn.Conv2d(WIDTH, 2, 3)

    def construct(self, x: Any) -> Any:
        return self.conv2(self.relu(self.bn1(self.conv1(x))))


def redundant(net: Any) -> Any:
    """The network with only a quarter of its channels different, so that the others can be cut without a loss."""
    randomised(net)
    for name, parameter in net.parameters_and_names():
        if name.startswith(("conv1", "bn1")) or (name.startswith(("conv2", "bn2")) and hasattr(net, "fc")):
            value = parameter.asnumpy()
            parameter.set_data(
                type(parameter)(np.tile(value[: len(value) // COPIES], (COPIES,) + (1,) * (value.ndim - 1)))
            )
    return net


@cache
def trained() -> tuple[Any, np.ndarray, np.ndarray]:
    """A classifier, and images and classes (SAMPLES, ...) of which it is sure."""
    net = redundant(Classifier())
    x = np.random.default_rng(0).standard_normal((CANDIDATES, 1, 28, 28)).astype(np.float32)
    scores = np.sort(outputs := forward(net, (x,), graph=False)[0], 1)
    sure = np.argsort(scores[:, -2] - scores[:, -1])[:SAMPLES]
    return net, x[sure], outputs[sure].argmax(1)


def searched(search: Callable[..., Any]) -> Callable[..., Any]:
    """``autocomp.search`` with few trials and one epoch, for a large batch.

    workers are checked and left out: starting them takes longer than all examples together.
    """

    def fast(net: Any, budget: str, device: str, data: Any = None, **settings: Any) -> Any:
        shape = settings.pop("inputs", (1, 1, 28, 28))
        check_workers(settings.pop("workers", None))
        quick = {"trials": TRIALS, "inputs": (BATCH, *shape[1:]), "progress": False}
        if getattr(data, "train", None) is not None:
            quick |= {"fine_tune": 1, "train_budget": 1}
        return search(net, budget, device, data, **settings | quick)

    return fast


def samples(part: str) -> Samples:
    """As :func:`autocomp.quickstart.load_samples`."""
    _, x, y = trained()
    return Samples.read((x, y), part)


def promised(page: str) -> dict[str, Any]:
    """The names that the page's examples use."""
    net, x, y = trained()
    names = {"autocomp": autocomp, "net": net, "x": x, "y": y}
    names |= {"x_train": x, "y_train": y, "x_held_out": x, "y_held_out": y}
    names |= {"data": (x, y), "budget": "latency<60%", "device": "ascend"}
    if page.endswith("data.md"):
        names["net"] = redundant(Segmenter())
        names["masks"] = forward(names["net"], (x,), graph=False)[0].argmax(1)
    if page.endswith(("deploy.md", "look.md")):
        names["front"] = autocomp.search(net, "latency<60%", "ascend", (x, y))
    return names


def write_files(folder: Path, page: str) -> None:
    """The files that the page's calls of the command line read; the images of ``devices.md`` have three channels."""
    channels = 3 if page.endswith("devices.md") else 1
    source = "from tests.documented import Classifier, redundant\n\n\ndef build():\n    return "
    (folder / "resnet.py").write_text(f"{source}redundant(Classifier({channels}))\n")
    ms.save_checkpoint(redundant(Classifier(channels)), str(folder / "resnet.ckpt"))
    for block in blocks_of(page):
        if block.language == "toml" and "like =" in block.code:
            for name in ("my.toml", "measured.toml"):
                (folder / name).write_text(block.code)
