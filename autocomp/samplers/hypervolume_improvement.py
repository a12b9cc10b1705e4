"""The expected hypervolume improvement: how much of the objectives' space a plan is expected to add to the front."""

from __future__ import annotations

import numpy as np

CELLS = 4096
CHUNK = 512  # plans at a time


class ExpectedHypervolumeImprovement:
    """The expected hypervolume improvement, computed on the grid that the front's costs span.

    In each cell of that grid the front's best accuracy is one number. A plan adds to each cell that its costs reach:
    the expected excess of its accuracy over that number, times the cell's volume. It is exact while the grid has at
    most 4096 cells; beyond that the cells are coarser.

    costs: (n, objectives) of the front, as shares of ``reference`` 1.
    accuracies: (n,).
    min_accuracy: only accuracy above it counts.
    """

    def __init__(self, costs: np.ndarray, accuracies: np.ndarray, min_accuracy: float) -> None:
        self._edges = [self._cut(column, costs.shape[1]) for column in costs.T]
        self._best = np.full([len(edges) - 1 for edges in self._edges], min_accuracy)
        # Each plan raises the cells from its own on: first those where plans lie, then along each axis.
        columns = zip(self._edges, costs.T, strict=True)
        places = np.array([np.searchsorted(edges[:-1], column - 1e-12) for edges, column in columns])
        inside = (places < np.array(self._best.shape)[:, None]).all(0)
        np.maximum.at(self._best, tuple(places[:, inside]), accuracies[inside])
        for axis in range(self._best.ndim):
            np.maximum.accumulate(self._best, axis, out=self._best)

    @staticmethod
    def _cut(column: np.ndarray, objectives: int) -> np.ndarray:
        edges = np.unique(np.clip(np.concatenate([[0.0, 1.0], column]), 0, 1))
        most = int(CELLS ** (1 / objectives))
        if len(edges) > most + 1:
            edges = edges[np.unique(np.linspace(0, len(edges) - 1, most + 1).round().astype(int))]
        return edges

    def _raise(self, cost: np.ndarray, accuracy: float) -> None:
        """Raise the best accuracy of the cells that the cost reaches completely."""
        reached = [edges[:-1] >= c - 1e-12 for edges, c in zip(self._edges, cost, strict=True)]
        view = np.ix_(*reached)
        self._best[view] = np.maximum(self._best[view], accuracy)

    def add(self, cost: np.ndarray, accuracy: float) -> None:
        """Add a plan that is assumed to be on the front; its costs become edges of the grid while there is room."""
        most = int(CELLS ** (1 / len(self._edges)))
        for axis, (edges, c) in enumerate(zip(self._edges, cost, strict=True)):
            if not 0 < c < 1 or c in edges or len(edges) > 2 * most:
                continue
            at = int(np.searchsorted(edges, c))
            self._edges[axis] = np.insert(edges, at, c)
            self._best = np.insert(self._best, at, np.take(self._best, at - 1, axis=axis), axis=axis)
        self._raise(cost, accuracy)

    def __call__(self, costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
        """(n,): the expected improvement by plans with costs (n, objectives) and equally likely accuracies (n,
        quantiles)."""
        levels = self._levels()
        found = np.zeros(len(costs))
        hopeful = np.flatnonzero(accuracies.max(1, initial=0) > self._at(costs))
        for start in range(0, len(hopeful), CHUNK):
            part = hopeful[start : start + CHUNK]
            found[part] = self._gain(costs[part], accuracies[part], *levels)
        return found

    def _levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct accuracies of the front, rising; the cells in that order; the position in that order of the
        first cell of each accuracy."""
        best = self._best.round(9).reshape(-1)
        order = best.argsort(kind="stable")
        best = best[order]
        first = np.flatnonzero(np.concatenate([[True], best[1:] > best[:-1]]))
        return best[first], order, first

    def _at(self, costs: np.ndarray) -> np.ndarray:
        """(n,): the front's accuracy in the cell of the costs, the lowest of all cells that they reach."""
        columns = zip(self._edges, costs.T, strict=True)
        cells = [np.clip(np.searchsorted(edges, c, "right") - 1, 0, len(edges) - 2) for edges, c in columns]
        return np.asarray(self._best[tuple(cells)])

    def _gain(
        self, costs: np.ndarray, accuracies: np.ndarray, levels: np.ndarray, order: np.ndarray, first: np.ndarray
    ) -> np.ndarray:
        """The sum of (accuracy - level) * volume over the levels below an accuracy, from cumulative sums."""
        volumes = np.add.reduceat(self._overlap(costs)[:, order], first, axis=1)
        reached, filled = np.zeros((2, len(costs), len(levels) + 1))
        np.cumsum(volumes, axis=1, out=reached[:, 1:])
        np.cumsum(volumes * levels, axis=1, out=filled[:, 1:])
        below = np.searchsorted(levels, accuracies)
        each = accuracies * np.take_along_axis(reached, below, 1) - np.take_along_axis(filled, below, 1)
        return np.asarray(each.mean(1))

    def _overlap(self, costs: np.ndarray) -> np.ndarray:
        """(n, cells): the volume of each cell that the costs reach."""
        found = np.ones((len(costs), 1))
        for axis, edges in enumerate(self._edges):
            overlap = np.clip(edges[1:] - np.maximum(edges[:-1], costs[:, axis : axis + 1]), 0, None)
            found = (found[:, :, None] * overlap[:, None, :]).reshape(len(costs), -1)
        return found
