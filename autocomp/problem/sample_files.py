"""Samples named by a path: an array in a ``.npy`` file, or a folder of images with a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
Transform = Callable[[np.ndarray], Any]


def is_path(value: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(value, (str, os.PathLike)) and not hasattr(value, "__array__")


def is_folder(value: Any) -> bool:
    return is_path(value) and Path(value).is_dir()


def mapped(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """The array of a ``.npy`` file, which stays on disk."""
    file = Path(path)
    if file.suffix != ".npy" or not file.is_file():
        raise ValueError(
            f"{name} must be an array of numbers, or the path of a .npy file or of a folder of images, but "
            f"{'there is no' if not file.exists() else 'got the'} file {str(path)!r}"
        )
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{name} must be a whole .npy file of numbers, but {file} is not: {error}") from error


def images_of(folder: str | os.PathLike[str], role: str, transform: Transform | None) -> Iterator[tuple[Any, str]]:
    """One image after the other with the name of its class, in the order of their paths.

    transform: makes of an image, (h, w, 3) uint8, what the network takes; None: (3, h, w) uint8.
    """
    files = _files(Path(folder))
    if not files:
        raise ValueError(
            f"{role} must be a folder with a folder of images for each class, but {str(folder)!r} has none of "
            f"{', '.join(SUFFIXES)} in its folders"
        )
    for path in files:
        yield _transformed(_read(path, role), path, transform), path.parent.name


def _files(folder: Path) -> list[Path]:
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path for each in inner for path in sorted(each.iterdir()) if path.suffix.lower() in SUFFIXES]


def _read(path: Path, role: str) -> np.ndarray:
    from PIL import Image  # not loaded where data are arrays

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{role} must have images that can be read, but {path} cannot: {error}") from error


def _transformed(image: np.ndarray, path: Path, transform: Transform | None) -> Any:
    if transform is None:
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    try:
        return transform(image)
    except Exception as error:  # the user's own code
        raise ValueError(f"transform must take every image, but failed for {path}: {error}") from error
