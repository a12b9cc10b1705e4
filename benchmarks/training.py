"""Images and the training that benchmarks of accuracy share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.primitives.tracing.platform import forward, load_mindspore

ms = load_mindspore()

import mindspore.dataset as ds
from mindspore import nn

from autocomp.evaluators import choose_engine
from autocomp.evaluators.training.steps import parameter_groups
from autocomp.primitives import trace
from autocomp.primitives.distillation.distilled import Taught
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.search_spaces import Plan, SearchSpace

CACHE = Path(__file__).parent / ".cache"
BATCH, PAD = 125, 4
HELD_OUT = 5  # of so many test images settings are chosen on one


@dataclass(frozen=True)
class Images:
    x: np.ndarray
    y: np.ndarray

    def part(self, start: int, stop: int) -> Images:
        return Images(self.x[start:stop], self.y[start:stop])


def held_apart(test: Images) -> tuple[Images, Images]:
    """The test images that settings are chosen on, and the others."""
    count = len(test.x) // HELD_OUT
    return test.part(0, count), test.part(count, len(test.x))


class Augmented:
    """Batches for training, with their labels: reflected borders cropped at random, flipped at random.

    Other ones each time they are gone through; after ``epochs`` times they begin anew.
    """

    def __init__(self, images: Images, seed: int, epochs: int, pad: int = PAD) -> None:
        self.images, self.seed, self.epochs, self.pad, self.times = images, seed, epochs, pad, 0
        self.padded = np.pad(images.x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")

    def __len__(self) -> int:
        return len(self.images.x) // BATCH

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        epoch = self.times % self.epochs
        self.times += 1
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.images.x))[: len(self) * BATCH].reshape(-1, BATCH)
        for step, chosen in enumerate(order):
            yield self._crop(chosen, rng), self.wanted(epoch, step, chosen)

    def wanted(self, epoch: int, step: int, chosen: np.ndarray) -> np.ndarray:
        """Of these images; (n,), or (n, ...)."""
        return self.images.y[chosen]

    def _crop(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size = self.images.x.shape[-1]
        tops, lefts = rng.integers(0, 2 * self.pad + 1, (2, len(chosen)))
        flips = rng.random(len(chosen)) < 0.5
        batch = np.empty((len(chosen), *self.images.x.shape[1:]), np.float32)
        for i, (image, top, left, flip) in enumerate(zip(chosen, tops, lefts, flips, strict=True)):
            crop = self.padded[image, :, top : top + size, left : left + size]
            batch[i] = crop[:, :, ::-1] if flip else crop
        return batch


class TaughtBatches(Augmented):
    """With a teacher's outputs in the place of labels, computed once and kept for all that train on the same images."""

    def __init__(self, teacher: Any, images: Images, seed: int, epochs: int, pad: int = PAD) -> None:
        super().__init__(images, seed, epochs, pad)
        parameters = parameters_of(teacher)
        key = blake2b(repr((seed, epochs, pad, BATCH)).encode(), digest_size=8)
        for values in (images.x, *parameters.values()):
            key.update(np.ascontiguousarray(values).data)
        file = CACHE / f"teacher-{key.hexdigest()}.npy"
        if not file.exists():
            CACHE.mkdir(exist_ok=True)
            np.save(file, outputs_of(teacher, parameters, Augmented(images, seed, epochs, pad)))
        self.outputs = np.load(file)

    def wanted(self, epoch: int, step: int, chosen: np.ndarray) -> np.ndarray:
        return np.asarray(self.outputs[epoch, step])


def outputs_of(teacher: Any, parameters: dict[str, np.ndarray], batches: Augmented) -> np.ndarray:
    """(epochs, steps, n, classes)."""
    some = (batches.images.x[:8],)
    graph = trace(teacher, some)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    engine = choose_engine(teacher, graph, parameters, plain, some, forward(teacher, some))
    return np.array([[engine.outputs(plain, (x,))[0] for x, _ in batches] for _ in range(batches.epochs)])


def cross_entropy() -> Any:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def cosine(rate: float, steps: int) -> list[float]:
    return [rate * 0.5 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]


def fit(net: Any, batches: Augmented, rate: float, callbacks: Sequence[Any] = (), adam: bool = False) -> None:
    """Towards the labels, or the outputs of a teacher that batches bring with them.

    rate: at the start, with Nesterov momentum 0.9 or Adam; it falls by a cosine to 0.
    """
    rates, groups = cosine(rate, batches.epochs * len(batches)), parameter_groups(net)
    optimizer = nn.Adam(groups, rates) if adam else nn.Momentum(groups, rates, 0.9, use_nesterov=True)
    dataset = ds.GeneratorDataset(batches, ["image", "wanted"], shuffle=False)
    taught, loss = (Taught(net, share=1.0), None) if isinstance(batches, TaughtBatches) else (net, cross_entropy())
    ms.Model(taught, loss, optimizer).train(batches.epochs, dataset, callbacks=[*callbacks], dataset_sink_mode=False)


def accuracy(net: Any, images: Images) -> float:
    """In percent."""
    parts = [forward(net, (images.x[i : i + 500],))[0] for i in range(0, len(images.x), 500)]
    return 100 * float((np.concatenate(parts).argmax(1) == images.y).mean())
