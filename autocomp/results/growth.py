"""How a front grew: what each round of proposals added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from autocomp.problem.pareto import hypervolume
from autocomp.search_spaces import Plan

from .front_protocol import Front
from .point import Point

ROUNDS = "rounds"  # in a front's settings: how many plans were evaluated at the end of each round
FAILURES = "failures"  # in a front's settings: the reason of failed evaluations, and how many there were
MOST = 60  # rounds that are told apart


@dataclass(frozen=True)
class Round:
    """plans: evaluated in all when it ended. hypervolume: that they dominate. kept: of the round's own plans, how many
    are on the front in the end."""

    plans: int
    hypervolume: float
    kept: int


def volumes(front: Front, counts: Iterable[int]) -> list[float]:
    """The hypervolume that the first so many evaluated plans dominate."""
    points = list(front.evaluated)
    costs = [[1 - p.accuracy, *(p.ratio(name) for name in front.objectives)] for p in points]
    fits = np.array([point.feasible for point in points])
    matrix, reference = np.array(costs, np.float64), np.array(front.reference, np.float64)
    return [hypervolume(matrix[:n][fits[:n]], reference) for n in counts]


def rounds(front: Front) -> list[Round]:
    """Of the search; the float network is none. Several are taken together where there are more than sixty."""
    points = list(front.evaluated)
    ends = _ends(front.settings.get(ROUNDS), len(points))
    on_front = {point.plan for point in front}
    found = zip(ends, [1, *ends][: len(ends)], volumes(front, ends), strict=True)
    return [Round(end, volume, _count(points[start:end], on_front)) for end, start, volume in found]


def _ends(stored: object, count: int) -> list[int]:
    """Fronts of earlier versions do not say it."""
    given = stored if isinstance(stored, (list, tuple)) else ()
    ends = sorted({int(end) for end in given if isinstance(end, (int, float)) and 1 < end <= count})
    if len(ends) <= MOST:
        return ends
    return [ends[i] for i in np.unique(np.linspace(0, len(ends) - 1, MOST).round().astype(int))]


def _count(points: Sequence[Point], on_front: set[Plan]) -> int:
    return sum(point.plan in on_front for point in points)
