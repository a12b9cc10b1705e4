"""Class labels as an array, from any form."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_classes(value: Any, role: str, advice: str = "") -> np.ndarray:
    """(n,) int64 from classes, (n,) or (n, 1), or from one-hot rows; TypeError or ValueError for anything else.

    role: the name of the data set. advice: added to the message of a ValueError.
    """
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        kind = f"an array of {array.dtype.name}" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"the labels of {role} must be an array of numbers, but got {kind}")
    if _is_one_hot(array):
        return np.asarray(array.argmax(1), np.int64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"the labels of {role} must be classes (n,) or one-hot rows, but got shape {array.shape}{advice}"
        )
    classes = array.astype(np.int64)
    if not (classes == array).all() or (classes < 0).any():
        raise ValueError(f"the labels of {role} must be whole numbers from 0, but got {_first_bad(array)}{advice}")
    return classes


def as_array(value: Any) -> np.ndarray:
    """An array, also from a MindSpore tensor."""
    if hasattr(value, "asnumpy"):
        value = value.asnumpy()
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return np.asarray(None)


def _is_one_hot(array: np.ndarray) -> bool:
    if array.ndim != 2 or array.shape[1] < 2:
        return False
    return bool(((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all())


def _first_bad(labels: np.ndarray) -> float:
    return float(labels[(labels < 0) | (labels != np.floor(labels))][0])
