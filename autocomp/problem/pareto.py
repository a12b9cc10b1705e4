"""Non-dominated points, hypervolume and knee; every column of a point is minimised."""

from __future__ import annotations

import moocore
import numpy as np

NEAREST = 10


def nondominated(points: np.ndarray) -> np.ndarray:
    """(n,) bool for points (n, objectives): those that no other point dominates; of equal points the first."""
    if len(points) == 0:
        return np.zeros(0, bool)
    return np.asarray(moocore.is_nondominated(points), bool)


def on_front(points: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """(n,) bool: the non-dominated points within the budget.

    Where no point is within the budget: up to ten points that are non-dominated in the objectives and the violation,
    the nearest to the budget first.

    points: (n, objectives); violations: (n,), 0 or less within the budget.
    """
    found, within = np.zeros(len(points), bool), violations <= 0
    if within.any():
        found[within] = nondominated(points[within])
        return found
    order = np.argsort(violations, kind="stable")
    kept = nondominated(np.column_stack([violations, points])[order])
    found[order[kept][:NEAREST]] = True
    return found


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """The share that the points dominate of the box between ``reference`` and 0.

    points: (n, objectives), 0 or more; reference: (objectives,), above 0.
    """
    if len(points) == 0:
        return 0.0
    return float(moocore.hypervolume(points, ref=reference) / np.prod(reference))


def by_worth(points: np.ndarray, reference: np.ndarray) -> list[int]:
    """Indices of points (n, objectives), the most valuable first.

    The point whose loss costs the least hypervolume is removed again and again; the result is the reversed order of
    removal.
    """
    left, taken = list(range(len(points))), []
    while left:
        worth = moocore.hv_contributions(points[left], ref=reference)
        taken.append(left.pop(int(np.argmin(worth))))
    return taken[::-1]


def knee(points: np.ndarray) -> int:
    """Index of the point farthest from the chord between the ends of the front, on the side of better values.

    With every objective scaled to 0 (the front's best) .. 1 (its worst), the chord of two objectives is the line on
    which they sum to 1; with more objectives it is the plane through the same corners. So the farthest point is the one
    with the smallest sum; of equal ones the first.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    return int(np.argmin(scaled.sum(axis=1).round(12)))


def staircase(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices, by rising ``x``, of the points that are non-dominated in small ``x`` and large ``y``."""
    kept = np.flatnonzero(nondominated(np.column_stack([x, -y])))
    return kept[np.argsort(x[kept], kind="stable")]
