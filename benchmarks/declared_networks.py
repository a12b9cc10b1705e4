"""A declared space of small networks, searched from new weights, beside random networks that are trained alike.

    python benchmarks/nas.py --declared --shared ../shared [--quick]

Inverted residuals with four choices each, kernel 3 or 5 and expansion 3 or 6; three stages of one to three blocks;
three widths: 16,003,008 networks for Fashion-MNIST. Both sides have the same bound on multiply-accumulates. The
search trains its networks shortly and its finalists, eight of them, again and longer; the random networks have that
longer training, too. On both sides the best one on held-out training images is taken, and measured on the test images.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import autocomp
from autocomp import nas
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.nas.answer import TrainedNetwork
from autocomp.nas.training import Labelled, NetworkEvaluator, outputs_of

MACS = 5e6
DEVICE, BUDGET = "ascend-310p3", f"macs<{MACS / 1e6:g}M"
TRIALS, RANDOM = 20, 8
SHORT = FineTuning(epochs=2, batch=64, rate=0.1)
FINAL = FineTuning(epochs=6, batch=64, rate=0.1, seed=1)
TRAIN, HELD_OUT = 3000, 2000
CACHE = Path("benchmarks/.cache/declared.db")


def declared() -> Any:
    """The class of the declared network; MindSpore is loaded now."""
    from mindspore import nn

    class Block(nn.Cell):
        """A fused inverted residual (Sandler et al., CVPR 2018; fused: Tan and Le, ICML 2021): gradients of depthwise
        convolutions are slow on a processor."""

        def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int) -> None:
            super().__init__()
            hidden = inputs * expansion
            self.body = nn.SequentialCell(
                *normed(nn.Conv2d(inputs, hidden, kernel, stride), hidden),
                nn.ReLU(),
                *normed(nn.Conv2d(hidden, outputs, 1), outputs),
            )
            self.adds = stride == 1 and inputs == outputs

        def construct(self, x: Any) -> Any:
            return x + self.body(x) if self.adds else self.body(x)

    def normed(conv: Any, channels: int) -> list[Any]:
        return [conv, nn.BatchNorm2d(channels)]

    def stage(inputs: int, outputs: int, stride: int) -> Any:
        def block(i: int) -> Any:
            first = i == 0
            shape = (inputs if first else outputs, outputs)
            kinds = [(3, 3), (5, 3), (3, 6), (5, 6)]
            cells = {f"k{k}e{e}": Block(*shape, k, e, stride if first else 1) for k, e in kinds}
            return nas.Choice(**cells)

        return nas.Repeat(block, 1, 3)

    class Declared(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            one = nas.Width(8, 12, 16, name="one.width")
            two = nas.Width(12, 16, 24, name="two.width")
            three = nas.Width(16, 24, 32, name="three.width")
            self.stem = nn.SequentialCell(*normed(nn.Conv2d(1, one, 3, 2), one), nn.ReLU())
            self.one = stage(one, one, 1)
            self.two = stage(one, two, 2)
            self.three = stage(two, three, 2)
            self.head = nn.Dense(three, 10)

        def construct(self, x: Any) -> Any:
            x = self.three(self.two(self.one(self.stem(x))))
            return self.head(x.mean((2, 3)))

    return Declared


def run(shared: Path, quick: bool) -> None:
    """Prints the search, then both sides after the same training."""
    images, trials, count = samples(shared, 500 if quick else None), 4 if quick else TRIALS, 2 if quick else RANDOM
    short, final = (replace(some, epochs=1) if quick else some for some in (SHORT, FINAL))
    data = autocomp.Data(train=images["train"], evaluate=images["held out"])
    started, busy = time.perf_counter(), time.process_time()
    space = nas.NetworkSpace(declared())
    found = nas.search_network(
        space, BUDGET, DEVICE, data, trials=trials, train=short, finalists=final, progress=None,
        storage=None if quick else CACHE,
    )  # fmt: skip
    seconds, core = time.perf_counter() - started, time.process_time() - busy
    print(f"{space.count:,} networks, {BUDGET}; {len(found.evaluated)} trained, finalists again")
    print(f"the search took {seconds:.0f} s, {core:.0f} s of one core")
    print(found)
    most = found[0]
    assert isinstance(most, TrainedNetwork)
    tested = partial(accuracies, most.evaluator, final, images)
    best, macs = tested(most.choices), most.costs["macs"] / 1e6
    print(f"found:  held out {best[0]:.4f}, test {best[1]:.4f}, {macs:.2f} M multiply-accumulates")
    others = []
    for choice in drawn(space, count):
        others.append(tested(choice))
        print(f"random: held out {others[-1][0]:.4f}, test {others[-1][1]:.4f}", flush=True)
    lucky = max(test for _, test in others)
    print(f"the best of {count} random ones: test {max(others)[1]:.4f}; of them all on the test images {lucky:.4f}")
    print(f"found, better by: {best[1] - max(others)[1]:.4f}")


def samples(shared: Path, limit: int | None) -> dict[str, Labelled]:
    """Images (n, 1, 28, 28) from 0 to 1 and classes (n,)."""
    sys.path.insert(0, str(shared / "data"))
    from load import fashion_mnist

    x, y = fashion_mnist("train")
    rows = np.random.default_rng(0).permutation(len(x))[: TRAIN + HELD_OUT]
    parts = {"train": rows[:TRAIN][:limit], "held out": rows[TRAIN:][:limit]}
    found = {name: (scaled(x[part]), y[part]) for name, part in parts.items()}
    test, classes = fashion_mnist("test")
    return {**found, "test": (scaled(test[:limit]), classes[:limit])}


def scaled(images: np.ndarray) -> np.ndarray:
    return (images[:, None] / 255).astype(np.float32)


def accuracies(
    evaluator: NetworkEvaluator, final: FineTuning, images: dict[str, Labelled], choice: Mapping[str, Any]
) -> tuple[float, float]:
    """Of a network after the long training, on the held-out images and on the test images."""
    net = evaluator.network(choice, final)
    held_out, test = (
        float(np.mean(outputs_of(net, x).argmax(1) == y)) for x, y in (images["held out"], images["test"])
    )
    return held_out, test


def drawn(space: nas.NetworkSpace, count: int) -> list[dict[str, Any]]:
    """Random networks within the budget: each choice uniform, and the network dropped where it costs more."""
    rng = np.random.default_rng(7)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        choice = {name: values[rng.integers(len(values))] for name, values in space.choices.items()}
        if autocomp.estimate(space.network(choice), DEVICE, (1, 1, 28, 28)).macs < MACS:
            found.append(choice)
    return found
