"""Samples that are read in parts: on disk, or in memory in a smaller type than the network takes."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from autocomp.errors import EvaluationError

from .user_metric import label_bytes

PART_BYTES = 16_000_000  # that are read at once where all samples are looked through
SMALL_BYTES = 64_000_000  # arrays of so many bytes are simply held in memory


@dataclass(frozen=True, eq=False)
class FileRows:
    """Samples in a file, one behind the other. Rows are read, not mapped: mapped pages would stay in the process.

    It is pickled by the path, so that workers read the same file.
    """

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """A slice or positions along the first axis, negative ones from the end."""
        wanted = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else np.arange(self.shape[0])[rows]
        found = np.empty((wanted.size, *self.shape[1:]), self.dtype)
        try:
            with open(self.path, "rb", buffering=0) as file:
                self._fill(file, found, wanted.reshape(-1))
        except OSError as error:
            raise EvaluationError(
                f"samples must stay where they were while a search runs, but {self.path} cannot be read: {error}; "
                "workers on other machines need a file system that all share (TMPDIR says where streams are kept)"
            ) from error
        return found.reshape(*wanted.shape, *self.shape[1:])

    def _fill(self, file: Any, found: np.ndarray, rows: np.ndarray) -> None:
        """Rows that follow one another are read at once."""
        bytes_of_row = math.prod(self.shape[1:]) * self.dtype.itemsize
        stored = memoryview(found.reshape(-1).view(np.uint8).data)
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, last in zip((0, *edges), (*edges, len(rows)), strict=True):
            part = stored[int(first) * bytes_of_row : int(last) * bytes_of_row]
            file.seek(self.offset + int(rows[first]) * bytes_of_row if len(rows) else 0)
            while part:
                count = file.readinto(part)
                if not count:
                    raise OSError("it is shorter than it was")
                part = part[count:]

    def deleted_when_unused(self) -> FileRows:
        """The same; the file goes with this object, in this process alone."""
        weakref.finalize(self, _delete, self.path, os.getpid())
        return self


def _delete(path: Path, process: int) -> None:
    if os.getpid() == process:
        path.unlink(missing_ok=True)


class LazyArray:
    """Samples (n, ...) that have an array's shape, type, length and rows, and are read when rows are asked for.

    source: where they are: a file, or an array. dtype: of the rows that it gives. chosen: positions in the source, (n,)
    int; None for all.
    """

    def __init__(self, source: FileRows | np.ndarray, dtype: Any = None, chosen: np.ndarray | None = None) -> None:
        self.source, self.chosen = source, chosen
        self.dtype = np.dtype(source.dtype if dtype is None else dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.source.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.source.shape[0] if self.chosen is None else len(self.chosen)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """In memory: a slice, positions or one position along the first axis."""
        found = self.source[rows if self.chosen is None else self.chosen[rows]]
        return found.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def astype(self, dtype: Any, copy: bool = False) -> np.ndarray:
        """Not read, in another type."""
        return like_array(LazyArray(self.source, dtype, self.chosen))

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Not read, other rows."""
        return like_array(LazyArray(self.source, self.dtype, rows if self.chosen is None else self.chosen[rows]))


def like_array(lazy: LazyArray) -> np.ndarray:
    """For the type checker: it is used as an array whose rows are taken."""
    return cast("np.ndarray", lazy)


def is_lazy(array: Any) -> bool:
    return isinstance(array, LazyArray)


def at_rows(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """These rows; not read where the array is lazy."""
    return array.at(rows) if isinstance(array, LazyArray) else array[rows]


def as_type(array: np.ndarray, dtype: Any) -> np.ndarray:
    """In another type: not yet where it is lazy, or where the copy would be large."""
    if array.size * np.dtype(dtype).itemsize > SMALL_BYTES and array.dtype != dtype and not is_lazy(array):
        return like_array(LazyArray(array, dtype))
    return array.astype(dtype, copy=False)


def parts_of(array: np.ndarray) -> Iterator[np.ndarray]:
    """The array in slices, all of it at once where it is in memory."""
    if not isinstance(array, LazyArray):
        yield array
        return
    size = max(1, PART_BYTES // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), size):
        yield array[start : start + size]


def add_to(digest: Any, array: np.ndarray) -> None:
    """Update a hash with the array's shape, type and values, as they are stored; equal numbers on disk and in memory
    count as the same."""
    stored = array if not isinstance(array, LazyArray) else like_array(LazyArray(array.source, None, array.chosen))
    digest.update(f"{stored.dtype.str}{stored.shape};".encode())
    for part in parts_of(stored):
        digest.update(label_bytes(part))


def on_disk(array: np.ndarray) -> np.ndarray:
    """A view of a file as a lazy array, in memory where it is small; anything else as it is."""
    mapped = _mapped(array)
    if mapped is None:
        return array
    if array.nbytes <= SMALL_BYTES:
        return np.array(array)
    rows = _in_file(array, mapped)
    return like_array(LazyArray(array if rows is None else rows))


def _mapped(array: np.ndarray) -> np.memmap[Any, Any] | None:
    """The map of a file that the array is a view of, through whatever number of views."""
    base: Any = array
    found = None
    while isinstance(base, np.ndarray):
        found = base if isinstance(base, np.memmap) else found
        base = base.base
    return found


def _in_file(array: np.ndarray, mapped: np.memmap[Any, Any]) -> FileRows | None:
    """Where the array lies in its file; None where it is not one block, or the file is gone or was written to in
    memory alone."""
    path = Path(mapped.filename) if mapped.filename else None
    if path is None or not path.is_file() or not array.flags.c_contiguous or mapped.mode == "c":
        return None
    if mapped.mode in ("r+", "w+"):
        mapped.flush()
    own, first = (int(each.__array_interface__["data"][0]) for each in (array, mapped))
    return FileRows(path, int(mapped.offset) + own - first, array.dtype, array.shape)
