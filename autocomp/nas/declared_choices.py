"""The choices of a declared network as a search space, with the costs of its networks."""

from __future__ import annotations

import numpy as np

from autocomp.problem.metrics import METRICS

from .choices import ChoiceSpace, Chosen
from .network_costs import NetworkCosts


class DeclaredChoices(ChoiceSpace):
    """See :class:`ChoiceSpace`. names: the costs that the search minimises."""

    def __init__(self, costs: NetworkCosts, names: tuple[str, ...]) -> None:
        self.network_costs, self._names = costs, names
        super().__init__(costs.choices, self.of_network)

    def of_network(self, chosen: Chosen) -> dict[str, float]:
        """The costs of one network, from its own graph."""
        found = self.network_costs.of_network(chosen)
        return {name: float(getattr(found, METRICS[name].attribute)) for name in self._names}

    def _named(self) -> tuple[str, ...]:
        return self._names

    def values(self, vectors: np.ndarray) -> np.ndarray:
        """(n, costs): of all networks together."""
        vectors = np.atleast_2d(vectors)
        positions = np.column_stack([self.order[name][vectors[:, i]] for i, name in enumerate(self.given)])
        found = self.network_costs(positions)
        return np.stack([getattr(found, METRICS[name].attribute) for name in self._names], axis=1)
