"""The user's data as arrays, read from arrays or datasets."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from autocomp.evaluators.multi_label import is_multi_hot, mean_average_precision
from autocomp.evaluators.user_metric import UserMetric, label_bytes
from autocomp.primitives.distillation.class_labels import as_array, as_classes
from autocomp.primitives.tracing.platform import is_dataset, same_order
from autocomp.primitives.tracing.tracer import first_not_finite

from .arguments import check

LIMIT = 50_000
LIMIT_BYTES = 2_000_000_000
CALIBRATION_SAMPLES = 1024
OTHER_LABELS = "; for other labels give Data a metric, a function of (outputs, labels)"
_ROLES = ("calibrate", "evaluate", "train")

log = logging.getLogger("autocomp")


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of the network, and labels where they are known.

    x: one array (n, ...) for each input; of 8-bit integers, or on disk, where it was given so.
    y: (n,) int64 class of each sample, or None; with a metric of the user's own whatever labels that takes, (n, ...),
        an array of objects where samples differ in shape.
    """

    x: tuple[np.ndarray, ...]
    y: np.ndarray | None = None

    @classmethod
    def read(cls, value: Any, role: str = "data", limit: int = LIMIT, any_labels: bool = False) -> Samples:
        """Read ``x``, ``(x, y)`` (``x`` an array or a tuple of arrays) or a ``mindspore.dataset.Dataset``.

        Arrays may lie on disk (``numpy.load(path, mmap_mode="r")``): only what is used is read, see :func:`held`.
        At most ``limit`` samples and 2 GB of a dataset are read; with more than one column the last is the labels. A
        dataset that shuffles gives the same order each time; random numbers in its Python functions may differ.

        any_labels: labels need not be classes.
        """
        if isinstance(value, Samples):
            return value
        if is_dataset(value):
            return _read_dataset(value, role, limit, any_labels)
        x, y = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, None)
        inputs = tuple(x) if isinstance(x, (tuple, list)) else (x,)
        return cls(*_checked(inputs, y, role, any_labels))

    def __len__(self) -> int:
        return len(self.x[0])

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of one sample, for each input."""
        return tuple(x.shape[1:] for x in self.x)

    def take(self, count: int) -> Samples:
        """At most so many samples, at even distances over all of them, in order."""
        if count >= len(self):
            return self
        rows = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        return Samples(tuple(x[rows] for x in self.x), None if self.y is None else self.y[rows])

    def batches(self, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
        """Views of ``size`` samples each; the last may be smaller."""
        for i in range(0, len(self), size):
            yield tuple(x[i : i + size] for x in self.x), None if self.y is None else self.y[i : i + size]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any value, shape or type."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (*self.x, *(() if self.y is None else (self.y,))):
            digest.update(f"{array.dtype.str}{array.shape};".encode())
            digest.update(label_bytes(array))
        digest.update(b"" if self.y is None else b"labels")
        return digest.hexdigest()


@dataclass(eq=False)
class Data:
    """Samples for calibration, evaluation and training; each as :meth:`Samples.read` takes it.

    A role that is not given uses the samples of another one:

    * ``calibrate``: 1,024 samples spread over ``train``, else over ``evaluate``;
    * ``evaluate``: ``calibrate``, else ``train``, on which a trained network looks too good (see ``notes``).
      Without labels, agreement with the float network's classes, or fidelity to its outputs where they look like an
      embedding or are other numbers, is measured instead of accuracy. Of rows of zeros and ones, several of which may
      be ones, it is the mean average precision. With 4,000 samples or more, plans are measured on 2,000, and in the end
      a quarter of them on all;
    * ``train`` never uses another role's samples.

    metric: measures how good outputs are, where that is not the share of correct classes: a function of (outputs,
        labels) that returns a number from 0 to 1. It is called with the outputs for all evaluated samples, (n, ...), a
        tuple of them where the network has several outputs, and with the labels as they were given: an array (n, ...),
        or a list with one entry for each sample, or None. A budget of ``accuracy>-1%`` allows one percentage point less
        of it. Or, without labels, ``"agreement"`` or ``"fidelity"``, where the wrong one of the two is taken.

    lower_is_better: whether the metric says how bad outputs are, as a word error rate does: 0 or more, not only up to
        1. A budget bounds it by its name, ``wer<0.1``, or ``wer<+5%``: at most 5 % more than the float network's.
        None: where the function has a usual name of such a metric (wer, mae, rmse, perplexity, error_rate...).

    Arrays are checked immediately, datasets when their role is first used.

    >>> Data(train=images, evaluate=(held_out, masks), metric=mean_iou)
    """

    calibrate: Any = None
    evaluate: Any = None
    train: Any = None
    limit: int = LIMIT
    metric: Callable[[Any, Any], float] | str | None = None
    lower_is_better: bool | None = None
    _read: dict[str, Samples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check("Data", limit=self.limit, metric=self.metric, lower_is_better=self.lower_is_better)
        if self.lower_is_better is not None and self.metric is None:
            raise ValueError("lower_is_better says how a metric is read: give Data a metric, too")
        if self.metric is not None and not self:
            raise ValueError("a metric needs samples to evaluate plans on: give evaluate")
        if self.lower_is_better is not None and self.compared_by:
            raise ValueError(f"metric={self.metric!r} is higher where plans are better: leave lower_is_better out")
        for role in _ROLES:
            value = getattr(self, role)
            if value is not None and not is_dataset(value):
                self._samples(role)

    @classmethod
    def coerce(cls, value: Any) -> Data:
        """None, Data, a mapping of its arguments, or one set of samples, which is used to evaluate and to calibrate."""
        if value is None:
            return cls()
        if isinstance(value, Data):
            return value
        if isinstance(value, Mapping):
            unknown = ", ".join(sorted(map(str, set(value) - {*_ROLES, "limit", "metric", "lower_is_better"})))
            if unknown:
                known = f"data may have the roles {', '.join(_ROLES)}, limit, metric and lower_is_better"
                raise ValueError(f"{known}, but got {unknown}")
            return cls(**value)
        return cls(evaluate=value)

    @cached_property
    def measure(self) -> UserMetric | None:
        """The metric in the form that evaluators take."""
        if callable(self.metric):
            return UserMetric(self.metric, self.lower_is_better)
        labels = None if self.evaluation is None else self.evaluation.y
        return None if labels is None or labels.ndim == 1 else UserMetric(mean_average_precision)

    @property
    def compared_by(self) -> str:
        """How plans are compared with the float network, where the user says it."""
        return self.metric if isinstance(self.metric, str) else ""

    @cached_property
    def calibration(self) -> Samples | None:
        """Samples for calibration, with or without labels."""
        if self.calibrate is not None:
            return held(self._samples("calibrate"))
        for role in ("train", "evaluate"):
            if getattr(self, role) is not None:
                return self._samples(role).take(CALIBRATION_SAMPLES)
        return None

    @cached_property
    def evaluation(self) -> Samples | None:
        """Samples to evaluate on; fidelity is measured where they have no labels."""
        role = self._evaluated_role
        found = None if role is None else held(self._samples(role))
        if found is not None and found.y is not None and self.compared_by:
            raise ValueError(
                f"metric={self.metric!r} compares plans with the float network, but {role} has labels: leave one out"
            )
        return found

    @property
    def training(self) -> Samples | None:
        return None if self.train is None else held(self._samples("train"))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about roles that use the samples of another role."""
        role = self._evaluated_role
        if role in (None, "evaluate"):
            return ()
        return (f"no data to evaluate on were given: the {role} samples are used, which may flatter the accuracy",)

    def shortened(self, count: int) -> Data:
        """A copy with at most ``count`` samples for calibration and for evaluation; training samples and notes stay."""
        short = copy(self)
        short.calibration = self.calibration and self.calibration.take(count)
        short.evaluation = self.evaluation and self.evaluation.take(count)
        return short

    def __bool__(self) -> bool:
        return self._evaluated_role is not None

    @property
    def _evaluated_role(self) -> str | None:
        given = (role for role in ("evaluate", "calibrate", "train") if getattr(self, role) is not None)
        return next(given, None)

    def _samples(self, role: str) -> Samples:
        if role not in self._read:
            found = Samples.read(getattr(self, role), role, self.limit, callable(self.metric))
            for other, samples in self._read.items():
                if samples.shapes != found.shapes:
                    raise ValueError(
                        f"the samples of all roles must have the same shape, but got {_shapes(found)} for {role} "
                        f"and {_shapes(samples)} for {other}"
                    )
            self._read[role] = found
        return self._read[role]


