"""The metric for labels of which several may hold for a sample (multi-hot rows)."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_multi_hot(labels: np.ndarray) -> bool:
    """Whether it is (n, labels) of zeros and ones, two labels or more."""
    return labels.ndim == 2 and labels.shape[1] > 1 and bool(((labels == 0) | (labels == 1)).all())


def mean_average_precision(outputs: Any, labels: Any) -> float:
    """The mean of the average precision of each label, 0 to 1, as in PASCAL VOC since 2010.

    outputs: scores (n, labels), higher where the label holds; of several outputs the first is taken.
    labels: (n, labels) of zeros and ones.

    The average precision of a label is the mean, over the samples that have it, of the share of such samples among
    those with at least their score. Labels that no sample has do not count.
    """
    scores, wanted = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs), np.asarray(labels) > 0
    if scores.shape != wanted.shape:
        raise ValueError(
            f"labels of shape {wanted.shape} need an output of that shape, but the network's has {scores.shape}; for "
            "other labels give Data a metric, a function of (outputs, labels)"
        )
    found = [_average_precision(scores[:, i], wanted[:, i]) for i in np.flatnonzero(wanted.any(0))]
    return float(np.mean(found)) if found else 0.0


def _average_precision(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Equal scores count as one place of the ranking."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(wanted[order])
    last = np.searchsorted(-ranked, -ranked, side="right") - 1  # of the places with the same score
    precision = hits[last] / (last + 1)
    return float(precision[wanted[order]].mean())
