"""What a plan's accuracy will be: additive scores, corrected by what was evaluated."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import norm

from autocomp.evaluators import Scores

RESOLUTION = 0.01  # losses are compared by log(RESOLUTION + loss)
LEAST_DAMAGE = 1e-3  # nats, below which nothing is lost
MOST = 300  # evaluations that are learned from
CURVE, SLOPE, CONSTANT = 0.3, 0.1, 0.3  # prior variances of the loss over the total damage
STRETCH = 2.0  # of the logarithm of the total damage
AMPLITUDES, LENGTHS, NOISES = (0.05, 0.2, 0.6), (0.25, 0.5, 1.0), (0.01, 0.05)
QUANTILES = norm.ppf((np.arange(8) + 0.5) / 8)


class Surrogate:
    """A Gaussian process for the logarithm of the lost accuracy.

    Its mean is the loss that a total damage of so many nats usually means. Deviations follow the total damage (how
    sensitive this network's classes are) and the plan itself, as the vector of the roots of its damages: two plans
    that hurt in the same places err alike, which is how interactions of knobs are learned.

    On 181 plans of the quick start's network (8 to 120 of them learned from, the others predicted) fitting all
    parameters by the likelihood was no better than choosing three of them from a grid, which is deterministic.
    """

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._roots = [np.sqrt(damage) for damage in scores.damage]
        self._features = np.empty((0, len(scores.damage) + 1))

    def fit(self, vectors: np.ndarray, losses: np.ndarray) -> None:
        """vectors: (n, knobs) int; losses: (n,), of accuracy, as a share of 1."""
        self._features = self._describe(vectors)
        target = np.log(RESOLUTION + np.maximum(losses, -RESOLUTION / 2)) - _usual(self._features[:, 0])
        shared, apart = self._parts(self._features)
        self._best = (-np.inf, 0.0, 0.0, 0.0)
        for amplitude, length, noise in product(AMPLITUDES, LENGTHS, NOISES):
            kernel = shared + amplitude * np.exp(-apart / (2 * length**2)) + noise * np.eye(len(target))
            factor = cho_factor(kernel, lower=True)
            solved = cho_solve(factor, target)
            likelihood = -target @ solved / 2 - np.log(np.diag(factor[0])).sum()
            if likelihood > self._best[0]:
                self._best = (float(likelihood), amplitude, length, noise)
                self._factor, self._solved = factor, solved

    def losses(self, vectors: np.ndarray, spread: float = 1.0) -> np.ndarray:
        """(n, 8): equally likely values of each plan's loss, rising; ``spread`` scales the doubt."""
        mean, deviation = self.predict(vectors)
        return np.asarray(np.exp(mean[:, None] + spread * deviation[:, None] * QUANTILES) - RESOLUTION)

    def predict(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation, (n,) each, of log(RESOLUTION + loss)."""
        described = self._describe(vectors)
        mean = _usual(described[:, 0])
        if not len(self._features):
            return mean, np.full(len(mean), np.sqrt(CURVE + AMPLITUDES[1]))
        _, amplitude, length, noise = self._best
        shared, apart = self._parts(described)
        cross = shared + amplitude * np.exp(-apart / (2 * length**2))
        u = described[:, 0]
        prior = CONSTANT + SLOPE * u**2 + CURVE + amplitude + noise
        explained = np.einsum("ij,ji->i", cross, cho_solve(self._factor, cross.T))
        return mean + cross @ self._solved, np.sqrt(np.maximum(prior - explained, noise))

    def _describe(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 1 + knobs): the logarithm of the total damage, the root of each knob's."""
        roots = np.stack([root[column] for root, column in zip(self._roots, vectors.T, strict=True)], axis=1)
        return np.column_stack([np.log(LEAST_DAMAGE + (roots**2).sum(1)), roots])

    def _parts(self, described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the kernel between these and the learned: what the total damage explains, and squared distances."""
        a, b = described, self._features
        total = a[:, :1] - b[None, :, 0]
        shared = CONSTANT + SLOPE * np.outer(a[:, 0], b[:, 0]) + CURVE * np.exp(-(total**2) / (2 * STRETCH**2))
        squares = (a[:, 1:] ** 2).sum(1)[:, None] + (b[:, 1:] ** 2).sum(1) - 2 * a[:, 1:] @ b[:, 1:].T
        return shared, np.maximum(squares, 0)


def _usual(log_damage: np.ndarray) -> np.ndarray:
    """log(RESOLUTION + loss): half of all classes change at 0.4 nats or so."""
    damage = np.maximum(np.exp(log_damage) - LEAST_DAMAGE, 0)
    return np.asarray(np.log(RESOLUTION + 0.85 * -np.expm1(-((damage / 0.4) ** 2))))
