"""A sampler of one's own: simulated annealing.

A sampler proposes plans, vectors with one index for each knob, and is told what came of them.
"""

from collections.abc import Sequence

import numpy as np

import autocomp
from autocomp.quickstart import load_network, load_samples
from autocomp.samplers import Outcome, Problem, register


@register("annealing")
class Annealing:
    """Changes a plan in a few knobs and goes on from the new plan where it is better, and now and then where it is
    worse, the less often the more has been evaluated."""

    def __init__(self, problem: Problem) -> None:
        self._space, self._trials = problem.space, problem.trials
        self._rng = np.random.default_rng(problem.seed)
        self._plan, self._energy = np.zeros(len(problem.space.knobs), np.int64), np.inf
        self._scale: np.ndarray | None = None  # (objectives,), of the float network, which is told first
        self._told = 0

    def ask(self, count: int) -> list[np.ndarray]:
        share = max(0.1, 1 / len(self._plan))
        anew = self._rng.random((count, len(self._plan))) < share
        return list(np.where(anew, self._space.random(self._rng, count), self._plan))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.values is not None and np.isfinite(outcome.values).all():
                self._told += 1
                energy = self._energy_of(np.array(outcome.values), outcome.violations)
                temperature = max(0.001, 0.1 * (1 - self._told / self._trials))
                if energy <= self._energy or self._rng.random() < np.exp((self._energy - energy) / temperature):
                    self._plan, self._energy = np.array(outcome.vector), energy

    def _energy_of(self, values: np.ndarray, violations: Sequence[float]) -> float:
        """The sum of the objectives in units of the float network's, and of what the budget forbids."""
        if self._scale is None:
            self._scale = np.maximum(np.abs(values), 1e-9)
        return float((values / self._scale).sum()) + 10 * sum(max(0.0, violation) for violation in violations)


def main(trials: int = 24, samples: int = 500) -> autocomp.ParetoSet:
    data = autocomp.Data(load_samples("calibrate").take(128), load_samples("evaluate").take(samples))
    return autocomp.search(
        load_network(), "latency<75%", "ascend-310p3", data, inputs=(256, 1, 28, 28), sampler="annealing", trials=trials
    )


if __name__ == "__main__":
    print(main())