def _shapes(samples: Samples) -> str:
    return " and ".join(map(str, samples.shapes))


def _checked(
    inputs: tuple[Any, ...], y: Any, role: str, any_labels: bool
) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    if not inputs:
        raise ValueError(f"{role} must have at least one input, but got none")
    x = tuple(_input(value, f"input {i} of {role}") for i, value in enumerate(inputs))
    counts = [len(array) for array in x]
    if len(set(counts)) != 1:
        raise ValueError(f"the inputs of {role} must have as many samples each, but got {_listed(counts)}")
    if counts[0] == 0:
        raise ValueError(f"{role} must have at least one sample, but got none")
    labels = None if y is None else _as_given(y, role) if any_labels else _classes(y, role)
    if labels is not None and len(labels) != counts[0]:
        raise ValueError(f"{role} must have a label for each sample, but got {counts[0]} samples, {len(labels)} labels")
    return x, labels


def _classes(y: Any, role: str) -> np.ndarray:
    """(n,) int64 classes; (n, labels) uint8 where several labels may hold for a sample."""
    given = as_array(y)
    _check_finite(given, f"the labels of {role}")
    rows = given.dtype.kind in "fiub" and is_multi_hot(given) and bool((given.sum(1) != 1).any())
    return given.astype(np.uint8) if rows else as_classes(y, role, OTHER_LABELS)


