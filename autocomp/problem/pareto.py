"""Which of many points are worth having; every column of a point is minimised."""

from __future__ import annotations

import moocore
import numpy as np

NEAREST = 10


def nondominated(points: np.ndarray) -> np.ndarray:
    """(n,) bool of (n, objectives): the points that no other beats or equals in all; of equal ones the first."""
    if len(points) == 0:
        return np.zeros(0, bool)
    return np.asarray(moocore.is_nondominated(points), bool)


def on_front(points: np.ndarray, violations: np.ndarray) -> np.ndarray:
    """(n,) bool: of the points within the budget those that no other beats; where there are none, up to ten of those
    that no other beats and is nearer to the budget, the nearest.

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
    """What the points dominate of the box between ``reference`` and 0, as a share of it.

    points: (n, objectives), 0 or more; reference: (objectives,), above 0.
    """
    if len(points) == 0:
        return 0.0
    return float(moocore.hypervolume(points, ref=reference) / np.prod(reference))


def by_worth(points: np.ndarray, reference: np.ndarray) -> list[int]:
    """Indices of (n, objectives), the most valuable first: taken away one after the other, each time the one whose loss
    costs the least hypervolume, and then turned round."""
    left, taken = list(range(len(points))), []
    while left:
        worth = moocore.hv_contributions(points[left], ref=reference)
        taken.append(left.pop(int(np.argmin(worth))))
    return taken[::-1]


def knee(points: np.ndarray) -> int:
    """Index of the point farthest from the chord between the ends of the front, towards the best of everything.

    With every objective scaled to 0 (the front's best) .. 1 (its worst), the chord of two objectives is the line where
    they sum to 1, and of more the plane through the same corners. So the farthest point is the one with the smallest
    sum, the first of equals.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1)
    return int(np.argmin(scaled.sum(axis=1).round(12)))


def staircase(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices, by rising ``x``, of the points that no other beats in small ``x`` and large ``y``."""
    kept = np.flatnonzero(nondominated(np.column_stack([x, -y])))
    return kept[np.argsort(x[kept], kind="stable")]
