"""What was evaluated, and what follows from it."""

from __future__ import annotations

from functools import cached_property

import moocore
import numpy as np

from autocomp.evaluators import Scores

from .frontier_surrogate import MOST, Surrogate


class Observations:
    """What was evaluated: vectors (n, knobs) int, costs (n, objectives), accuracies (n,); each plan once."""

    def __init__(self, knobs: int, objectives: int) -> None:
        self.vectors, self.costs = np.empty((0, knobs), np.int64), np.empty((0, objectives))
        self.accuracies = np.empty(0)
        self._position: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self.accuracies)

    @cached_property
    def below(self) -> np.ndarray:
        """(n,): see :func:`below_front`."""
        return below_front(self.costs, self.accuracies)

    @classmethod
    def of(cls, vectors: np.ndarray, costs: np.ndarray, accuracies: np.ndarray) -> Observations:
        """Of different plans."""
        found = cls(vectors.shape[1], costs.shape[1])
        found.vectors, found.costs, found.accuracies = vectors, costs, accuracies
        found._position = {row: i for i, row in enumerate(rows(vectors))}
        return found

    def add(self, vectors: np.ndarray, costs: np.ndarray, accuracies: np.ndarray) -> None:
        """Of different plans; what is known of one of them is replaced."""
        self.__dict__.pop("below", None)
        found = rows(vectors)
        new = np.array([row not in self._position for row in found], bool)
        for i in np.flatnonzero(~new):
            self.accuracies[self._position[found[i]]] = accuracies[i]
        self._position |= {found[i]: len(self) + n for n, i in enumerate(np.flatnonzero(new))}
        self.vectors = np.concatenate([self.vectors, vectors[new]])
        self.costs = np.concatenate([self.costs, costs[new]])
        self.accuracies = np.concatenate([self.accuracies, accuracies[new]])

    @property
    def of_float(self) -> float | None:
        """The float network's accuracy."""
        found = self._position.get(rows(np.zeros((1, self.vectors.shape[1]), np.int64))[0])
        return None if found is None else float(self.accuracies[found])


def fit_surrogate(
    scores: Scores, observed: Observations, of_float: float, earlier: Surrogate | None = None
) -> Surrogate:
    """What the evaluated plans say of others.

    of_float: the float network's accuracy. earlier: learned from fewer plans, see :meth:`Surrogate.fit`.
    """
    vectors, accuracies = observed.vectors, observed.accuracies
    if len(vectors) > MOST:
        # The others say little about the front: they lie far below it.
        kept = np.argsort(observed.below, kind="stable")[:MOST]
        vectors, accuracies = vectors[kept], accuracies[kept]
    surrogate = Surrogate(scores)
    surrogate.fit(vectors, of_float - accuracies, earlier)
    return surrogate


def rows(vectors: np.ndarray) -> list[bytes]:
    """Of (n, knobs) int, each as something to look up."""
    return [row.tobytes() for row in np.ascontiguousarray(vectors, np.int16)]


def distinct(vectors: np.ndarray) -> np.ndarray:
    """Each of (n, knobs) int once, where it first stands."""
    first = {row: i for i, row in reversed(list(enumerate(rows(vectors))))}
    return vectors[sorted(first.values())]


def below_front(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """(n,): how much accuracy each lacks to the best plan that costs no more; 0 for those on the front."""
    if not len(costs):
        return np.empty(0)
    best = moocore.is_nondominated(np.column_stack([costs, -accuracies]))
    reached = (costs[None, best] <= costs[:, None] + 1e-12).all(2)
    return np.asarray(np.where(reached, accuracies[best], -np.inf).max(1) - accuracies)
