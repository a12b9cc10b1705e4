"""Samples on disk give what the same samples in memory give, and are never held as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import lazy_arrays
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.evaluators.lazy_arrays import FileRows, is_lazy
from autocomp.problem.data import Data
from autocomp.search_spaces import Plan
from tests import searching

COUNT = 300


def bytes_and_classes() -> tuple[np.ndarray, np.ndarray]:
    """8-bit images."""
    x, y = searching.samples()
    return np.clip(40 * x + 128, 0, 255).astype(np.uint8), y


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each reading, where all files count as large."""
    monkeypatch.setattr(lazy_arrays, "SMALL_BYTES", 1000)
    monkeypatch.setattr(lazy_arrays, "PART_BYTES", 20_000)
    rows: list[int] = []
    read = FileRows.__getitem__

    def counted(self: FileRows, wanted: Any) -> np.ndarray:
        found = read(self, wanted)
        rows.append(len(found))
        return found

    monkeypatch.setattr(FileRows, "__getitem__", counted)
    return rows


def test_a_search_over_files_finds_the_same_and_reads_parts(largest: list[int], tmp_path: Path) -> None:
    x, y = bytes_and_classes()
    np.save(tmp_path / "x.npy", x)
    settings: dict[str, Any] = {"trials": 6, "sampler": "random", "fine_tune": 0}
    held = searching.search(
        data=Data(evaluate=(x.astype(np.float32), y), calibrate=x[:40].astype(np.float32)), **settings
    )
    assert not largest
    data = Data(evaluate=(tmp_path / "x.npy", y), calibrate=np.load(tmp_path / "x.npy", mmap_mode="r")[:40])
    front = searching.search(data=data, **settings)
    assert searching.observed(front) == searching.observed(held)
    evaluator = front.deployer.evaluator
    assert is_lazy(evaluator.inputs[0]) and len(evaluator.inputs[0]) == COUNT
    assert max(largest) <= 64 and sum(largest) > 6 * COUNT

    before = len(largest)
    train = np.load(tmp_path / "x.npy", mmap_mode="r"), y
    front.deployer.fine_tune(Plan(), train, FineTuning(epochs=1, batch=30))
    assert max(largest[before:]) <= 64 and sum(largest[before:]) >= 2 * COUNT


def test_a_float_file_with_its_fingerprint(largest: list[int], tmp_path: Path) -> None:
    x, y = searching.samples()
    np.save(tmp_path / "x.npy", x)
    found = Data(evaluate=(tmp_path / "x.npy", y)).evaluation
    held = Data(evaluate=(x, y)).evaluation
    assert found is not None and held is not None and is_lazy(found.x[0])
    assert found.fingerprint == held.fingerprint
    assert found.take(50).fingerprint == held.take(50).fingerprint
    assert max(largest) < COUNT
