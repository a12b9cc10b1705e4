"""What depends on few knobs is computed once for each of their combinations, then looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from autocomp.search_spaces import Workload

MOST_COMBINATIONS = 65536


@dataclass(frozen=True)
class Lookup:
    """A function of plans that looks at few knobs only: ``rows``, where present, holds it for their combinations."""

    knobs: tuple[int, ...]
    function: Callable[[Workload], np.ndarray]
    rows: np.ndarray | None = None

    def tabulated(self, workload: Workload) -> Lookup:
        """For the plans of this workload, where there are more of them than combinations."""
        if workload.grid_size(self.knobs) > min(len(workload) // 2, MOST_COMBINATIONS):
            return self
        return replace(self, rows=self.function(workload.grid(self.knobs)))

    def __call__(self, workload: Workload) -> np.ndarray:
        if self.rows is None:
            return self.function(workload)
        return np.take(self.rows, workload.codes(self.knobs), axis=0)
