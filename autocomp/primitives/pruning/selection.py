"""Chooses the units that stay, from their importance and the share of the network that may stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from autocomp.search_spaces import ChannelGroup, NetworkGraph, kept_units

from .channel_pruning import keep_step
from .cut_cost import CutCost, macs_cost, parameters_cost, units_cost

NOT_RATED = np.inf  # the importance of a unit that stays, whatever the share


@dataclass(frozen=True)
class Share:
    """The share of a network that stays: exactly one of the first three, each relative to the float network, in (0, 1).

    keep_ratio: of the units. flops: of the multiply-accumulates. parameters: of their elements.
    per_layer: the same ratio in every channel group; otherwise the units of all groups compete.
    channel_divisor: units are cut in multiples of it; a group smaller than twice the divisor is cut in eighths of its
        units.
    min_keep_ratio: the least share of each group's units that stays, and at least one divisor of them does; with
        per_layer it is at most keep_ratio.
    per_cost: units compete by their importance divided by their cost, in the measure of the share, instead of by
        importance alone.
    """

    keep_ratio: float | None = None
    flops: float | None = None
    parameters: float | None = None
    per_layer: bool = False
    channel_divisor: int = 1
    min_keep_ratio: float = 0.1
    per_cost: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("keep_ratio", "flops", "parameters")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) != 1:
            found = ", ".join(given) or "none of them"
            raise ValueError(f"exactly one of keep_ratio, flops and parameters must be given, but got {found}")
        ((name, value),) = given.items()
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), but got {name}={value}")
        if self.channel_divisor < 1:
            raise ValueError(f"channel_divisor must be 1 or more, but got channel_divisor={self.channel_divisor}")
        if not 0 <= self.min_keep_ratio < 1:
            raise ValueError(f"min_keep_ratio must be in [0, 1), but got min_keep_ratio={self.min_keep_ratio}")
        if self.per_layer and self.keep_ratio is not None and self.min_keep_ratio > self.keep_ratio:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} of every group cannot be reached with "
                f"min_keep_ratio={self.min_keep_ratio}: min_keep_ratio must be keep_ratio or less where per_layer=True"
            )
        if self.per_layer and self.per_cost:
            raise ValueError("units do not compete where per_layer=True: leave out per_cost")

    @property
    def name(self) -> str:
        return next(name for name in ("keep_ratio", "flops", "parameters") if getattr(self, name) is not None)

    @property
    def value(self) -> float:
        return float(getattr(self, self.name))

    def in_rounds(self, rounds: int) -> list[Share]:
        """Shares that lead to this one in so many rounds, each the same fraction of the one before."""
        return [replace(self, **{self.name: self.value ** ((i + 1) / rounds)}) for i in range(rounds)]

    def cost(self, graph: NetworkGraph, parameters: Mapping[str, np.ndarray]) -> CutCost:
        if self.flops is not None:
            return macs_cost(graph)
        return units_cost(graph) if self.parameters is None else parameters_cost(graph, parameters)


Price = Callable[[np.ndarray], float]


def mean_importance(importance: np.ndarray) -> float:
    return float(importance.mean())


def select(
    graph: NetworkGraph,
    parameters: Mapping[str, np.ndarray],
    importance: np.ndarray,
    share: Share,
    price: Price = mean_importance,
) -> np.ndarray:
    """(units,) bool, the units that stay.

    importance: (units,), NOT_RATED for units that must stay. price: of channel_divisor units, from their importance;
        where groups compete the units with the lowest price are cut first.

    Raises:
        ValueError: min_keep_ratio does not allow the share of the network; it names the smallest share that is allowed.
    """
    ladders = [_Ladder.of(group, importance, share) for group in graph.channel_groups]
    if share.per_layer and share.keep_ratio is not None:
        return _kept_at(graph, ladders, share.keep_ratio)
    cost = share.cost(graph, parameters)
    whole = cost.of(np.ones(graph.unit_count, bool))
    target = share.value * whole
    if share.per_layer:
        kept = _alike(graph, cost, ladders, target)
    else:
        kept = _competing(cost, ladders, importance, target, price, share.per_cost)
    if (left := cost.of(kept)) > target + 0.5:
        raise ValueError(
            f"{share.name}={share.value} cannot be reached: with min_keep_ratio={share.min_keep_ratio} and "
            f"channel_divisor={share.channel_divisor} {left / whole:.3f} of them stay"
        )
    return kept


@dataclass(frozen=True)
class _Ladder:
    """A group's units from the least to the most important, and the number of units that each step keeps; the first
    keeps all."""

    group: ChannelGroup
    order: np.ndarray
    counts: tuple[int, ...]

    @classmethod
    def of(cls, group: ChannelGroup, importance: np.ndarray, share: Share) -> _Ladder:
        rated = importance[group.start : group.stop]
        step = keep_step(group, share.channel_divisor)
        least = max(step, math.ceil(share.min_keep_ratio * group.units), int((rated == NOT_RATED).sum()))
        multiples = range(step * ((group.units - 1) // step), 0, -step)
        counts = (group.units, *(count for count in multiples if count >= least))
        return cls(group, group.start + np.argsort(rated, kind="stable"), counts)

    def cut(self, rung: int) -> np.ndarray:
        """The units that are cut at this step."""
        return self.order[: self.group.units - self.counts[rung]]

    def rung(self, ratio: float) -> int:
        """The first step that keeps at most this share; the last step where none does."""
        wanted = kept_units(self.group.units, ratio)
        return next((i for i, count in enumerate(self.counts) if count <= wanted), len(self.counts) - 1)


def _alike(graph: NetworkGraph, cost: CutCost, ladders: list[_Ladder], target: float) -> np.ndarray:
    """The largest common ratio that meets the target, or the least that the groups allow."""
    ratios = sorted({count / ladder.group.units for ladder in ladders for count in ladder.counts}, reverse=True)
    low, high = 0, len(ratios) - 1
    while low < high:
        middle = (low + high) // 2
        if cost.of(_kept_at(graph, ladders, ratios[middle])) <= target:
            high = middle
        else:
            low = middle + 1
    return _kept_at(graph, ladders, ratios[low])


def _kept_at(graph: NetworkGraph, ladders: list[_Ladder], ratio: float) -> np.ndarray:
    kept = np.ones(graph.unit_count, bool)
    for ladder in ladders:
        kept[ladder.cut(ladder.rung(ratio))] = False
    return kept


def _competing(
    cost: CutCost, ladders: list[_Ladder], importance: np.ndarray, target: float, price: Price, per_cost: bool
) -> np.ndarray:
    """The units with the lowest price are cut, channel_divisor at a time, until the target is met."""
    kept = np.ones(len(importance), bool)
    rungs = [0] * len(ladders)
    while cost.of(kept) > target:
        best, least = None, np.inf
        slopes = cost.slopes(kept) if per_cost else np.ones(len(kept))
        for i, ladder in enumerate(ladders):
            if rungs[i] + 1 < len(ladder.counts):
                divisor = ladder.cut(rungs[i] + 1)[len(ladder.cut(rungs[i])) :]
                asked = price(importance[divisor]) / max(float(slopes[divisor].mean()), 1e-12)
                if asked < least:
                    best, least = i, asked
        if best is None:
            break
        rungs[best] += 1
        kept[ladders[best].cut(rungs[best])] = False
    return kept
