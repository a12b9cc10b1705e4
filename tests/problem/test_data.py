from __future__ import annotations

import logging
import random
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.problem.data import CALIBRATION_SAMPLES, Data, Reading, Samples, as_floats

IMAGES = np.arange(5 * 3 * 2, dtype=np.float32).reshape(5, 3, 2)
CLASSES = np.array([0, 1, 2, 1, 0])


def test_arrays_with_and_without_labels() -> None:
    data = Data(calibrate=IMAGES, evaluate=(IMAGES, CLASSES))
    assert data.calibration is not None and data.evaluation is not None
    assert data.calibration.y is None
    assert data.evaluation.shapes == ((3, 2),)
    assert len(data.evaluation) == 5
    assert data.evaluation.y is not None
    np.testing.assert_array_equal(data.evaluation.y, CLASSES)


def test_several_inputs() -> None:
    tokens = np.arange(10, dtype=np.int32).reshape(5, 2)
    samples = Samples.read(((IMAGES, tokens), CLASSES))
    assert samples.shapes == ((3, 2), (2,))
    assert samples.x[1].dtype == np.int32
    assert Samples.read(((IMAGES, tokens), None)).y is None


@pytest.mark.parametrize("labels", [CLASSES.astype(np.float32), CLASSES[:, None], np.eye(3)[CLASSES], list(CLASSES)])
def test_labels_become_classes(labels: Any) -> None:
    y = Samples.read((IMAGES, labels)).y
    assert y is not None and y.dtype == np.int64
    np.testing.assert_array_equal(y, CLASSES)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_images_become_float32_with_the_same_values(dtype: Any) -> None:
    (x,) = as_floats(Samples.read(IMAGES.astype(dtype)).x)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, IMAGES)


def test_roles_that_are_not_given() -> None:
    many = np.zeros((3 * CALIBRATION_SAMPLES, 1), np.float32)
    many[:, 0] = np.arange(len(many))
    data = Data(train=(many, np.zeros(len(many), int)), evaluate=many[:10])
    assert data.calibration is not None
    assert len(data.calibration) == CALIBRATION_SAMPLES
    assert (data.calibration.x[0][0, 0], data.calibration.x[0][-1, 0]) == (0, len(many) - 1)
    assert data.notes == ()
    only = Data(train=many)
    assert only.evaluation is only.training
    assert "the train samples are used" in only.notes[0]
    assert Data(evaluate=many[:10]).training is None
    assert not Data() and Data().evaluation is None and Data().calibration is None


def test_shortened_it_trains_on_all() -> None:
    many = np.arange(3 * CALIBRATION_SAMPLES, dtype=np.float32)[:, None]
    short = Data(train=many, limit=7).shortened(5)
    assert short.evaluation is not None and short.calibration is not None and short.training is not None
    assert len(short.evaluation) == len(short.calibration) == 5 and len(short.training) == len(many)
    assert short.limit == 7 and "the train samples are used" in short.notes[0]
    assert Data().shortened(5).evaluation is None


def test_coerce() -> None:
    data = Data.coerce((IMAGES, CLASSES))
    assert data.evaluate is not None and data.calibration is data.evaluation
    assert Data.coerce(data) is data
    assert not Data.coerce(None)
    assert Data.coerce({"train": IMAGES}).train is IMAGES
    assert Data.coerce({"train": IMAGES, "limit": 3}).limit == 3
    with pytest.raises(
        ValueError,
        match="roles calibrate, evaluate, train, and limit, metric, lower_is_better, key, classes, transform, but got",
    ):
        Data.coerce({"test": IMAGES})


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ((IMAGES, CLASSES[:4]), ValueError, "a label for each sample, but got 5 samples, 4 labels"),
        (((IMAGES, IMAGES[:3]), CLASSES), ValueError, "as many samples each, but got 5, 3"),
        (IMAGES[:0], ValueError, "evaluate must have at least one sample"),
        (((), None), ValueError, "at least one input"),
        (np.float32(3), ValueError, "a first axis that counts the samples"),
        (
            np.where(IMAGES > 27, np.nan, IMAGES),
            ValueError,
            r"input 0 of evaluate must be finite, but has NaN at \[4, 2, 0\], 2 NaN or",
        ),
        ("images", ValueError, "or the path of a .npy file or of a folder of images, but there is no file 'images'"),
        ([[1], [2, 3], [4]], ValueError, "as many samples each, but got 1, 2, 1"),
        ((IMAGES, CLASSES + 0.5), ValueError, "numbers from 0, but got 0.5; for other labels give Data a metric"),
        ((IMAGES, CLASSES - 1), ValueError, "whole numbers from 0, but got -1"),
        ((IMAGES, np.full((5, 3), 0.3)), ValueError, r"classes \(n,\) or one-hot rows, but got shape \(5, 3\)"),
        ((IMAGES, [None] * 5), TypeError, "the labels of evaluate must be an array of numbers"),
    ],
)
def test_bad_data_gets_one_sentence(value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Data(evaluate=value)
    assert "\n" not in str(caught.value)


def test_roles_must_fit_each_other() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 2\) for evaluate and \(3, 2\) for calibrate"):
        Data(calibrate=IMAGES, evaluate=np.zeros((5, 4, 2)))
    with pytest.raises(ValueError, match="limit must be at least 1 sample"):
        Data(limit=0)


