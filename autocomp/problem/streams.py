"""Samples that come one after the other: datasets, generators, loaders. They are read once, and kept on disk where they
are many."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from autocomp.evaluators.lazy_arrays import SMALL_BYTES, FileRows, LazyArray, like_array
from autocomp.primitives.distillation.class_labels import as_array
from autocomp.primitives.tracing.platform import is_dataset, same_order

log = logging.getLogger("autocomp")

LIMIT_BYTES = 2_000_000_000
Columns = tuple[tuple[Any, ...], Any]  # the inputs, and the labels or None
Key = str | tuple[str | tuple[str, ...], str | None] | None


@dataclass(frozen=True)
class Source:
    """What is read: ``value`` of the data's role, at most so many samples.

    key: entries of dictionaries, or columns of datasets, that are inputs and labels: ``"image"``, ``("image",
    "label")``, ``(("ids", "mask"), "label")``, ``(("ids", "mask"), None)``. None: what comes is x, or (x, y).
    """

    value: Any
    role: str
    limit: int
    key: Key = None


def is_stream(value: Any) -> bool:
    """Whether samples are iterated: anything but arrays, what becomes an array, texts, mappings, lists and tuples; and
    lists of dictionaries."""
    if is_dataset(value):
        return True
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], Mapping)
    known = (np.ndarray, str, bytes, Mapping, os.PathLike)
    as_one = hasattr(value, "__array__") or hasattr(value, "asnumpy")
    return hasattr(value, "__iter__") and not isinstance(value, known) and not as_one


def picked(entries: Mapping[Any, Any], source: Source) -> Columns:
    """The inputs and the labels of a dictionary."""
    if source.key is None:
        raise ValueError(
            f"key must say which entries of {source.role} are inputs and labels, as key=('image', 'label'), but got "
            f"none; its entries are {_names(entries)}"
        )
    x, y = source.key if isinstance(source.key, tuple) else (source.key, None)
    wanted = (x,) if isinstance(x, str) else x
    for name in (*wanted, *(() if y is None else (y,))):
        if name not in entries:
            raise ValueError(f"{source.role} must have an entry {name!r}, which key names, but has {_names(entries)}")
    return tuple(entries[name] for name in wanted), None if y is None else entries[y]


def _names(entries: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, entries)) or "none"


def read_stream(source: Source) -> Columns:
    """Arrays of all samples, (n, ...); inputs on disk where they are many."""
    ordered = same_order() if is_dataset(source.value) else nullcontext()
    with ordered, closing(_Collected(source)) as collected:
        for inputs, labels in _items(source):
            if collected.full:
                collected.cut = True
                break
            collected.add(inputs, labels)
        return collected.columns()


class _Collected:
    """What was read so far of all columns."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.inputs: list[StreamColumn] = []
        self.labels: StreamColumn | None = None
        self.cut = False  # whether there are more samples than are used

    @property
    def count(self) -> int:
        return self.inputs[0].count if self.inputs else 0

    @property
    def full(self) -> bool:
        return self.count >= self.source.limit or sum(column.bytes for column in self.inputs) >= LIMIT_BYTES

    def add(self, inputs: tuple[np.ndarray, ...], labels: np.ndarray | None) -> None:
        if not self.inputs:
            self.inputs = [StreamColumn(f"input {i} of {self.source.role}") for i in range(len(inputs))]
            self.labels = None if labels is None else StreamColumn(f"the labels of {self.source.role}", held=True)
        if len(inputs) != len(self.inputs) or (labels is None) != (self.labels is None):
            raise ValueError(
                f"{self.source.role} must give as many arrays each time, but gave {len(inputs)} inputs "
                f"{'without' if labels is None else 'with'} labels behind {self.count} samples"
            )
        left = self.source.limit - self.count
        self.cut = self.cut or len(inputs[0]) > left
        for column, array in zip(self.inputs, inputs, strict=True):
            column.add(array[:left])
        if self.labels is not None and labels is not None:
            self.labels.add(labels[:left])

    def columns(self) -> Columns:
        if not self.inputs:
            raise ValueError(f"{self.source.role} must have at least one sample, but it gave none")
        if self.cut:
            log.warning("of the %s data the first %s samples are used", self.source.role, f"{self.count:,}")
        return tuple(column.array() for column in self.inputs), None if self.labels is None else self.labels.array()

    def close(self) -> None:
        for column in self.inputs:
            column.close()


