"""What a sampler is: who proposes plans."""

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
    """What is searched: plans of a space, by so many objectives, in about so many evaluations.

    The rest is for samplers that look before they ask; all of it may be missing.

    costs: vectors, (n, knobs) int -> (n, objectives - 1), the objectives beside the accuracy, minimised.
    constraint_violation: vectors -> (n,), above 0 where a plan is too costly for the budget.
    min_accuracy: the least accuracy that the budget allows.
    scores: how much each value of each knob hurts; called once, when it is needed.
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
    """What became of a proposed plan.

    values: of the objectives, all to be minimised. None: there are none (the evaluation failed, or the plan had been
        proposed before); the sampler forgets that it proposed it.
    violations: of the budget's bounds, 0 or less where a bound holds. A plan that was turned down for its cost, which
        was never evaluated, violates one and has the worst possible value in the objectives that were not measured.
    """

    vector: Vector
    values: tuple[float, ...] | None
    violations: tuple[float, ...] = ()


@runtime_checkable
class Sampler(Protocol):
    """Proposes plans and learns what became of them.

    >>> sampler.tell([Outcome((0, 0), values=(-0.92, 4.1))])     # the float network, which nobody asked for
    >>> sampler.ask(2)
    [array([1, 2]), array([0, 3])]
    >>> sampler.tell([Outcome((1, 2), values=(-0.91, 2.2)), Outcome((0, 3), None)])

    What it proposes follows from the problem, its seed and the calls so far; from nothing else.
    """

    def ask(self, count: int) -> list[np.ndarray]:
        """Vectors, (knobs,) int, at most ``count``; none when the sampler has nothing more to propose."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None: ...
