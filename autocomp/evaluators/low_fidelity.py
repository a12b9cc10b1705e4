"""What a part of the samples says of all of them: of many samples a search looks at a part."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Plan

from .base import Measurement

if TYPE_CHECKING:
    from .accuracy import PlanEvaluator

FIRST = 2000  # samples of twice as many or more


def estimate(right: np.ndarray, right_of_float: np.ndarray, of_float: float, total: int) -> tuple[float, float]:
    """A plan's accuracy on so many samples from its answers on n of them, drawn at random, and its standard error.

    right, right_of_float: (n,) bool, of the plan and the float network; of_float: its accuracy on all samples.

    The float network's accuracy and the difference to it on the n samples (the difference estimator: Cochran, Sampling
    Techniques, 1977): only answers that differ make its error, in place of all that may be wrong.
    """
    count = len(right)
    differs = int((right != right_of_float).sum()) + 1  # one more than were seen: none seen does not mean none
    moved = float(right.mean() - right_of_float.mean())
    variance = (differs / count - moved**2) / count * (1 - count / total)
    return min(max(of_float + moved, 0.0), 1.0), math.sqrt(variance)


def evaluate_subset(evaluator: PlanEvaluator, plan: Plan) -> Measurement:
    """At a part of the samples; for executors."""
    return evaluator.evaluate_subset(plan)
