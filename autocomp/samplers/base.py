"""The contract of a sampler, which proposes plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from autocomp.search_spaces import SearchSpace

if TYPE_CHECKING:
    from autocomp.evaluators import Scores

Vector = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """The search problem of a sampler: a space of plans, the number of objectives, and about how many evaluations it
    may ask for.

    The other fields are for samplers that use predictions before they ask for evaluations; each of them may be None.

    costs: vectors, (n, knobs) int -> (n, objectives - 1): all objectives but the accuracy, to be minimised.
    constraint_violation: vectors -> (n,), above 0 where a plan is too costly for the budget.
    min_accuracy: the least accuracy that the budget allows.
    scores: the sensitivity of each value of each knob; called once, when it is needed.
    """

    space: SearchSpace
    objectives: int
    trials: int
    seed: int = 0
    costs: Callable[[np.ndarray], np.ndarray] | None = None
    constraint_violation: Callable[[np.ndarray], np.ndarray] | None = None
    min_accuracy: float | None = None
    scores: Callable[[], Scores] | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of one proposed plan.

    values: of the objectives, all to be minimised. None: there are none (the evaluation failed, or the plan had been
        proposed before); the sampler forgets that it proposed the plan.
    violations: of the budget's bounds, 0 or less where a bound holds. A plan that was rejected for its cost was never
        evaluated; it violates a bound and has the worst possible value in the objectives that were not measured.
    """

    vector: Vector
    values: tuple[float, ...] | None
    violations: tuple[float, ...] = ()


@runtime_checkable
class Sampler(Protocol):
    """Proposes plans and receives their outcomes.

    >>> sampler.tell([Outcome((0, 0), values=(-0.92, 4.1))])     # the float network, which the sampler did not propose
    >>> sampler.ask(2)
    [array([1, 2]), array([0, 3])]
    >>> sampler.tell([Outcome((1, 2), values=(-0.91, 2.2)), Outcome((0, 3), None)])

    Its proposals depend on the problem, the problem's seed and the calls so far, and on nothing else.
    """

    def ask(self, count: int) -> list[np.ndarray]:
        """At most ``count`` vectors, (knobs,) int; an empty list when the sampler has nothing more to propose."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None: ...
