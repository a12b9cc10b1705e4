"""What a search over choices found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autocomp.problem.metrics import METRICS

if TYPE_CHECKING:
    from autocomp.evaluators.fine_tuning import FineTuning

    from .training import NetworkEvaluator


@dataclass(frozen=True)
class Network:
    """One network: the value of each choice, the accuracy that was measured, and the costs by name."""

    choices: Mapping[str, object]
    accuracy: float
    costs: Mapping[str, float]

    def __str__(self) -> str:
        chosen = ", ".join(f"{name}={value}" for name, value in self.choices.items())
        costs = ", ".join(f"{name} {METRICS[name].format(value)}" for name, value in self.costs.items())
        return f"{chosen}: accuracy {100 * self.accuracy:.2f} %, {costs}"


@dataclass(frozen=True)
class TrainedNetwork(Network):
    """One network of a declared space.

    evaluator: made and trained it. settings: of its training. held: the folder of its weights, where it is a temporary
    one.
    """

    evaluator: NetworkEvaluator = field(repr=False)
    settings: FineTuning
    held: Any = field(default=None, repr=False, compare=False)

    def network(self) -> Any:
        """The network, a plain Cell with its trained weights; where their file is gone, it is trained again."""
        return self.evaluator.network(self.choices, self.settings)


@dataclass(frozen=True)
class FoundNetworks(Sequence[Network]):
    """The networks that no evaluated one beats, from the most accurate to the cheapest.

    evaluated: all, in the order of evaluation. stopped: why the search ended. failures: how many could not be
    evaluated.
    """

    front: tuple[Network, ...]
    evaluated: tuple[Network, ...]
    stopped: str = ""
    failures: int = 0
    objectives: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.front)

    def __getitem__(self, i: int) -> Network:  # type: ignore[override]
        return self.front[i]

    def __iter__(self) -> Iterator[Network]:
        return iter(self.front)

    def __str__(self) -> str:
        count, failed = len(self.evaluated), f", {self.failures} failed" if self.failures else ""
        lines = (f"  {network}" for network in self.front)
        return "\n".join([f"{len(self.front)} networks from {count} evaluations{failed}", *lines])
