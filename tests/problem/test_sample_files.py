"""Samples that a path names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autocomp.problem.data import Data

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 4, 3), np.uint8)
CLASSES = np.array([0, 0, 1, 1, 1, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, (image, number) in enumerate(zip(IMAGES, CLASSES, strict=True)):
        place = tmp_path / "images" / ("ant", "bee", "cat")[number]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    (tmp_path / "images" / "readme.txt").write_text("of somebody")
    (tmp_path / "images" / "ant" / "notes.txt").write_text("of somebody")
    return tmp_path / "images"


def halved(image: np.ndarray) -> np.ndarray:
    return (image[::2].transpose(2, 0, 1) / 255).astype(np.float32)


@pytest.mark.parametrize("kind", [Path, str])
def test_arrays_in_files(tmp_path: Path, kind: Any) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", CLASSES)
    x, y = kind(tmp_path / "x.npy"), kind(tmp_path / "y.npy")
    for value, labels in (((x, y), CLASSES), ((x, CLASSES), CLASSES), (x, None), (((x, x), y), CLASSES)):
        found = Data(evaluate=value).evaluation
        assert found is not None and found.x[0].dtype == np.uint8
        np.testing.assert_array_equal(np.asarray(found.x[-1]), IMAGES)
        assert (found.y is None) == (labels is None)
        if labels is not None:
            np.testing.assert_array_equal(np.asarray(found.y), labels)


def test_a_folder_for_each_class(folder: Path) -> None:
    found = Data(evaluate=folder).evaluation
    assert found is not None and found.names == ("ant", "bee", "cat")
    np.testing.assert_array_equal(found.x[0], IMAGES.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(np.asarray(found.y), CLASSES)


def test_a_folder_transformed_and_numbered_as_the_network(folder: Path) -> None:
    found = Data(evaluate=str(folder), transform=halved, classes=["cat", "dog", "bee", "ant"]).evaluation
    assert found is not None and found.x[0].dtype == np.float32
    np.testing.assert_array_equal(found.x[0], np.stack([halved(image) for image in IMAGES]))
    np.testing.assert_array_equal(np.asarray(found.y), np.array([3, 2, 0])[CLASSES])


def fails(image: np.ndarray) -> np.ndarray:
    raise RuntimeError("too dark")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"transform": fails}, r"^transform must take every image, but failed for .*0\.png: too dark$"),
        ({"classes": ["ant", "bee"]}, "^the labels of evaluate must be among classes, 'ant', 'bee', but got 'cat'$"),
    ],
)
def test_what_is_wrong_with_a_folder(folder: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _ = Data(evaluate=folder, **given).evaluation


def test_images_that_do_not_fit_or_cannot_be_read(folder: Path) -> None:
    Image.fromarray(IMAGES[0, :5]).save(folder / "cat" / "zz.png")
    with pytest.raises(
        ValueError, match=r"^the samples of input 0 of evaluate must all have one shape, but got \(3, 8, 4"
    ):
        _ = Data(evaluate=folder).evaluation
    (folder / "cat" / "zz.png").write_text("no image")
    with pytest.raises(ValueError, match=r"^evaluate must have images that can be read, but .*zz\.png cannot"):
        _ = Data(evaluate=folder).evaluation


def test_paths_that_name_no_samples(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^evaluate must be a folder with a folder of images for each class, but .*has none of"
    ):
        _ = Data(evaluate=folder / "ant").evaluation
    (tmp_path / "x.npy").write_text("x")
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    for value, sentence in [
        (tmp_path / "x.npy", r"^input 0 of evaluate must be a whole \.npy file of numbers, but .*x\.npy is not"),
        (tmp_path / "objects.npy", r"^input 0 of evaluate must be a whole \.npy file of numbers"),
        (tmp_path / "y.npy", r"^input 0 of evaluate .* or of a folder of images, but there is no file '.*y\.npy'$"),
        ((IMAGES, tmp_path / "y.npy"), r"^the labels of evaluate .* but there is no file '.*y\.npy'$"),
        (folder / "readme.txt", r"^input 0 of evaluate .*of a folder of images, but got the file '.*readme\.txt'$"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            Data(evaluate=value)
