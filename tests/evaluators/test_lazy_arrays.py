from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import lazy_arrays
from autocomp.evaluators.lazy_arrays import FileRows, LazyArray, add_to, as_type, at_rows, is_lazy, on_disk, parts_of

ROWS = np.arange(40 * 3 * 2, dtype=np.uint8).reshape(40, 3, 2)


@pytest.fixture(autouse=True)
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_arrays, "SMALL_BYTES", 8)
    monkeypatch.setattr(lazy_arrays, "PART_BYTES", 50)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", ROWS)
    return tmp_path / "x.npy"


@pytest.mark.parametrize(
    "rows", [slice(3, 9), slice(None), slice(30, 99), slice(None, None, 7), [5, 4, 5, -1, 0], 7, []]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rows_are_those_of_the_array(file: Path, rows: Any, dtype: Any) -> None:
    lazy = as_type(on_disk(np.load(file, mmap_mode="r")), dtype)
    assert is_lazy(lazy) and lazy.dtype == dtype
    chosen = np.array(rows, int) if isinstance(rows, list) else rows
    np.testing.assert_array_equal(lazy[chosen], ROWS[chosen].astype(dtype))
    assert lazy[chosen].dtype == dtype


def test_it_looks_like_its_array(file: Path) -> None:
    lazy = on_disk(np.load(file, mmap_mode="r")).astype(np.float32)
    array = ROWS.astype(np.float32)
    for name in ("shape", "dtype", "ndim", "size", "nbytes"):
        assert getattr(lazy, name) == getattr(array, name)
    assert len(lazy) == 40
    np.testing.assert_array_equal(np.asarray(lazy), array)


def test_views_of_a_map_find_their_place(file: Path) -> None:
    mapped = np.load(file, mmap_mode="r")
    np.testing.assert_array_equal(on_disk(mapped[5:20])[2:4], ROWS[7:9])
    np.testing.assert_array_equal(on_disk(np.asarray(mapped)[5:])[2:4], ROWS[7:9])
    every_other = on_disk(mapped[::2])  # is no one block of the file: it stays a map
    assert is_lazy(every_other)
    np.testing.assert_array_equal(every_other[1:3], ROWS[[2, 4]])


def test_other_rows_are_not_read(file: Path) -> None:
    lazy = at_rows(on_disk(np.load(file, mmap_mode="r")), np.array([9, 8, 7, 30]))
    again = at_rows(lazy, np.array([3, 0]))
    assert is_lazy(again) and again.shape == (2, 3, 2)
    np.testing.assert_array_equal(again[:], ROWS[[30, 9]])
    np.testing.assert_array_equal(at_rows(ROWS, np.array([3, 0])), ROWS[[3, 0]])


def test_what_a_user_changed_in_memory_alone_counts(file: Path) -> None:
    mapped = np.load(file, mmap_mode="c")
    mapped[4] = 77
    assert (on_disk(mapped)[4] == 77).all()
    written = np.load(file, mmap_mode="r+")
    written[5] = 78
    assert (on_disk(written)[5] == 78).all()


def test_a_large_array_in_memory_is_converted_row_by_row() -> None:
    lazy = as_type(ROWS, np.float32)
    assert is_lazy(lazy) and lazy[:2].dtype == np.float32
    assert as_type(ROWS, np.uint8) is ROWS


def test_small_ones_are_held(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_arrays, "SMALL_BYTES", 10**6)
    found = on_disk(np.load(file, mmap_mode="r"))
    assert type(found) is np.ndarray and type(as_type(ROWS, np.float32)) is np.ndarray


def test_parts_and_hash(file: Path) -> None:
    lazy = on_disk(np.load(file, mmap_mode="r"))
    parts = list(parts_of(lazy))
    assert len(parts) == 5 and max(map(len, parts)) == 8
    np.testing.assert_array_equal(np.concatenate(parts), ROWS)
    digests = [hashlib.blake2b() for _ in range(4)]
    arrays: list[np.ndarray] = [ROWS, lazy, lazy.astype(np.float32), at_rows(lazy, np.arange(39))]
    for digest, array in zip(digests, arrays, strict=True):
        add_to(digest, array)
    same, on_the_disk, converted, fewer = (digest.hexdigest() for digest in digests)
    assert same == on_the_disk == converted != fewer


def test_it_travels_by_its_path(file: Path) -> None:
    lazy = on_disk(np.load(file, mmap_mode="r")).astype(np.float32)
    sent = pickle.dumps(lazy)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent)[3:5], ROWS[3:5])
    file.unlink()
    with pytest.raises(EvaluationError, match=r"^samples must stay where they were .*x\.npy cannot be read"):
        pickle.loads(sent)[0]


def test_a_file_that_became_shorter(file: Path) -> None:
    lazy = on_disk(np.load(file, mmap_mode="r"))
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(EvaluationError, match="it is shorter than it was"):
        lazy[30:40]


def test_a_temporary_file_goes_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(ROWS.tobytes())
    array = LazyArray(FileRows(path, 0, ROWS.dtype, ROWS.shape).deleted_when_unused())
    copied = pickle.loads(pickle.dumps(array))
    del copied
    np.testing.assert_array_equal(array[1], ROWS[1])
    del array
    assert not path.exists()
