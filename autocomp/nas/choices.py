"""From choices to a search space: values in the order of their costs, and the costs of many networks at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from autocomp.hardware_models import Cost
from autocomp.problem.metrics import METRICS
from autocomp.rules import shown
from autocomp.search_spaces import Knob, NetworkGraph, Plan, SearchSpace

Chosen = Mapping[str, object]
Costs = Callable[[Chosen], Mapping[str, float] | None]

ENUMERABLE = 20_000  # networks whose costs are all computed before the search
SAMPLED = 512  # networks from which the order of values is taken in larger spaces
FAR = 1000.0  # times the dearest network costs one that does not exist, as the study sees it


class ChoiceSpace:
    """A search space of choices. The values of each stand in the order of what they cost, the dearest first: that one
    stands for the network as it is, and stronger values cost less.

    choices: name -> its values, at least one. costs: of a network, by the names that a budget uses; None for one that
        does not exist.
    """

    def __init__(self, choices: Mapping[str, Sequence[object]], costs: Costs) -> None:
        self.given = {str(name): tuple(values) for name, values in choices.items()}
        self._costs = costs
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        self._table: np.ndarray | None = None  # of all networks, where they are few
        self.names = self._named()
        self.order = {name: np.arange(len(values)) for name, values in self.given.items()}
        self.order = self._by_cost()
        self._known.clear()
        if math.prod(self.sizes) <= ENUMERABLE:
            self._table = self.values(self._probed())
        self.space = SearchSpace(NetworkGraph((), ()), tuple(self._knob(name) for name in self.given))

    def _knob(self, name: str) -> Knob:
        """Its values are the positions of those that were given, as text, since these may be anything."""
        return Knob(f"choice/{name}", "choice", (), tuple(map(str, self.order[name].tolist())))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.given.values())

    def chosen(self, vector: Sequence[int]) -> dict[str, object]:
        """The value of each choice."""
        pairs = zip(self.given.items(), vector, strict=True)
        return {name: values[self.order[name][int(i)]] for (name, values), i in pairs}

    def of_plan(self, plan: Plan) -> dict[str, object]:
        return self.chosen(self.space.encode(plan).tolist())

    def values(self, vectors: np.ndarray) -> np.ndarray:
        """(n, costs): of each network; NaN where it does not exist."""
        vectors = np.atleast_2d(vectors)
        if self._table is not None:
            return self._table[np.ravel_multi_index(tuple(vectors.T), self.sizes)]
        return np.array([self._of(tuple(row)) for row in vectors.tolist()])

    def _of(self, vector: tuple[int, ...]) -> np.ndarray:
        if vector not in self._known:
            found = self._costs(self.chosen(vector))
            self._known[vector] = np.full(len(self.names), np.nan) if found is None else self._checked(found)
        return self._known[vector]

    def _checked(self, found: Mapping[str, float]) -> np.ndarray:
        if missing := [name for name in self.names if name not in found]:
            raise ValueError(f"costs must give {missing[0]} for every network, but got {shown('costs', dict(found))}")
        values = np.array([float(found[name]) for name in self.names])
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"costs must be finite and 0 or more, but got {shown('costs', dict(found))}")
        return values

    def _named(self) -> tuple[str, ...]:
        """The costs that a network has, of the first that exists."""
        rng = np.random.default_rng(0)
        self.order = {name: np.arange(len(values)) for name, values in self.given.items()}
        for vector in [[0] * len(self.sizes), *rng.integers(0, self.sizes, (SAMPLED, len(self.sizes))).tolist()]:
            if (found := self._costs(self.chosen(vector))) is not None:
                if not isinstance(found, Mapping) or not found or not found.keys() <= METRICS.keys():
                    raise ValueError(f"costs must have names of {', '.join(METRICS)}, but got {shown('costs', found)}")
                return tuple(found)
        raise ValueError(f"costs must know networks, but gave None for all of {SAMPLED} random ones")

    def _by_cost(self) -> dict[str, np.ndarray]:
        """For each choice the positions of its values by their mean cost among random networks, the dearest first."""
        vectors = self._probed()
        costs = self.values(vectors)
        exists = np.isfinite(costs[:, 0])
        vectors, costs = vectors[exists], costs[exists]
        total = (costs / np.maximum(costs.mean(0), 1e-12)).sum(1)
        found = {}
        for place, (name, values) in enumerate(self.given.items()):
            rows = [total[vectors[:, place] == i] for i in range(len(values))]
            means = np.array([row.mean() if len(row) else total.mean() for row in rows])
            found[name] = np.argsort(-means, kind="stable")
        return found

    def _probed(self) -> np.ndarray:
        """All networks of a small space, else random ones."""
        count = math.prod(self.sizes)
        if count <= ENUMERABLE:
            return np.stack(np.unravel_index(np.arange(count), self.sizes), axis=1)
        return np.random.default_rng(0).integers(0, self.sizes, (SAMPLED, len(self.sizes)))

    def exists(self, vector: Sequence[int]) -> bool:
        return bool(np.isfinite(self.values(np.array(vector))[0, 0]))

    @cached_property
    def _far(self) -> np.ndarray:
        return FAR * np.maximum(self.values(np.zeros(len(self.sizes), np.int64))[0], 1e-9)

    def costs(self, vectors: np.ndarray) -> Cost:
        """As the study reads them; those that were not given are 1."""
        found = self.values(vectors)
        found = np.where(np.isfinite(found), found, self._far)
        columns = {METRICS[name].attribute: found[:, i] for i, name in enumerate(self.names)}
        return Cost(**{name: columns.get(name, np.ones(len(found))) for name in Cost.metrics()})