def test_take_and_batches() -> None:
    samples = Samples.read((IMAGES, CLASSES))
    taken = samples.take(3)
    np.testing.assert_array_equal(taken.x[0], IMAGES[[0, 2, 4]])
    assert taken.y is not None
    np.testing.assert_array_equal(taken.y, CLASSES[[0, 2, 4]])
    assert samples.take(9) is samples
    assert [len(x[0]) for x, _ in samples.batches(2)] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate([y for _, y in samples.batches(2) if y is not None]), CLASSES)


def test_fingerprint_follows_the_values() -> None:
    samples = Samples.read((IMAGES, CLASSES))
    assert samples.fingerprint == Samples.read((IMAGES.copy(order="F"), list(CLASSES))).fingerprint
    changed = IMAGES.copy()
    changed[4, 2, 1] += 1
    others = [
        Samples.read((changed, CLASSES)),
        Samples.read((IMAGES, np.roll(CLASSES, 1))),
        Samples.read(IMAGES),
        Samples.read((IMAGES.reshape(5, 6), CLASSES)),
        Samples.read(((IMAGES, CLASSES), None)),
    ]
    assert len({samples.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


@pytest.fixture(scope="module")
def mds() -> Any:
    return import_module("mindspore.dataset")


class TestDatasets:
    def test_batched_or_not_gives_the_same(self, mds: Any) -> None:
        def make() -> Any:
            return mds.NumpySlicesDataset((IMAGES, CLASSES), column_names=["x", "y"], shuffle=False)

        expected = Samples.read((IMAGES, CLASSES)).fingerprint
        for dataset in (make(), make().batch(2), make().batch(1), make().batch(2).map(lambda x: x, ["x"])):
            assert Samples.read(dataset).fingerprint == expected

    def test_one_that_shuffles_gives_the_same_again(self, mds: Any) -> None:
        many, seed, state = np.arange(64), mds.config.get_seed(), random.getstate()
        by_itself = mds.NumpySlicesDataset((many, many), column_names=["x", "y"])  # as MindSpore's do unless told
        told = mds.NumpySlicesDataset((many, many), column_names=["x", "y"], shuffle=False).shuffle(64)
        for dataset in (by_itself, told):
            first, again = (Samples.read(dataset) for _ in range(2))
            assert again.fingerprint == first.fingerprint
            assert first.y is not None and sorted(first.y) == list(many) != list(first.y)
        assert mds.config.get_seed() == seed and random.getstate() == state

    def test_limit_and_missing_labels(self, mds: Any, caplog: pytest.LogCaptureFixture) -> None:
        dataset = mds.NumpySlicesDataset((IMAGES,), column_names=["x"], shuffle=False).batch(2).repeat()
        with caplog.at_level(logging.WARNING, "autocomp"):
            samples = Samples.read(dataset, "train", Reading(limit=3))
        np.testing.assert_array_equal(samples.x[0], IMAGES[:3])
        assert samples.y is None
        assert "of the train data the first 3 samples are used" in caplog.text

    def test_is_read_when_first_used(self, mds: Any) -> None:
        wrong = mds.NumpySlicesDataset((np.zeros((5, 7), np.float32),), column_names=["x"], shuffle=False)
        data = Data(calibrate=IMAGES, train=wrong)
        with pytest.raises(ValueError, match=r"got \(7,\) for train and \(3, 2\) for calibrate"):
            _ = data.training

    def test_rows_of_different_shapes(self, mds: Any) -> None:
        def rows() -> Any:
            yield (np.zeros((2, 2), np.float32),)
            yield (np.zeros((3, 2), np.float32),)

        dataset = mds.GeneratorDataset(rows, ["x"], shuffle=False)
        with pytest.raises(ValueError, match=r"^the samples of input 0 of train must all have one shape, but got \(2,"):
            Samples.read(dataset, "train")


def test_importing_it_does_not_load_mindspore() -> None:
    code = "import sys, autocomp.problem.data; assert 'mindspore' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


BROKEN = IMAGES.astype(np.float32)
BROKEN[3, 1, 0] = np.inf


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"evaluate": BROKEN}, r"^input 0 of evaluate must be finite, but has infinity at \[3, 1, 0\]$"),
        (
            {"evaluate": ((IMAGES, BROKEN), CLASSES)},
            r"^input 1 of evaluate must be finite, but has infinity at \[3, 1, 0",
        ),
        ({"train": (-BROKEN, CLASSES)}, r"^input 0 of train must be finite, but has infinity at \[3, 1, 0\]$"),
        (
            {"calibrate": [*IMAGES[:2], np.full_like(IMAGES[0], np.nan)]},
            r"^input 2 of calibrate must be finite, .*NaN at",
        ),
        ({"evaluate": IMAGES * 1e300}, r"^input 0 of evaluate must fit into float32, but has 2\.9e\+301$"),
        (
            {"evaluate": (IMAGES, np.array([0, 1, np.nan, 1, 0]))},
            r"^the labels of evaluate must be finite, but has NaN at \[2\]$",
        ),
    ],
)
def test_what_is_not_finite_is_named_with_its_first_place(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Data(**given)


def test_what_is_not_finite_in_a_dataset_and_on_disk(tmp_path: Path) -> None:
    from mindspore import dataset

    slices = dataset.NumpySlicesDataset((BROKEN, CLASSES), ["x", "y"], shuffle=False).batch(2)
    with pytest.raises(ValueError, match=r"^input 0 of evaluate must be finite, but has infinity at \[3, 1, 0\]$"):
        _ = Data(evaluate=slices).evaluation
    np.save(tmp_path / "x.npy", BROKEN)
    with pytest.raises(ValueError, match=r"^input 0 of evaluate must be finite, but has infinity at \[3, 1, 0\]$"):
        Data(evaluate=np.load(tmp_path / "x.npy", mmap_mode="r"))


class TestLabels:
    """One label for each sample, or several; the metric follows."""

    MULTI = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])

    @pytest.mark.parametrize("labels", [MULTI, MULTI.astype(bool), MULTI.astype(np.float32), MULTI.tolist()])
    def test_several_labels_take_the_mean_average_precision(self, labels: Any) -> None:
        data = Data(evaluate=(IMAGES, labels))
        assert data.measure is not None and data.measure.name == "mean_average_precision"
        assert data.evaluation is not None and data.evaluation.y is not None
        np.testing.assert_array_equal(data.evaluation.y, self.MULTI)
        assert data.measure((self.MULTI + 0.5,), data.evaluation.y) == 1

    @pytest.mark.parametrize(
        "labels", [np.eye(5), np.eye(5, dtype=bool), np.eye(5)[CLASSES], CLASSES, CLASSES[:, None]]
    )
    def test_one_label_for_each_takes_the_accuracy(self, labels: Any) -> None:
        data = Data(evaluate=(IMAGES, labels))
        assert data.measure is None and data.evaluation is not None and data.evaluation.y is not None
        assert data.evaluation.y.shape == (5,)

    def test_the_users_metric_stands(self) -> None:
        def exact(outputs: np.ndarray, labels: np.ndarray) -> float:
            return float(np.mean((outputs > 0) == labels))

        data = Data(evaluate=(IMAGES, self.MULTI), metric=exact)
        assert data.measure is not None and data.measure.name == "exact"

    @pytest.mark.parametrize("metric", ["agreement", "fidelity"])
    def test_how_plans_are_compared_with_the_float_network(self, metric: str) -> None:
        data = Data(evaluate=IMAGES, metric=metric)
        assert data.measure is None and data.compared_by == metric and data.evaluation is not None
        with pytest.raises(
            ValueError, match=f"metric='{metric}' compares plans with the float network, but evaluate has"
        ):
            _ = Data(evaluate=(IMAGES, CLASSES), metric=metric).evaluation
        with pytest.raises(ValueError, match="leave lower_is_better out"):
            Data(evaluate=IMAGES, metric=metric, lower_is_better=True)
