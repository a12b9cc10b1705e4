"""The accuracy on all samples, estimated from a part of them: a search with many samples evaluates plans on a part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Plan

from .base import Measurement

if TYPE_CHECKING:
    from .accuracy import PlanEvaluator

FIRST = 2000  # samples of the part, where there are at least twice as many


def estimate(right: np.ndarray, right_of_float: np.ndarray, of_float: float, total: int) -> tuple[float, float]:
    """A plan's accuracy on ``total`` samples, estimated from n of them that were drawn at random, and its standard
    error.

    right, right_of_float: (n,) bool, whether the plan and the float network are right; of_float: the float network's
        accuracy on all samples.

    The estimate is the float network's accuracy plus the difference on the n samples (the difference estimator:
    Cochran, Sampling Techniques, 1977). Only samples on which the two differ contribute to its error.
    """
    count = len(right)
    differs = int((right != right_of_float).sum()) + 1  # one more than observed: none observed does not mean none
    moved = float(right.mean() - right_of_float.mean())
    variance = (differs / count - moved**2) / count * (1 - count / total)
    return min(max(of_float + moved, 0.0), 1.0), math.sqrt(variance)


def evaluate_subset(evaluator: PlanEvaluator, plan: Plan) -> Measurement:
    """The plan measured on a part of the samples; a question for executors."""
    return evaluator.evaluate_subset(plan)
