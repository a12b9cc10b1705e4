"""Labels as the data hold them: classes, one-hot and multi-hot rows, names of classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from autocomp.evaluators.multi_label import is_multi_hot
from autocomp.primitives.distillation.class_labels import as_array, as_classes

log = logging.getLogger("autocomp")

OTHER_LABELS = "; for other labels give Data a metric, a function of (outputs, labels)"
SHOWN = 5  # names, at most, in a message
Names = tuple[str, ...]


def as_labels(y: Any, role: str, classes: Sequence[str] | None = None) -> tuple[np.ndarray, Names]:
    """(n,) int64 classes; (n, labels) uint8 where several labels may hold for a sample. With the names of the classes,
    where the labels are texts.

    classes: the names in the order of the network's outputs; None: the names that occur, sorted.
    """
    given = as_array(y)
    if _are_names(given):
        return _numbered(given, role, classes)
    rows = given.dtype.kind in "fiub" and is_multi_hot(given) and bool((given.sum(1) != 1).any())
    return given.astype(np.uint8) if rows else as_classes(y, role, OTHER_LABELS), ()


def _are_names(array: np.ndarray) -> bool:
    texts = array.dtype.kind == "O" and array.size > 0 and all(isinstance(one, str) for one in array.flat)
    return array.ndim == 1 and (array.dtype.kind == "U" or texts)


def _numbered(given: np.ndarray, role: str, classes: Sequence[str] | None) -> tuple[np.ndarray, Names]:
    texts = given.astype(str)
    found = np.unique(texts).tolist()
    names = tuple(found if classes is None else classes)
    unknown = [name for name in found if name not in names]
    if unknown:
        raise ValueError(f"the labels of {role} must be among classes, {_few(names)}, but got {_few(unknown)}")
    if classes is None:
        log.info("the labels of %s are numbered in the order of their names: %s", role, _few(names))
    numbers = {name: i for i, name in enumerate(names)}
    return np.array([numbers[text] for text in texts.tolist()], np.int64), names


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + rest


def check_same_names(role: str, names: Names, other: str, others: Names) -> None:
    """ValueError where two roles number their classes differently."""
    if names and others and names != others:
        raise ValueError(
            f"the labels of all roles must have the same names, but got {_few(names)} for {role} and {_few(others)} "
            f"for {other}: say classes=, the names in the order of the network's outputs"
        )


def as_given(value: Any, role: str) -> np.ndarray:
    """(n, ...) numbers, or (n,) objects where samples differ in shape."""
    array = as_array(value)
    if array.ndim and array.dtype.kind in "fiub":
        return array
    if not isinstance(value, (tuple, list, np.ndarray)):
        raise TypeError(f"the labels of {role} must be an array or a list, but got {type(value).__name__}")
    objects = np.empty(len(value), object)
    for i, label in enumerate(value):
        objects[i] = label
    return objects
