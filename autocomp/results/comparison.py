"""Two fronts, or two points, side by side: what is better where, and what differs in the plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.problem.metrics import METRICS, shown, shown_change
from autocomp.problem.pareto import hypervolume

from .front_protocol import Front
from .point import Point
from .wording import share


@dataclass(frozen=True)
class FrontComparison:
    """Two fronts in the costs that both minimise.

    costs: their names. as_shares: whether costs are shares of each front's own float network, since the devices differ.
    hypervolumes: of each, both from one reference point. dominated: share of each front's points that a point of the
    other front dominates. ahead: for accuracies from the highest, (accuracy, cost of the first, of the second, cheaper:
    0, 1 or None where they are alike), in the first of the costs; NaN where a front has no point so accurate.
    """

    names: tuple[str, str]
    costs: tuple[str, ...]
    as_shares: bool
    hypervolumes: tuple[float, float]
    dominated: tuple[float, float]
    ahead: tuple[tuple[float, float, float, int | None], ...]
    scale: float = 0.0

    @classmethod
    def of(cls, first: Front, second: Front, names: tuple[str, str] = ("first", "second")) -> FrontComparison:
        """ValueError for fronts of two metrics, or that minimise no common cost."""
        ours, theirs = first.float_point, second.float_point
        if ours.metric != theirs.metric:
            raise ValueError(
                f"fronts that are compared must have one metric, but got {ours.metric} and {theirs.metric}"
            )
        costs = tuple(name for name in first.objectives if name in second.objectives)
        if not costs:
            rule = "fronts that are compared must minimise a common cost"
            raise ValueError(f"{rule}, but got {', '.join(first.objectives)} and {', '.join(second.objectives)}")
        as_shares = first.device != second.device
        points = (_matrix(first, costs, as_shares), _matrix(second, costs, as_shares))
        reference = np.array([1.0, *(max(_cost(own, name, as_shares) for own in (ours, theirs)) for name in costs)])
        return cls(
            names,
            costs,
            as_shares,
            (hypervolume(points[0], reference), hypervolume(points[1], reference)),
            (_dominated(points[0], points[1]), _dominated(points[1], points[0])),
            tuple(_ahead(points[0], points[1])),
            ours.scale,
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN is None."""
        rows = [[None if isinstance(x, float) and np.isnan(x) else x for x in row] for row in self.ahead]
        return {
            "names": self.names,
            "costs": self.costs,
            "as_shares": self.as_shares,
            "hypervolumes": self.hypervolumes,
            "dominated": self.dominated,
            "ahead": [dict(zip(("accuracy", "first", "second", "cheaper"), row, strict=True)) for row in rows],
        }

    def __str__(self) -> str:
        lines = [
            f"{name}: hypervolume {volume:.3f} over {', '.join(self.costs)}, {lost:.0%} of its points are dominated"
            for name, volume, lost in zip(self.names, self.hypervolumes, self.dominated, strict=True)
        ]
        if self.as_shares:
            lines.append("the devices differ: costs are shares of the float network's")
        return "\n".join([*lines, f"{self.costs[0]} at an accuracy of at least", *map(self._line, self.ahead)])

    def _line(self, row: tuple[float, float, float, int | None]) -> str:
        accuracy, *costs, cheaper = row
        texts = ["no point" if np.isnan(cost) else self._shown(cost) for cost in costs]
        best = "alike" if cheaper is None else f"{self.names[cheaper]} is cheaper"
        return f"  {shown(accuracy, self.scale)}: {texts[0]} and {texts[1]}, {best}"

    def _shown(self, cost: float) -> str:
        return share(cost) if self.as_shares else METRICS[self.costs[0]].format(cost)


@dataclass(frozen=True)
class PointComparison:
    """Two points. plan: place -> the choices of both, where they differ; None: the place is left as it is.

    costs: name -> both predicted costs. accuracies: of both.
    """

    names: tuple[str, str]
    accuracies: tuple[float, float]
    costs: dict[str, tuple[float, float]]
    plan: dict[str, tuple[Any, Any]]
    scale: float = 0.0

    @classmethod
    def of(
        cls,
        first: Point,
        second: Point,
        metrics: Sequence[str] = ("latency", "size"),
        names: tuple[str, str] | None = None,
    ) -> PointComparison:
        places = dict.fromkeys((*first.plan, *second.plan))
        pairs = {place: (first.plan.get(place), second.plan.get(place)) for place in places}
        costs = {name: (first.value(name), second.value(name)) for name in metrics}
        changed = {place: pair for place, pair in pairs.items() if pair[0] != pair[1]}
        return cls(names or (first.name, second.name), (first.accuracy, second.accuracy), costs, changed, first.scale)

    def as_dict(self) -> dict[str, Any]:
        return {"names": self.names, "accuracies": self.accuracies, "costs": self.costs, "plan": self.plan}

    def __str__(self) -> str:
        change = shown_change(self.accuracies[1] - self.accuracies[0], self.scale)
        lines = [f"{self.names[0]}", f"{self.names[1]}", f"accuracy: {change} in the second"]
        for name, (one, other) in self.costs.items():
            ratio = share(other / one) if one else "100 %"
            lines.append(f"{name}: {METRICS[name].format(one)} and {METRICS[name].format(other)} ({ratio})")
        width = max(map(len, self.plan), default=0)
        lines += [f"  {place:{width}}  {_choice(one)} -> {_choice(other)}" for place, (one, other) in self.plan.items()]
        return "\n".join(lines)


def _choice(value: Any) -> str:
    return "as it is" if value is None else str(value)


def _cost(point: Point, name: str, as_share: bool) -> float:
    return point.ratio(name) if as_share else point.value(name)


def _matrix(front: Front, costs: Sequence[str], as_shares: bool) -> np.ndarray:
    rows = [[1 - point.accuracy, *(_cost(point, name, as_shares) for name in costs)] for point in front]
    return np.array(rows, np.float64).reshape(len(front), 1 + len(costs))


def _dominated(points: np.ndarray, others: np.ndarray) -> float:
    """The share of the points that one of the others dominates."""
    if not len(points) or not len(others):
        return 0.0
    no_worse = (others[None] <= points[:, None]).all(2)
    better = (others[None] < points[:, None]).any(2)
    return float((no_worse & better).any(1).mean())


def _ahead(first: np.ndarray, second: np.ndarray, steps: int = 6) -> list[tuple[float, float, float, int | None]]:
    """At accuracies between the best and the worst of both fronts, the least cost of each."""
    errors = np.concatenate([first[:, 0], second[:, 0]])
    found = []
    for error in np.linspace(errors.min(), errors.max(), steps):
        one, other = (_least(points, error) for points in (first, second))
        ratio = one / other if other else np.inf
        unlike = np.isnan(ratio) or abs(ratio - 1) > 1e-3
        cheaper = (int(np.isnan(one) or one > other)) if unlike else None
        found.append((float(1 - error), one, other, cheaper))
    return found


def _least(points: np.ndarray, error: float) -> float:
    fits = points[points[:, 0] <= error + 1e-12, 1]
    return float(fits.min()) if fits.size else float("nan")
