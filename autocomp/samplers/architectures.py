"""A sampler for choices of which nothing is known but their costs: operators, kernels, depths of declared networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from .frontier import SHORTLIST, FrontierSampler
from .frontier_surrogate import MOST, RESOLUTION, LossDistribution, Surrogate
from .observations import distinct
from .registry import register

LARGEST = 20_000  # networks of a space whose accuracies are all predicted
ABOVE = 0.005  # so much more than the best known accuracy is thought possible
MAIN, PAIRS, WHOLE = (0.1, 0.5, 2.0), (0.05, 0.5), (0.05, 0.5)  # prior variances, see below
LENGTHS, NOISES, BY_COST = (1.5, 3.0), (0.03,), (0.1, 1.0)
BY_SCORE = (0.0, 0.1, 0.5)  # of scores, where there are some
STRATA = 32  # random networks for each one that scores choose first
Function = Callable[[np.ndarray], np.ndarray]
CONSTANT, TRUST = 4.0, 8
FIRST = 7  # networks that are evaluated before the first fit
PARENTS, CHILDREN = 24, 4000


class ArchitectureSurrogate(Surrogate):
    """A Gaussian process for the logarithm of what networks lack to the best accuracy, in the choices as categories.

    Its covariance has these parts: a constant; the logarithm of the costs, linear; the scores, linear; the share of
    choices in which two networks agree; the share of pairs of choices in which they agree; and the exponential of the
    number of choices in which they differ. How much each counts is taken from a grid by the likelihood.

    costs: vectors -> (n, objectives), as shares of the dearest network's.
    """

    def __init__(
        self, costs: Function, vectors: np.ndarray, losses: np.ndarray, scores: Function | None = None
    ) -> None:
        """vectors: (n, knobs) int; losses: (n,), 0 or more. scores: vectors -> (n,), of mean 0 and variance 1."""
        self._costs, self._promise, self._knobs, self._scale = costs, scores, vectors.shape[1], 1.0
        self._features = described = self._describe(vectors)
        target = np.log(RESOLUTION + losses)
        self._centre = float(target.mean())
        target, best = target - self._centre, -np.inf
        self._parameters: tuple[float, ...] = ()  # type: ignore[assignment]
        by_score = BY_SCORE[:1] if scores is None else BY_SCORE
        for *parameters, noise in product(MAIN, PAIRS, WHOLE, LENGTHS, BY_COST, by_score, NOISES):
            kernel = self._kernel(described, described, tuple(parameters)) + noise**2 * np.eye(len(described))
            factor = cholesky(kernel + 1e-8 * np.eye(len(kernel)), lower=True)
            white = solve_triangular(factor, target, lower=True)
            scale = (TRUST + white @ white) / (TRUST + len(white))
            likelihood = -(len(white) + TRUST) * np.log(scale) / 2 - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best, self._parameters = likelihood, tuple(parameters)
                self._factor, self._white, self._scale = factor, white, scale

    def predict(self, vectors: np.ndarray) -> LossDistribution:
        described = self._describe(vectors)
        cross = self._kernel(described, self._features, self._parameters)
        reduced = solve_triangular(self._factor, cross.T, lower=True)
        mean = self._centre + self._white @ reduced
        variance = self._own(described) - (reduced**2).sum(0)
        return LossDistribution(self, described, mean, np.maximum(variance, 1e-8), reduced)

    def covariance(self, described: np.ndarray, one: np.ndarray) -> np.ndarray:
        return np.asarray(self._kernel(described, one[None], self._parameters)[:, 0])

    def _describe(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 2 + knobs): the logarithm of the costs, the scores, and the choices."""
        scores = np.zeros(len(vectors)) if self._promise is None else self._promise(vectors)
        return np.column_stack([np.log(np.maximum(self._costs(vectors), 1e-3)).mean(1), scores, vectors])

    def _own(self, described: np.ndarray) -> np.ndarray:
        main, pairs, whole, _, cost, score = self._parameters
        linear = cost * described[:, 0] ** 2 + score * described[:, 1] ** 2
        return np.asarray(CONSTANT + main + pairs + whole + linear)

    def _kernel(self, a: np.ndarray, b: np.ndarray, parameters: tuple[float, ...]) -> np.ndarray:
        main, pairs, whole, length, cost, score = parameters
        same = np.zeros((len(a), len(b)))
        for k in range(2, 2 + self._knobs):
            same += a[:, k, None] == b[None, :, k]
        both = same * (same - 1) / max(self._knobs * (self._knobs - 1), 1)
        apart = np.exp((same - self._knobs) / length)
        linear = cost * np.outer(a[:, 0], b[:, 0]) + score * np.outer(a[:, 1], b[:, 1])
        return np.asarray(CONSTANT + linear + main * same / self._knobs + pairs * both + whole * apart)


