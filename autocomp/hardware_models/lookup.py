"""Lookup tables: a value that depends on few knobs is computed once for each combination of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from autocomp.search_spaces import Workload

MOST_COMBINATIONS = 65536


@dataclass(frozen=True)
class Lookup:
    """A function of plans that depends on few knobs only; ``rows``, if present, has its values for their
    combinations.

    where: positions of knobs, each with (values,) of it: the function counts under the values with 1 and not under
    those with 0.
    """

    knobs: tuple[int, ...]
    function: Callable[[Workload], np.ndarray]
    rows: np.ndarray | None = None
    where: tuple[tuple[int, tuple[float, ...]], ...] = ()

    def tabulated(self, workload: Workload) -> Lookup:
        """With a table for the plans of this workload, where there are more plans than combinations."""
        if workload.grid_size(self.knobs) > min(len(workload) // 2, MOST_COMBINATIONS):
            return self
        return replace(self, rows=self.function(workload.grid(self.knobs)))

    def __call__(self, workload: Workload) -> np.ndarray:
        if self.rows is None:
            return self._counted(self.function(workload), workload)
        return self._counted(np.take(self.rows, workload.codes(self.knobs), axis=0), workload)

    def _counted(self, found: np.ndarray, workload: Workload) -> np.ndarray:
        for position, values in self.where:
            counts = np.array(values)[workload.vectors[:, position].astype(np.intp)]
            found = found * counts.reshape(-1, *[1] * (found.ndim - 1))
        return found
