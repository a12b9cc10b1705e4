"""Samples that come one after the other, and dictionaries of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators.lazy_arrays import FileRows, LazyArray, is_lazy
from autocomp.problem import streams
from autocomp.problem.data import Data, Samples
from autocomp.problem.streams import is_stream

X = np.arange(12 * 3 * 2, dtype=np.float32).reshape(12, 3, 2)
Y = np.arange(12) % 4
NAMED = {"image": X, "label": Y}


def batches(size: int = 5) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for i in range(0, 12, size):
        yield X[i : i + size], Y[i : i + size]


def check(samples: Samples | None, labelled: bool = True) -> None:
    assert samples is not None
    np.testing.assert_array_equal(np.asarray(samples.x[0]), X)
    assert (samples.y is not None) == labelled
    if labelled:
        np.testing.assert_array_equal(np.asarray(samples.y), Y)


class Loader:
    """Iterated again and again, as PyTorch's are; it gives lists."""

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return (list(pair) for pair in batches())


@pytest.mark.parametrize(
    "value",
    [
        batches(),
        Loader(),
        map(tuple, zip(X, Y, strict=True)),
        ((x, np.int64(y)) for x, y in zip(X, Y, strict=True)),
        batches(1),
    ],
    ids=["generator", "loader", "samples", "scalars", "batches of one"],
)
def test_batches_and_samples(value: Any) -> None:
    check(Data(evaluate=value).evaluation)


def test_without_labels_each_item_is_a_batch() -> None:
    check(Data(evaluate=(x for x, _ in batches())).evaluation, labelled=False)
    check(Data(evaluate=([x] for x, _ in batches())).evaluation, labelled=False)


def test_several_inputs() -> None:
    items = (((x, x[:, 0]), y) for x, y in batches())
    found = Data(evaluate=items).evaluation
    check(found)
    assert found is not None and found.shapes == ((3, 2), (2,))
    assert Samples.read((x, x[:, 0], y) for x, y in batches()).shapes == ((3, 2), (2,))


@pytest.mark.parametrize(
    "value",
    [
        NAMED,
        [{"image": x, "label": y, "id": "a"} for x, y in zip(X, Y, strict=True)],
        ({"image": x, "label": y} for x, y in batches()),
    ],
    ids=["arrays", "samples", "batches"],
)
def test_dictionaries(value: Any) -> None:
    check(Data(evaluate=value, key=("image", "label")).evaluation)


def test_keys_of_inputs_alone_and_of_several() -> None:
    check(Data(evaluate=NAMED, key="image").evaluation, labelled=False)
    several = Data(evaluate=NAMED, key=(("image", "label"), None)).evaluation
    assert several is not None and several.shapes == ((3, 2), ()) and several.y is None
    both = Data(evaluate=NAMED, key=(("image", "image"), "label")).evaluation
    check(both)
    assert both is not None and len(both.x) == 2


def test_columns_of_a_dataset_are_chosen_by_their_names() -> None:
    from mindspore import dataset

    columns = dataset.NumpySlicesDataset((Y, X, Y + 9), ["label", "image", "id"], shuffle=False)
    check(Data(evaluate=columns.batch(5), key=("image", "label")).evaluation)


def test_it_is_read_once_when_it_is_used() -> None:
    read = []

    def items() -> Iterator[Any]:
        for pair in batches():
            read.append(pair)
            yield pair

    data = Data(evaluate=items())
    assert not read
    check(data.evaluation)
    check(data.evaluation)
    assert len(read) == 3


def test_many_are_kept_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SMALL_BYTES", 200)
    found = Data(evaluate=batches()).evaluation
    check(found)
    assert found is not None and is_lazy(found.x[0]) and not is_lazy(found.y)
    lazy: Any = found.x[0]
    assert isinstance(lazy, LazyArray)
    assert isinstance(lazy.source, FileRows) and lazy.source.path.stat().st_size == X.nbytes
    path: Path = lazy.source.path
    del lazy, found
    assert not path.exists()


def test_a_stream_that_fails_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def items() -> Iterator[Any]:
        yield from batches()
        raise RuntimeError("no more disk")

    monkeypatch.setattr(streams, "SMALL_BYTES", 200)
    monkeypatch.setattr(streams.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="no more disk"):
        _ = Data(evaluate=items()).evaluation
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("limit", "count", "said"), [(5, 5, True), (7, 7, True), (12, 12, False), (20, 12, False)])
def test_the_limit(limit: int, count: int, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "autocomp"):
        found = Data(evaluate=batches(), limit=limit).evaluation
    assert found is not None and len(found) == count == len(found.y if found.y is not None else ())
    assert (f"of the evaluate data the first {count} samples are used" in caplog.text) == said


def test_the_limit_of_bytes_ends_an_endless_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIMIT_BYTES", 600)
    found = Data(evaluate=(pair for _ in iter(int, 1) for pair in batches())).evaluation
    assert found is not None and len(found) == 29


def odd(*items: Any) -> dict[str, Any]:
    return {"evaluate": iter(items)}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (odd(), "^evaluate must have at least one sample, but it gave none$"),
        (
            odd((X, Y), (X[:, :2], Y)),
            r"^the samples of input 0 of evaluate must all have one shape, but got \(3, 2\) and",
        ),
        (
            odd((X, Y), (X.astype(int), Y)),
            "^the samples of input 0 of evaluate must all have one type, but got float32",
        ),
        (
            odd((X, Y), X),
            "^evaluate must give as many arrays each time, but gave 1 inputs without labels behind 12 sam",
        ),
        (
            odd((X, Y[:3])),
            r"^evaluate must give batches, arrays \(n, \.\.\.\) with as many samples each, or one sample",
        ),
        (odd(3.0), r"^evaluate must give batches, arrays \(n, \.\.\.\)"),
        (odd("cat"), "^evaluate must give arrays of numbers, but gave str"),
        (odd((X, Y), (X * np.nan, Y)), r"^input 0 of evaluate must be finite, but has NaN at \[12, 0, 0\]"),
        (
            odd(NAMED),
            r"^key must say which entries of evaluate .*'label'\), but got none; its entries are image, label$",
        ),
        ({"evaluate": NAMED}, "^key must say which entries of evaluate are inputs and labels"),
        (odd(NAMED) | {"key": "x"}, "^evaluate must have an entry 'x', which key names, but has image, label$"),
        (odd(NAMED) | {"key": ("image", "y")}, "^evaluate must have an entry 'y', which key names"),
        ({"evaluate": NAMED, "key": (("image", "mask"), None)}, "^evaluate must have an entry 'mask'"),
    ],
)
def test_what_is_wrong_gets_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        _ = Data(**given).evaluation
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "streams"),
    [
        (X, False), ([X, Y], False), ((X, Y), False), (X.tolist(), False), ("x.npy", False), (NAMED, False), (3, False),
        ([], False), ([NAMED], True), (batches(), True), (Loader(), True), (range(3), True),
    ],
)  # fmt: skip
def test_what_is_iterated(value: Any, streams: bool) -> None:
    assert is_stream(value) == streams
