"""The user's data as arrays, read from arrays or datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from autocomp.evaluators.lazy_arrays import add_to, as_type, at_rows, is_lazy, on_disk, parts_of
from autocomp.evaluators.multi_label import mean_average_precision
from autocomp.evaluators.token_losses import PERPLEXITY
from autocomp.evaluators.user_metric import UserMetric
from autocomp.primitives.distillation.class_labels import as_array
from autocomp.primitives.tracing.tracer import first_not_finite

from .arguments import check
from .labels import Names, as_given, as_labels, check_same_names
from .sample_files import Transform, images_of, is_folder, is_path, mapped
from .streams import Key, Source, is_stream, picked, read_stream

LIMIT = 50_000
CALIBRATION_SAMPLES = 1024
_ROLES = ("calibrate", "evaluate", "train")
_SETTINGS = ("limit", "metric", "lower_is_better", "key", "classes", "transform")


@dataclass(frozen=True)
class Reading:
    """How samples are read.

    limit: of samples that come one after the other. any_labels: labels need not be classes. key: see
    :class:`autocomp.problem.streams.Source`. classes: the names of classes in the order of the network's outputs.
    transform: of the images of a folder.
    """

    limit: int = LIMIT
    any_labels: bool = False
    key: Key = None
    classes: Sequence[str] | None = None
    transform: Transform | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of the network, and labels where they are known.

    x: one array (n, ...) for each input; of 8-bit integers, or on disk, where it was given so.
    y: (n,) int64 class of each sample, or None; with a metric of the user's own whatever labels that takes, (n, ...),
        an array of objects where samples differ in shape.
    names: of the classes, where labels are texts.
    """

    x: tuple[np.ndarray, ...]
    y: np.ndarray | None = None
    names: Names = ()

    @classmethod
    def read(cls, value: Any, role: str = "data", how: Reading | None = None) -> Samples:
        """Read ``x``, ``(x, y)`` (``x`` an array or a tuple of arrays), a ``mindspore.dataset.Dataset``, whatever else
        gives samples one after the other, a dictionary of arrays, or a folder of images.

        Arrays may lie on disk (``numpy.load(path, mmap_mode="r")``, or a path): rows are read when they are used.
        A dataset that shuffles gives the same order each time; random numbers in its Python functions may differ.
        """
        if isinstance(value, Samples):
            return value
        asked = how or Reading()
        return cls(*_checked(*_columns(value, role, asked), role, asked))

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
        x = tuple(at_rows(array, rows) for array in self.x)
        return Samples(x, None if self.y is None else self.y[rows], self.names)

    def batches(self, size: int) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray | None]]:
        """Views of ``size`` samples each; the last may be smaller."""
        for i in range(0, len(self), size):
            yield tuple(x[i : i + size] for x in self.x), None if self.y is None else self.y[i : i + size]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any value, shape or type."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (*self.x, *(() if self.y is None else (self.y,))):
            add_to(digest, array)
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
        of it. Or, without labels, ``"agreement"`` or ``"fidelity"``, where the wrong one of the two is taken; of a
        language model ``"perplexity"``, of the tokens that are evaluated: lower is better, and logits are held for a
        part of the samples only.

    lower_is_better: whether the metric says how bad outputs are, as a word error rate does: 0 or more, not only up to
        1. A budget bounds it by its name, ``wer<0.1``, or ``wer<+5%``: at most 5 % more than the float network's.
        None: where the function has a usual name of such a metric (wer, mae, rmse, perplexity, error_rate...).

    key: where samples are dictionaries, which entries are inputs and labels: ``"image"``, ``("image", "label")``,
        ``(("ids", "mask"), "label")``. The columns of a dataset, too.

    classes: the names of the classes in the order of the network's outputs, where labels are texts, or images lie in a
        folder for each class. None: the names that occur, sorted.

    transform: makes what the network takes of each image of a folder, (h, w, 3) uint8. None: (3, h, w) uint8.

    Arrays are checked immediately. What comes one after the other is read once, when its role is first used, and kept,
    on disk where it is more than 64 MB.

    >>> Data(train=images, evaluate=(held_out, masks), metric=mean_iou)
    """

    calibrate: Any = None
    evaluate: Any = None
    train: Any = None
    limit: int = LIMIT
    metric: Callable[[Any, Any], float] | str | None = None
    lower_is_better: bool | None = None
    key: Key = None
    classes: Sequence[str] | None = None
    transform: Transform | None = None
    _read: dict[str, Samples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check("Data", **{name: getattr(self, name) for name in _SETTINGS})
        if self.lower_is_better is not None and self.metric is None:
            raise ValueError("lower_is_better says how a metric is read: give Data a metric, too")
        if self.metric is not None and not self:
            raise ValueError("a metric needs samples to evaluate plans on: give evaluate")
        if self.lower_is_better is not None and isinstance(self.metric, str):
            better = "higher" if self.compared_by else "lower"
            raise ValueError(f"metric={self.metric!r} is {better} where plans are better: leave lower_is_better out")
        for role in _ROLES:
            value = getattr(self, role)
            if value is not None and not is_stream(value) and not is_folder(value):
                self._samples(role)

    @classmethod
    def coerce(cls, value: Any) -> Data:
        """None, Data, a mapping of its arguments, or one set of samples, which is used to evaluate and to calibrate."""
        if value is None:
            return cls()
        if isinstance(value, Data):
            return value
        if isinstance(value, Mapping):
            unknown = ", ".join(sorted(map(str, set(value) - {*_ROLES, *_SETTINGS})))
            if unknown:
                known = f"data may have the roles {', '.join(_ROLES)}, and {', '.join(_SETTINGS)}"
                raise ValueError(f"{known}, but got {unknown}")
            return cls(**value)
        return cls(evaluate=value)

    @cached_property
    def measure(self) -> UserMetric | None:
        """The metric in the form that evaluators take."""
        if self.metric == PERPLEXITY.name:
            return PERPLEXITY
        if callable(self.metric):
            return UserMetric(self.metric, self.lower_is_better)
        labels = None if self.evaluation is None else self.evaluation.y
        return None if labels is None or labels.ndim == 1 else UserMetric(mean_average_precision)

    @property
    def compared_by(self) -> str:
        """How plans are compared with the float network, where the user says it."""
        return self.metric if isinstance(self.metric, str) and self.metric != PERPLEXITY.name else ""

    @cached_property
    def calibration(self) -> Samples | None:
        """Samples for calibration, with or without labels."""
        if self.calibrate is not None:
            return self._samples("calibrate")
        for role in ("train", "evaluate"):
            if getattr(self, role) is not None:
                return self._samples(role).take(CALIBRATION_SAMPLES)
        return None

    @cached_property
    def evaluation(self) -> Samples | None:
        """Samples to evaluate on; fidelity is measured where they have no labels."""
        role = self._evaluated_role
        found = None if role is None else self._samples(role)
        if found is not None and found.y is not None and isinstance(self.metric, str):
            does = "compares plans with the float network" if self.compared_by else "predicts the tokens that it reads"
            raise ValueError(f"metric={self.metric!r} {does}, but {role} has labels: leave one out")
        return found

    @property
    def training(self) -> Samples | None:
        return None if self.train is None else self._samples("train")

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
            how = Reading(self.limit, callable(self.metric), self.key, self.classes, self.transform)
            found = Samples.read(getattr(self, role), role, how)
            for other, samples in self._read.items():
                if samples.shapes != found.shapes:
                    raise ValueError(
                        f"the samples of all roles must have the same shape, but got {_shapes(found)} for {role} "
                        f"and {_shapes(samples)} for {other}"
                    )
                check_same_names(role, found.names, other, samples.names)
            self._read[role] = found
        return self._read[role]


def _shapes(samples: Samples) -> str:
    return " and ".join(map(str, samples.shapes))


def _columns(value: Any, role: str, how: Reading) -> tuple[tuple[Any, ...], Any]:
    """The inputs, and the labels or None, as they were given or read."""
    if is_folder(value):
        value = images_of(value, role, how.transform)
    if is_stream(value):
        return read_stream(Source(value, role, how.limit, how.key))
    if isinstance(value, Mapping):
        return picked(value, Source(value, role, how.limit, how.key))
    x, y = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, None)
    labels = mapped(y, f"the labels of {role}") if is_path(y) else y
    return tuple(x) if isinstance(x, (tuple, list)) else (x,), labels


def _checked(inputs: tuple[Any, ...], y: Any, role: str, how: Reading) -> tuple[tuple[np.ndarray, ...], Any, Names]:
    if not inputs:
        raise ValueError(f"{role} must have at least one input, but got none")
    x = tuple(_input(value, f"input {i} of {role}") for i, value in enumerate(inputs))
    counts = [len(array) for array in x]
    if len(set(counts)) != 1:
        raise ValueError(f"the inputs of {role} must have as many samples each, but got {_listed(counts)}")
    if counts[0] == 0:
        raise ValueError(f"{role} must have at least one sample, but got none")
    labels: np.ndarray | None = None
    names: Names = ()
    if y is not None:
        labels, names = (as_given(y, role), ()) if how.any_labels else _classes(y, role, how)
    if labels is not None and len(labels) != counts[0]:
        raise ValueError(f"{role} must have a label for each sample, but got {counts[0]} samples, {len(labels)} labels")
    return x, labels, names


def _classes(y: Any, role: str, how: Reading) -> tuple[np.ndarray, Names]:
    given = as_array(y)
    if given.dtype.kind == "f":
        _check_finite(given, f"the labels of {role}")
    return as_labels(y, role, how.classes)


def _input(value: Any, name: str) -> np.ndarray:
    """As it is: what lies on disk stays there, and 8-bit images stay small, until rows are used. Only floats in memory
    become float32 at once."""
    array = mapped(value, name) if is_path(value) else value if is_lazy(value) else as_array(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers, but got {_kind(value, array)}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have a first axis that counts the samples, but got one number")
    found = on_disk(array)
    if array.dtype.kind == "f":
        _check_finite(found, name)
        return as_type(found, np.float32)
    return found


def _check_finite(array: np.ndarray, name: str) -> None:
    before = 0
    for part in parts_of(array):
        if not np.isfinite(part).all():
            raise ValueError(f"{name} must be finite, but has {first_not_finite(part, before)}")
        large = part.dtype.itemsize > 4 and part.size
        if large and (largest := float(np.abs(part).max())) > np.finfo(np.float32).max:
            raise ValueError(f"{name} must fit into float32, but has {largest:.3g}")
        before += len(part)


def _kind(value: Any, array: np.ndarray) -> str:
    return f"an array of {array.dtype.name}" if isinstance(value, np.ndarray) else type(value).__name__


def as_floats(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """float32; large ones when their rows are used."""
    return tuple(as_type(x, np.float32) for x in arrays)


def as_integers(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """int32 where they are integers, but for 8-bit images; float32 else."""
    return tuple(as_type(x, np.int32) if is_integer_input(x) else as_floats((x,))[0] for x in arrays)


def as_truths(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The same, with truth values as they are."""
    return tuple(x if x.dtype == bool else as_integers((x,))[0] for x in arrays)


def is_integer_input(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and array.dtype != np.uint8


def _listed(counts: list[int]) -> str:
    return ", ".join(map(str, counts))