def _input(value: Any, name: str) -> np.ndarray:
    """As it is: what lies on disk stays there, and 8-bit images stay small, until :func:`held` and :func:`as_floats`
    take them. Only floats in memory become float32 at once."""
    array = as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, but got {_kind(value, array)}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have a first axis that counts the samples, but got one number")
    if array.dtype.kind != "f" or _on_disk(array):
        return array
    _check_finite(array, name)
    return array.astype(np.float32, copy=False)


def _on_disk(array: np.ndarray) -> bool:
    """Whether it is a view of a file, through whatever number of views."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _check_finite(array: np.ndarray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but has {first_not_finite(array)}")
    if array.dtype.itemsize > 4 and array.size and (largest := float(np.abs(array).max())) > np.finfo(np.float32).max:
        raise ValueError(f"{name} must fit into float32, but has {largest:.3g}")


def _kind(value: Any, array: np.ndarray) -> str:
    return f"an array of {array.dtype.name}" if isinstance(value, np.ndarray) else type(value).__name__


def held(samples: Samples, most_bytes: int = LIMIT_BYTES) -> Samples:
    """In memory: of arrays on disk, or that grow when they become float32, at most so many bytes of float32, evenly
    spread; a warning says so."""
    grown = [x for x in samples.x if _on_disk(x) or x.dtype == np.uint8]
    row = sum(4 * math.prod(x.shape[1:]) for x in grown)
    count = max(1, most_bytes // max(1, row))
    if grown and count < len(samples):
        text = "of %s samples %s are used, evenly spread: as float32 all would take %.1f GB, but at most %.1f are taken"
        log.warning(text, f"{len(samples):,}", f"{count:,}", row * len(samples) / 1e9, most_bytes / 1e9)
        samples = samples.take(count)
    for i, x in enumerate(samples.x):
        if x.dtype.kind == "f" and _on_disk(x):
            _check_finite(x, f"input {i} of the data")
    return samples


def as_floats(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """float32 in memory."""
    return tuple(np.asarray(x).astype(np.float32, copy=False) for x in arrays)


def as_integers(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """int32 where they are integers, but for 8-bit images; float32 else."""
    return tuple(x.astype(np.int32) if is_integer_input(x) else as_floats((x,))[0] for x in arrays)


def as_truths(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The same, with truth values as they are."""
    return tuple(np.asarray(x) if x.dtype == bool else as_integers((x,))[0] for x in arrays)


def is_integer_input(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and array.dtype != np.uint8


def _as_given(value: Any, role: str) -> np.ndarray:
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


def _listed(counts: list[int]) -> str:
    return ", ".join(map(str, counts))


def is_batched(dataset: Any) -> bool:
    """Whether some step of the pipeline batches. ``get_batch_size`` does not tell: it is 1 for a batch of one and for
    no batch."""
    if "Batch" in type(dataset).__name__:
        return True
    return any(is_batched(child) for child in getattr(dataset, "children", ()))


@same_order()
def _read_dataset(dataset: Any, role: str, limit: int, any_labels: bool) -> Samples:
    batched, rows, count, held = is_batched(dataset), [], 0, 0
    complete = True
    for row in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
        if count >= limit or held >= LIMIT_BYTES:
            complete = False
            break
        arrays = [np.asarray(column) if batched else np.asarray(column)[None] for column in row]
        rows.append(arrays)
        count += len(arrays[0])
        held += sum(array.nbytes for array in arrays)
    if not rows:
        raise ValueError(f"{role} must have at least one sample, but its dataset is empty")
    columns = [_joined(parts, role)[:limit] for parts in zip(*rows, strict=True)]
    if not complete or count > limit:
        log.warning("of the %s dataset the first %s samples are used", role, f"{len(columns[0]):,}")
    inputs, y = (columns[:-1], columns[-1]) if len(columns) > 1 else (columns, None)
    return Samples(*_checked(tuple(inputs), y, role, any_labels))


def _joined(parts: tuple[np.ndarray, ...], role: str) -> np.ndarray:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) != 1:
        known = " and ".join(map(str, sorted(shapes, key=math.prod)[:2]))
        raise ValueError(f"the samples of {role} must all have one shape, but its dataset has {known}")
    return np.concatenate(parts)
