"""The user's own metric in place of accuracy: mean IoU, mAP, 1 minus the word error rate."""

from __future__ import annotations

import hashlib
import logging
import math
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from types import CellType, CodeType, MethodType
from typing import Any

import numpy as np

from autocomp.errors import EvaluationError

log = logging.getLogger("autocomp")

Arrays = tuple[np.ndarray, ...]
LOWER_NAMES = """
wer cer per der ter mer eer fid kid lpips mae mse rmse mape smape nmse nrmse rmsle nll bpd bpc perplexity ppl loss
log_loss logloss cross_entropy error errors error_rate err epe fpr fnr hter mean_absolute_error mean_squared_error
root_mean_squared_error word_error_rate character_error_rate char_error_rate top1_error top5_error equal_error_rate
abs_rel brier ece mpjpe
"""
LOWER = frozenset(LOWER_NAMES.split())  # names of metrics where lower is better
TAKEN = ("accuracy", "agreement", "fidelity")
ROUNDED = 1e-6  # by which a mean of ones in float32 may exceed 1
_ONE_AT_A_TIME = threading.Lock()  # plans are measured in several threads, and a metric may keep a state


class UserMetric:
    """A function of (outputs, labels) that measures how good outputs are, from 0 to 1; or how bad, from 0.

    lower_is_better: whether it measures how bad they are; None: it does if its name is a usual one of such a metric.
    reduce: makes of (outputs, inputs) of some samples what the function takes as their outputs, so that large outputs
        are never held for all samples. None: it takes them as they are.
    outputs: for all samples, (n, ...); a tuple of arrays where the network has several outputs. labels: as the user
        gave them.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        lower_is_better: bool | None = None,
        reduce: Callable[[Arrays, Arrays], Arrays] | None = None,
    ) -> None:
        self.function, self.reduce = function, reduce
        recognised = lower_is_better is None and self.name.lower() in LOWER
        self.lower = recognised or bool(lower_is_better)
        if recognised:
            log.info("the metric %s is taken as one where lower is better (Data's lower_is_better says so)", self.name)

    @property
    def name(self) -> str:
        """The title of the front's column; it never equals the name of one of autocomp's own metrics."""
        function = _innermost(self.function)
        name = getattr(function, "__name__", type(function).__name__)
        return name if name.isidentifier() and name not in TAKEN else "metric"

    def __str__(self) -> str:
        return "the metric" if self.name == "metric" else f"the metric {self.name}"

    @property
    def key(self) -> str:
        """Changes with what the function does, as far as that can be read; not with its place in its file."""
        made = (_made_of(self.function), "lower") if self.lower else _made_of(self.function)
        return hashlib.blake2b(repr(made).encode(), digest_size=16).hexdigest()

    def __call__(self, outputs: Arrays, labels: Any) -> float:
        """0 to 1, where less than 0 counts as 0, or, where lower is better, 0 or more; EvaluationError for anything
        else.

        The function may write into the outputs; it gets a copy of the labels.
        """
        try:
            with _ONE_AT_A_TIME:
                value = self.function(outputs[0] if len(outputs) == 1 else outputs, deepcopy(labels))
        except Exception as error:  # the user's own code
            said = f"{type(error).__name__}: {error}".removesuffix(": ")
            raise EvaluationError(f"{self} failed: {said}") from error
        number = _number(value)
        if self.lower and number is not None and 0 <= number < math.inf:
            return number
        if self.lower:
            said = _kind(value) if number is None else f"{number:.8g}"
            raise EvaluationError(f"{self}, where lower is better, must give a number of 0 or more, but gave {said}")
        if number is None or not number <= 1 + ROUNDED:  # NaN too
            said = _kind(value) if number is None else f"{number:.8g}"
            raise EvaluationError(f"{self} must give a number from 0 to 1, but gave {said}")
        return min(max(number, 0.0), 1.0)


def _number(value: Any) -> float | None:
    """None for a value that is no number, also for text."""
    try:
        array = np.asarray(value)
        return None if isinstance(value, str) or array.size != 1 else float(array.item())
    except (TypeError, ValueError):
        return None


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"


def _innermost(function: Any) -> Any:
    return _innermost(function.func) if isinstance(function, partial) else function


def _made_of(function: Any) -> Any:
    """Nested tuples; for a method or a callable object they include the values of its attributes."""
    if isinstance(function, partial):
        return _made_of(function.func), _described(function.args), _described(function.keywords)
    if isinstance(function, MethodType):
        return _described(function.__func__), _described(getattr(function.__self__, "__dict__", {}))
    if hasattr(function, "__code__") or not hasattr(function, "__dict__") or isinstance(function, type):
        return _described(function)
    return _described(function), _described(type(function).__call__), _described(vars(function))


def _named(value: Any) -> Any:
    """Identifies an object by its class, and a class or a C function by its own name."""
    return type(value).__module__, type(value).__qualname__, getattr(value, "__qualname__", None)


def _described(value: Any, around: tuple[int, ...] = (), other: Callable[[Any], Any] = _named) -> Any:
    """The contents of a value as nested tuples, without addresses and line numbers.

    around: ids of the values that contain it; a function that calls itself contains itself. other: describes any value
        that is neither data nor Python code.
    """
    if isinstance(value, (int, float, complex, str, bytes, type(None))):
        return value
    if id(value) in around:
        return "itself"

    def parts(values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(_described(item, (*around, id(value)), other) for item in values)

    if isinstance(value, CodeType):
        return value.co_code, value.co_names, parts(value.co_consts)
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return value.dtype.str, value.shape, hashlib.blake2b(label_bytes(value), digest_size=16).hexdigest()
    if isinstance(value, Mapping):
        return tuple(sorted(map(repr, parts(value.items()))))
    if isinstance(value, (set, frozenset)):
        return tuple(sorted(map(repr, parts(value))))
    if isinstance(value, (tuple, list, np.ndarray)):
        return parts(value)
    code = getattr(value, "__code__", None)
    if code is None:
        return other(value)
    return parts((code, value.__defaults__, value.__kwdefaults__, *map(_content, value.__closure__ or ())))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def label_bytes(labels: np.ndarray | np.generic) -> bytes | memoryview:
    """The labels as bytes, also where they differ in shape from sample to sample; equal labels give equal bytes."""
    if labels.dtype.hasobject:
        return repr(_described(labels, other=pickle.dumps)).encode()
    return np.ascontiguousarray(labels).data