@register("architectures")
class ArchitectureSampler(FrontierSampler):
    """Like the frontier sampler, where no scores are known: choices are categories, and the network that stands for the
    float one, that of the dearest values, need not be the most accurate. It begins with the cheapest network and with
    random ones; where there are scores, with those that have the best ones among random networks of similar costs."""

    def ask(self, count: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self._problem.seed, self._asked + 1])
        if len(self._observed) >= FIRST:
            return super().ask(count)
        self._asked += 1
        cheapest = (self._space.sizes - 1)[None]
        if self._prior is None:
            drawn = self._new(distinct(np.concatenate([cheapest, self._space.random(rng, 4 * count)])))
            return self._proposed(list(drawn[:count]))
        drawn = self._new(distinct(self._space.random(rng, STRATA * count)))
        over = self._constraint_violation(drawn)
        drawn = drawn[over <= max(0.0, np.sort(over)[: 2 * count].max(initial=0.0))]
        by_cost = drawn[np.argsort(self._costs(drawn).sum(1), kind="stable")]
        parts = [part for part in np.array_split(by_cost, count) if len(part)]
        return self._proposed([part[self._prior(part).argmax()] for part in parts])

    @cached_property
    def _prior(self) -> Function | None:
        """vectors -> (n,): what scores promise, of mean 0 and variance 1 among random networks."""
        if self._problem.scores is None:
            return None
        scores = self.scores
        found = -scores(self._space.random(np.random.default_rng(self._problem.seed), 1000))
        mean, spread = float(found.mean()), float(found.std()) or 1.0
        return lambda vectors: (-scores(vectors) - mean) / spread

    @property
    def _float_accuracy(self) -> float:
        """The best accuracy that is thought possible."""
        return float(self._observed.accuracies.max(initial=0.0)) + ABOVE

    @property
    def _enumerable(self) -> bool:
        return 10**self._space.log10_size <= LARGEST

    def _fitted(self) -> Surrogate:
        seen = self._observed
        kept = np.argsort(seen.below, kind="stable")[:MOST]
        losses = self._float_accuracy - seen.accuracies[kept]
        return ArchitectureSurrogate(self._costs, seen.vectors[kept], losses, self._prior)

    def _pool(self, rng: np.random.Generator, surrogate: Surrogate) -> np.ndarray:
        """The most promising of all networks; of a larger space of random ones, and of those that differ from evaluated
        ones near the front in one or two choices."""
        pool = super()._pool(rng, surrogate) if self._enumerable else self._drawn(rng)
        return self._promising(pool, surrogate, self._gains(), SHORTLIST) if len(pool) else pool

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        near = self._observed.vectors[np.argsort(self._observed.below, kind="stable")[:PARENTS]]
        children = near[rng.integers(0, len(near), CHILDREN)]
        for _ in range(2):
            places = rng.integers(0, children.shape[1], len(children))
            children[np.arange(len(children)), places] = self._space.random(rng, len(children))[
                np.arange(len(children)), places
            ]
        return self._new(distinct(np.concatenate([children, self._space.random(rng, CHILDREN // 2)])))
