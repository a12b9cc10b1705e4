"""The evaluated plans, and the surrogate that is fitted to them."""

from __future__ import annotations

import math
from functools import cached_property

import moocore
import numpy as np

from autocomp.evaluators import Scores

from .frontier_surrogate import MOST, Surrogate

CELLS = 1 << 22  # of a table of the front's costs; where a row has more, each plan is compared with each of the front
TOLERANCE = 1e-12  # costs that differ by less are equal


class Observations:
    """Evaluated plans: vectors (n, knobs) int, costs (n, objectives), accuracies (n,); each plan occurs once."""

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
        """Observations of these plans, which must differ from each other."""
        found = cls(vectors.shape[1], costs.shape[1])
        found.vectors, found.costs, found.accuracies = vectors, costs, accuracies
        found._position = {row: i for i, row in enumerate(rows(vectors))}
        return found

    def add(self, vectors: np.ndarray, costs: np.ndarray, accuracies: np.ndarray) -> None:
        """Add plans, which must differ from each other; the accuracy of a plan that is already here is replaced."""
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
    """The surrogate, fitted to the evaluated plans.

    of_float: the float network's accuracy. earlier: a surrogate fitted to fewer plans, see :meth:`Surrogate.fit`.
    """
    vectors, accuracies = observed.vectors, observed.accuracies
    if len(vectors) > MOST:
        # The other plans lie far below the front and say little about it.
        kept = np.argsort(observed.below, kind="stable")[:MOST]
        vectors, accuracies = vectors[kept], accuracies[kept]
    surrogate = Surrogate(scores)
    surrogate.fit(vectors, of_float - accuracies, earlier)
    return surrogate


def rows(vectors: np.ndarray) -> list[bytes]:
    """The rows of (n, knobs) int as hashable keys."""
    return [row.tobytes() for row in np.ascontiguousarray(vectors, np.int16)]


def distinct(vectors: np.ndarray) -> np.ndarray:
    """The distinct rows of (n, knobs) int, in the order of their first occurrence."""
    first = {row: i for i, row in reversed(list(enumerate(rows(vectors))))}
    return vectors[sorted(first.values())]


def below_front(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """(n,): how much less accuracy each plan has than the best plan that costs no more; 0 for plans on the front."""
    if not len(costs):
        return np.empty(0)
    best = moocore.is_nondominated(np.column_stack([costs, -accuracies]))
    return reachable(costs[best], accuracies[best], costs) - accuracies


def reachable(front: np.ndarray, accuracies: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """(n,): for each of the costs, (n, objectives), the best of the accuracies (m,) of plans that cost no more, (m,
    objectives); -inf where there is none."""
    edges = [np.unique(column) for column in front.T]
    shape = [len(some) + 1 for some in edges]
    if math.prod(shape[1:]) > CELLS:
        within = (front[None] <= costs[:, None] + TOLERANCE).all(2)
        return np.asarray(np.where(within, accuracies, -np.inf).max(1))
    # A table of the best accuracy up to each edge of all costs, so many rows of it at a time.
    places, cells = (
        np.array([np.searchsorted(some, column + more, "right") for some, column in zip(edges, given.T, strict=True)])
        for given, more in ((front, 0.0), (costs, TOLERANCE))
    )
    found, carried = np.empty(len(costs)), np.full(shape[1:], -np.inf)
    step = max(1, CELLS // math.prod(shape[1:]))
    for start in range(0, shape[0], step):
        table = np.full([min(step, shape[0] - start), *shape[1:]], -np.inf)
        some, asked = (np.flatnonzero((rank[0] >= start) & (rank[0] < start + step)) for rank in (places, cells))
        np.maximum.at(table, (places[0, some] - start, *places[1:, some]), accuracies[some])
        for axis in range(1, table.ndim):
            np.maximum.accumulate(table, axis, out=table)
        table[0] = np.maximum(table[0], carried)
        np.maximum.accumulate(table, 0, out=table)
        carried = table[-1]
        at = (cells[0, asked] - start, *cells[1:, asked])
        found[asked] = table[at]
    return found
