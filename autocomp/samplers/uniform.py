"""Baselines that every sampler must beat: the same ratio or bits everywhere, and random plans."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from autocomp.search_spaces import Knob, SearchSpace, Value, split_value

from .base import Outcome, Problem
from .registry import register


def uniform_plans(space: SearchSpace) -> np.ndarray:
    """(n, knobs) int: for each kind of knob one value everywhere, in all combinations of the kinds; the float plan
    first.

    A narrow group has few ratios, since kept channels are multiples of the divisor: where it lacks a ratio it takes the
    nearest that it has. A layer that lacks a format stays as it is.
    """
    kinds = list(dict.fromkeys(knob.kind for knob in space.knobs))
    of_kind = [_values([knob for knob in space.knobs if knob.kind == kind]) for kind in kinds]
    plans = [
        tuple(_index(knob, combination[kinds.index(knob.kind)]) for knob in space.knobs)
        for combination in product(*of_kind)
    ]
    return np.array(list(dict.fromkeys(plans)), np.int64).reshape(-1, len(space.knobs))


def spread(plans: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The plans in an order in which every first part covers the space well: the next plan is the one farthest from
    those before."""
    scaled = plans / np.maximum(sizes - 1, 1)
    order = [0]
    distance = np.full(len(plans), np.inf)
    for _ in range(len(plans) - 1):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[-1]], axis=1))
        order.append(int(np.argmax(distance)))
    return plans[order]


def _values(knobs: list[Knob]) -> list[Value]:
    """All values of knobs of one kind, from the mildest to the strongest."""
    known: dict[Value, float] = {}
    for knob in knobs:
        for i, value in enumerate(knob.values):
            known[value] = max(known.get(value, 0.0), i)
    return sorted(known, key=lambda value: known[value])


def _index(knob: Knob, value: Value) -> int:
    if value in knob.values:
        return knob.index(value)
    if knob.kind != "keep":
        return 0
    ratio, primitive = split_value(value)

    def distance(i: int) -> tuple[float, bool]:
        own, its = split_value(knob.values[i])
        return abs(float(own) - float(ratio)), its != primitive

    return min(range(len(knob.values)), key=distance)


@register("uniform")
class UniformSampler:
    """Proposes the same ratio or bits everywhere; it ends when all combinations have been proposed."""

    def __init__(self, problem: Problem) -> None:
        self._left = list(spread(uniform_plans(problem.space), problem.space.sizes))

    def ask(self, count: int) -> list[np.ndarray]:
        taken, self._left = self._left[:count], self._left[count:]
        return taken

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """It does not use outcomes."""


@register("random")
class RandomSampler:
    """Draws each value of a knob with equal probability."""

    def __init__(self, problem: Problem) -> None:
        self._space = problem.space
        self._rng = np.random.default_rng(problem.seed)

    def ask(self, count: int) -> list[np.ndarray]:
        return list(self._space.random(self._rng, count))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """It does not use outcomes."""
