"""What a plan's outputs say of its change against the float network, sample by sample.

Both networks see the same samples. Only samples on which they differ contribute to the error of the change, which is
several times smaller than the error of either accuracy (paired comparison: McNemar, Psychometrika 12, 1947).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.errors import EvaluationError

from .distances import divergences, squared_error

if TYPE_CHECKING:
    from .accuracy import PlanEvaluator
    from .engines import Arrays

GROUPS, LEAST_IN_GROUP = 10, 5  # of samples, for a metric that is no mean over samples


@dataclass(frozen=True)
class Comparison:
    """Fields of a Measurement, which explains them."""

    change_error: float | None
    accuracy_error: float | None
    divergence: float


def change_error(right: np.ndarray, of_float: np.ndarray) -> float:
    """The standard error of the difference of two shares; both arguments (n,) bool, of the same samples.

    One sample more than observed counts as different: that none was seen does not mean that there is none.
    """
    count = len(right)
    moved = float(right.mean() - of_float.mean())
    return math.sqrt((int((right != of_float).sum()) + 1) / count - moved**2) / math.sqrt(count)


def share_error(right: np.ndarray) -> float:
    """The standard error of the share of (n,) bool, with one more success and one more failure than observed."""
    share = (int(right.sum()) + 1) / (len(right) + 2)
    return math.sqrt(share * (1 - share) / len(right))


def compared(evaluator: PlanEvaluator, outputs: Arrays) -> Comparison:
    """outputs: of the plan, for the first of the evaluator's samples or for all."""
    found = evaluator.judged(outputs)
    expected = [array[: len(own)] for array, own in zip(evaluator.plain_judged, found, strict=True)]
    return Comparison(*_errors(evaluator, outputs, found, expected), _divergence(evaluator, found, expected))


def _divergence(evaluator: PlanEvaluator, found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    if evaluator.classifies:
        return float(np.mean(divergences(expected[0], found[0])))
    return float(np.mean([squared_error(a, b) for a, b in zip(found, expected, strict=True)]))


def _errors(
    evaluator: PlanEvaluator, outputs: Arrays, found: list[np.ndarray], expected: list[np.ndarray]
) -> tuple[float | None, float | None]:
    """Of the change, and of the accuracy."""
    if evaluator.measure is not None:
        return _errors_of_groups(evaluator, outputs)
    right, of_float = evaluator.right(found), evaluator.right(expected)
    if right is not None and of_float is not None:
        return change_error(right, of_float), share_error(right)
    error = error_of_ratio(found, expected)
    return error, error


def error_of_ratio(found: list[np.ndarray], expected: list[np.ndarray]) -> float | None:
    """The standard error of the outputs' noise divided by their signal, a ratio of two sums over the samples, by its
    linear part (Cochran, Sampling Techniques, 1977, chapter 6). None for one sample."""
    count = len(expected[0])
    if count < 2:
        return None
    influences = np.mean([_influences(a, b) for a, b in zip(found, expected, strict=True)], axis=0)
    return float(influences.std(ddof=1) / math.sqrt(count))


def _influences(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(n,)"""
    if expected.dtype.kind != "f":
        return np.asarray((found != expected).reshape(len(found), -1).mean(1))
    noise = ((found.astype(np.float64) - expected) ** 2).reshape(len(found), -1).sum(1)
    signal = ((expected - expected.mean(0)).astype(np.float64) ** 2).reshape(len(found), -1).sum(1)
    mean = float(signal.mean()) or 1.0
    return np.asarray((noise - noise.mean() / mean * signal) / mean)


def _errors_of_groups(evaluator: PlanEvaluator, outputs: Arrays) -> tuple[float | None, float | None]:
    """From ten groups of the samples; None where the metric takes no part of them."""
    of_float = evaluator.metric_of_groups
    found = None if of_float is None else metric_of_groups(evaluator, outputs)
    if found is None or of_float is None:
        return None, None
    least = 1 / len(evaluator.inputs[0])  # of one sample, as in change_error
    change, own = (max(float(v.std(ddof=1)) / math.sqrt(GROUPS), least) for v in (found - of_float, found))
    return change, own


def metric_of_groups(evaluator: PlanEvaluator, outputs: Arrays) -> np.ndarray | None:
    """(10,): the accuracy by the user's metric on random tenths of the samples."""
    measure, labels, count = evaluator.measure, evaluator.labels, len(evaluator.inputs[0])
    if measure is None or count < GROUPS * LEAST_IN_GROUP:
        return None
    order = np.random.default_rng(evaluator.seed).permutation(count)
    known = list(zip(evaluator.engine.described_outputs, outputs, strict=True))
    try:
        groups = [np.sort(order[first::GROUPS]) for first in range(GROUPS)]
        parts = [tuple(output.rows(array, rows) for output, array in known) for rows in groups]
        asked = [None if labels is None else labels[rows] for rows in groups]
        values = [measure(part, some) for part, some in zip(parts, asked, strict=True)]
    except EvaluationError:  # the user's own code, on all samples it was fine
        return None
    return np.array([1 - value / evaluator.scale if evaluator.scale else value for value in values])
