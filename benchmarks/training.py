"""Images and the training that benchmarks of accuracy share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.primitives.platform import forward, load_mindspore

ms = load_mindspore()

import mindspore.dataset as ds
from mindspore import nn

from autocomp.evaluators.fine_tuning import parameter_groups
from autocomp.primitives import Distilled

BATCH, PAD = 125, 4


@dataclass(frozen=True)
class Images:
    x: np.ndarray
    y: np.ndarray

    def part(self, start: int, stop: int) -> Images:
        return Images(self.x[start:stop], self.y[start:stop])


class Augmented:
    """Batches for training: reflected borders cropped at random, flipped at random; anew in every epoch."""

    def __init__(self, images: Images, seed: int, pad: int = PAD) -> None:
        self.images, self.rng, self.pad = images, np.random.default_rng(seed), pad
        self.padded = np.pad(images.x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")

    def __len__(self) -> int:
        return len(self.images.x) // BATCH

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = self.rng.permutation(len(self.images.x))[: len(self) * BATCH].reshape(-1, BATCH)
        for chosen in order:
            yield self._crop(chosen), self.images.y[chosen]

    def _crop(self, chosen: np.ndarray) -> np.ndarray:
        size = self.images.x.shape[-1]
        tops, lefts = self.rng.integers(0, 2 * self.pad + 1, (2, len(chosen)))
        flips = self.rng.random(len(chosen)) < 0.5
        batch = np.empty((len(chosen), *self.images.x.shape[1:]), np.float32)
        for i, (image, top, left, flip) in enumerate(zip(chosen, tops, lefts, flips, strict=True)):
            crop = self.padded[image, :, top : top + size, left : left + size]
            batch[i] = crop[:, :, ::-1] if flip else crop
        return batch


def cross_entropy() -> Any:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def cosine(rate: float, steps: int) -> list[float]:
    return [rate * 0.5 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]


def fit(
    net: Any,
    images: Images,
    epochs: int,
    rate: float,
    seed: int,
    callbacks: Sequence[Any] = (),
    adam: bool = False,
    teacher: Any = None,
    pad: int = PAD,
) -> None:
    """rate: at the start, with Nesterov momentum 0.9 or Adam; it falls by a cosine to 0. teacher: a network whose
    outputs are learned, in the place of labels."""
    batches = Augmented(images, seed, pad)
    rates, groups = cosine(rate, epochs * len(batches)), parameter_groups(net)
    optimizer = nn.Adam(groups, rates) if adam else nn.Momentum(groups, rates, 0.9, use_nesterov=True)
    dataset = ds.GeneratorDataset(batches, ["image", "label"], shuffle=False)
    taught, loss = (net, cross_entropy()) if teacher is None else (Distilled(net, teacher, share=1.0), None)
    ms.Model(taught, loss, optimizer).train(epochs, dataset, callbacks=[*callbacks], dataset_sink_mode=False)


def accuracy(net: Any, images: Images) -> float:
    """In percent."""
    parts = [forward(net, (images.x[i : i + 500],))[0] for i in range(0, len(images.x), 500)]
    return 100 * float((np.concatenate(parts).argmax(1) == images.y).mean())
