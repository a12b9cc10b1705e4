"""What each value of each choice promises, told from the zero-cost proxy of some random networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from autocomp.evaluators import Measure, Scores
from autocomp.process.steps import Steps

from .declared import NetworkSpace
from .declared_choices import DeclaredChoices
from .proxies import Proxy
from .training import Labelled

NETWORKS, SAMPLES = 32, 32
RIDGE = 1.0  # in networks


@dataclass(frozen=True)
class ProxyScores:
    """The scores of a study: how much worse than the first value of its choice each value looks, untrained.

    The ranks of the proxy among random networks are fitted by a sum over their choices (ridge regression).
    """

    choices: DeclaredChoices
    networks: NetworkSpace
    proxy: Proxy
    samples: Labelled
    seed: int = 0
    progress: bool | None = False

    def __call__(self, measure: Measure) -> Scores:
        """measure: evaluates plans, which is not needed here."""
        space = self.choices.space
        vectors = space.random(np.random.default_rng(self.seed), NETWORKS)
        with Steps(self.progress) as steps:
            steps.begin("looking at untrained networks")
            ranks = rankdata([self._of(vector) for vector in vectors]) / len(vectors)
        return Scores(additive(vectors, space.sizes, ranks))

    def _of(self, vector: np.ndarray) -> float:
        x, y = (array[:SAMPLES] for array in self.samples)
        net = self.networks.network(self.choices.chosen(vector.tolist()), self.seed)
        return float(self.proxy(net, x, y))


def additive(vectors: np.ndarray, sizes: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """For each choice, how much lower the target is with each value than with the first."""
    columns = np.concatenate([vectors[:, i, None] == np.arange(size) for i, size in enumerate(sizes)], axis=1)
    centred = columns - columns.mean(0)
    gram = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
    effects = np.split(np.linalg.solve(gram, centred.T @ (targets - targets.mean())), np.cumsum(sizes)[:-1])
    return tuple(tuple((effect[0] - effect).tolist()) for effect in effects)
