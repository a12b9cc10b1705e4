"""A metric of the user's own in place of accuracy: mean IoU, mAP, a word error rate turned round."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable
from functools import partial
from types import CodeType
from typing import Any

import numpy as np

from ..errors import EvaluationError

Arrays = tuple[np.ndarray, ...]
_ONE_AT_A_TIME = threading.Lock()  # plans are measured in several threads, and a metric may keep a state


class UserMetric:
    """A function of (outputs, labels) that says how good outputs are, from 0 to 1.

    outputs: of all samples, (n, ...); a tuple of them where the network gives several. labels: as they were given.
    """

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.function = function

    @property
    def name(self) -> str:
        """As it stands over the front's column."""
        function = _innermost(self.function)
        name = getattr(function, "__name__", type(function).__name__)
        return name if name.isidentifier() else "metric"

    @property
    def key(self) -> str:
        """Changes with what the function does, as far as can be seen; not with where it stands in its file."""
        return hashlib.blake2b(repr(_described(self.function)).encode(), digest_size=16).hexdigest()

    def __call__(self, outputs: Arrays, labels: Any) -> float:
        """0 to 1, where less than 0 counts as 0; EvaluationError for anything else."""
        try:
            with _ONE_AT_A_TIME:
                value = float(self.function(outputs[0] if len(outputs) == 1 else outputs, labels))
        except Exception as error:  # the user's own code
            raise EvaluationError(f"the metric {self.name} failed: {type(error).__name__}: {error}") from error
        if not value <= 1:  # NaN too
            raise EvaluationError(f"the metric {self.name} must give a number from 0 to 1, but gave {value:g}")
        return max(value, 0.0)


def _innermost(function: Any) -> Any:
    return _innermost(function.func) if isinstance(function, partial) else function


def _described(value: Any) -> Any:
    """Nested tuples of what a function is made of, without addresses and line numbers."""
    if isinstance(value, partial):
        keywords = sorted((name, _described(item)) for name, item in value.keywords.items())
        return _described(value.func), tuple(map(_described, value.args)), tuple(keywords)
    if isinstance(value, CodeType):
        return value.co_code, value.co_names, tuple(map(_described, value.co_consts))
    if isinstance(value, np.ndarray):
        return hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=16).hexdigest()
    if isinstance(value, (tuple, list)):
        return tuple(map(_described, value))
    if isinstance(value, (int, float, str, bytes, bool, type(None))):
        return value
    code = getattr(value, "__code__", None)
    if code is None:
        return type(value).__module__, type(value).__qualname__
    cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
    return _described(code), _described(value.__defaults__), _described(cells)


def label_bytes(labels: np.ndarray) -> bytes:
    """What labels are, also those that differ in shape from sample to sample."""
    if labels.dtype.hasobject:
        return pickle.dumps(labels.tolist())
    return np.ascontiguousarray(labels).tobytes()
