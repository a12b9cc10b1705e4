"""Batches of training samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.primitives.distillation.class_labels import as_classes
from autocomp.primitives.tracing.platform import load_mindspore

if TYPE_CHECKING:
    from autocomp.evaluators.fine_tuning import FineTuning


class Shuffled:
    """Batches of arrays, (n, ...) each, in another order in every epoch."""

    def __init__(self, arrays: Sequence[np.ndarray], batch: int, seed: int) -> None:
        self.arrays, self.batch = arrays, min(batch, len(arrays[0]))
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.arrays[0]) // self.batch

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        order = self.rng.permutation(len(self.arrays[0]))[: len(self) * self.batch].reshape(-1, self.batch)
        for rows in order:
            yield tuple(array[rows] for array in self.arrays)

    def dataset(self) -> Any:
        """The batches as a MindSpore dataset."""
        load_mindspore()
        import mindspore.dataset as ds

        columns = [f"column_{i}" for i in range(len(self.arrays))]
        return ds.GeneratorDataset(self, columns, shuffle=False, python_multiprocessing=False)


def first_batch(train: Any) -> tuple[np.ndarray, np.ndarray | None]:
    first = next(train.create_tuple_iterator(num_epochs=1, output_numpy=True))
    if len(first) > 2:
        raise ValueError(
            f"a dataset to train on must have one column of inputs and one of labels, but has {len(first)}"
        )
    return first[0], first[1] if len(first) > 1 else None


def as_trained(train: Any, dtype: np.dtype[Any], labelled: bool) -> Any:
    """The batches with inputs of this type and, if they are used, labels (n,) int32."""
    inputs, *labels = train.get_col_names()
    own = deepcopy(train)  # a pipeline has only one consumer, and other plans train on it, too
    cast = own.project([inputs, *labels[: int(labelled)]]).map(lambda x: x.astype(dtype, copy=False), [inputs])
    return cast.map(lambda y: as_classes(y, "train").astype(np.int32), labels) if labelled else cast


def used_samples(x: np.ndarray, y: np.ndarray | None, settings: FineTuning) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples of a training that ends within its first epoch, drawn at random: the others need no teacher."""
    count = (settings.steps or len(x)) * settings.batch
    if count >= len(x):
        return x, y
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(x))[:count])
    return x[rows], None if y is None else y[rows]


def shortened(dataset: Any, settings: FineTuning) -> tuple[Any, int]:
    """The dataset and the number of epochs over it that make the settings' number of steps."""
    size = dataset.get_dataset_size()
    if settings.steps is None:
        return dataset, settings.epochs
    if settings.steps < size:
        return dataset.take(settings.steps), 1
    return dataset, round(settings.steps / size)