class StreamColumn:
    """One input, or the labels, of all samples. Of more than 64 MB all goes to a temporary file.

    held: it stays in memory.
    """

    def __init__(self, name: str, held: bool = False) -> None:
        self.name, self.held = name, held
        self.parts: list[np.ndarray] = []
        self.file: BinaryIO | None = None
        self.path = Path()
        self.bytes = self.count = 0

    def add(self, part: np.ndarray) -> None:
        """(n, ...)"""
        array = _stored(part)
        if self.count:
            self._check(array)
        else:
            self.dtype, self.shape = array.dtype, array.shape[1:]
        self.count += len(array)
        self.bytes += array.nbytes
        self.parts.append(array)
        if self.file is not None or (self.bytes > SMALL_BYTES and not self.held):
            self._write()

    def _check(self, array: np.ndarray) -> None:
        if array.shape[1:] != self.shape:
            raise ValueError(
                f"the samples of {self.name} must all have one shape, but got {self.shape} and {array.shape[1:]}"
            )
        if array.dtype.kind != self.dtype.kind:
            raise ValueError(
                f"the samples of {self.name} must all have one type, but got {self.dtype} and {array.dtype}"
            )

    def _write(self) -> None:
        if self.file is None:
            number, path = tempfile.mkstemp(".samples", "autocomp-")
            self.file, self.path = os.fdopen(number, "wb"), Path(path)
        for part in self.parts:
            self.file.write(np.ascontiguousarray(part, self.dtype).data)
        self.parts = []

    def array(self) -> np.ndarray:
        if self.file is None:
            return np.concatenate(self.parts)
        self.file.close()
        rows = FileRows(self.path, 0, self.dtype, (self.count, *self.shape)).deleted_when_unused()
        self.file = None
        return like_array(LazyArray(rows))

    def close(self) -> None:
        """Removes what no array was made of."""
        if self.file is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)


def _stored(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _items(source: Source) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
    """Inputs and labels of some samples, each (n, ...)."""
    if is_dataset(source.value):
        yield from _of_dataset(source)
        return
    items: Iterable[Any] = source.value
    for item in items:
        inputs, labels = picked(item, source) if isinstance(item, Mapping) else _columns(item)
        arrays = tuple(_array(x, source) for x in inputs)
        y = None if labels is None else as_array(labels)
        one = y is not None and y.ndim == 0
        yield (tuple(x[None] for x in arrays), y[None]) if one and y is not None else (_batch(arrays, y, source), y)


def _columns(item: Any) -> Columns:
    """x; (x, y) with one input or a tuple of them; or several, the last of which is the labels."""
    if not isinstance(item, (tuple, list)):
        return (item,), None
    if len(item) == 1:
        return (item[0],), None
    *inputs, labels = item
    if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)):
        return tuple(inputs[0]), labels
    return tuple(inputs), labels


def _array(value: Any, source: Source) -> np.ndarray:
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{source.role} must give arrays of numbers, but gave {type(value).__name__}")
    return array


def _batch(arrays: tuple[np.ndarray, ...], labels: np.ndarray | None, source: Source) -> tuple[np.ndarray, ...]:
    shapes = [x.shape for x in (*arrays, *(() if labels is None else (labels,)))]
    if not arrays or not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        said = " and ".join(map(str, shapes)) or "nothing"
        raise ValueError(
            f"{source.role} must give batches, arrays (n, ...) with as many samples each, or one sample with one label "
            f"each time, but gave {said}"
        )
    return arrays


def is_batched(dataset: Any) -> bool:
    """Whether some step of the pipeline batches. ``get_batch_size`` does not tell: it is 1 for a batch of one and for
    no batch."""
    if "Batch" in type(dataset).__name__:
        return True
    return any(is_batched(child) for child in getattr(dataset, "children", ()))


def _of_dataset(source: Source) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
    """With more than one column the last is the labels."""
    batched = is_batched(source.value)
    names = source.value.get_col_names()
    for row in source.value.create_tuple_iterator(num_epochs=1, output_numpy=True):
        arrays = tuple(np.asarray(column) if batched else np.asarray(column)[None] for column in row)
        if source.key is not None:
            yield picked(dict(zip(names, arrays, strict=True)), source)
        elif len(arrays) > 1:
            yield arrays[:-1], arrays[-1]
        else:
            yield arrays, None
