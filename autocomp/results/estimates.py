"""What is claimed of a front's points: changes that selection does not flatter, and the accuracy below which none is
shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from autocomp.problem.metrics import shown

from .front_protocol import Front
from .point import Point
from .shrinkage import Changes, shrunk

MEAN_OF_SAMPLES = "fidelity"  # this metric hardly varies with the samples: it is left as measured
KEPT = 0.9  # least share of what the float network has above chance
KEPT_FIDELITY = 0.5


def expected(points: Sequence[Point], of_float: Point, violation: Callable[[Point], float]) -> tuple[Point, ...]:
    """The points with the accuracies that other samples are expected to give, in place of those observed.

    Points whose errors are not known, and trained ones, stay as they are. violation: of the budget.
    """
    places = [i for i, point in enumerate(points) if _varies(point)]
    found = Changes.of([_row(points[i], of_float) for i in places])
    result = list(points)
    for i, change in zip(places, shrunk(found), strict=True):
        accuracy = float(np.clip(of_float.accuracy + change, 0, 1))
        point = replace(points[i], accuracy=accuracy, reference=of_float)
        result[i] = replace(point, violation=violation(point))
    return tuple(result)


def _varies(point: Point) -> bool:
    known = point.observed is not None and point.divergence is not None and bool(point.change_error)
    return known and not point.is_float and not point.tuned and point.metric != MEAN_OF_SAMPLES


def _row(point: Point, of_float: Point) -> tuple[float, float, int, float]:
    assert point.observed is not None and point.change_error is not None and point.divergence is not None
    return point.observed - of_float.accuracy, point.change_error, point.samples, point.divergence


def least_accuracy(of_float: Point, chance: float | None) -> float:
    """Of points that a front shows where the budget bounds no accuracy.

    chance: the accuracy without any knowledge of the inputs; None: not known, then there is no such limit.
    """
    if chance is None or chance >= of_float.accuracy:
        return 0.0
    kept = KEPT_FIDELITY if of_float.metric == MEAN_OF_SAMPLES else KEPT
    return chance + kept * (of_float.accuracy - chance)


def not_shown(front: Front, nondominated: Sequence[Point]) -> tuple[str, ...]:
    """A note where points are below the least accuracy."""
    of_float, chance, least = front.float_point, front.chance, front.min_accuracy
    below = [point for point in nondominated if point.accuracy < least]
    if not below or chance is None:
        return ()
    kept = (least - chance) / (of_float.accuracy - chance)
    limit = f"{of_float.metric} {shown(least, of_float.scale)}"
    share = f"{round(100 * kept)} % of what the float network has above chance ({shown(chance, of_float.scale)})"
    if len(below) == len(nondominated) - any(point.is_float for point in nondominated):
        return (f"no point keeps {limit}, {share}: all are shown",)
    advice = "accuracy>0% in the budget shows them, front.evaluated has them"
    return (f"{len(below)} further points are not shown, since they do not keep {limit}, {share}: {advice}",)


def estimated_on_part(front: Front) -> tuple[str, ...]:
    """A note where the search was stopped before it measured the front's points on all samples."""
    parts = {point.fidelity for point in front if point.samples < front.float_point.samples}
    count = sum(point.fidelity in parts for point in front)
    text = f"{count} of these points were measured on {', '.join(sorted(parts))}, since the search was stopped"
    return (f"{text}: front.evaluate(point.plan) uses all",) if parts else ()
