"""What a plan's accuracy will be: additive scores, corrected by what was evaluated."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import norm

from autocomp.evaluators import Scores

RESOLUTION = 0.01  # losses are compared by log(RESOLUTION + loss)
LEAST_SENSITIVITY = 1e-3  # nats, below which nothing is lost
MOST = 300  # evaluations that are learned from
CURVE, SLOPE, CONSTANT = 0.3, 0.1, 0.3  # prior variances of the loss over the total sensitivity
STRETCH = 2.0  # of the logarithm of the total sensitivity
AMPLITUDES, LENGTHS, NOISES = (0.05, 0.2, 0.6), (0.25, 0.5, 1.0), (0.003, 0.01)  # noise: of an accuracy
MANY, NEARLY = 100, 1.25  # evaluations from which on parameters are not chosen anew for a few more
TRUST = 8  # evaluations that the prior variances are worth
QUANTILES = norm.ppf((np.arange(8) + 0.5) / 8)


class Surrogate:
    """A Gaussian process for the logarithm of the lost accuracy.

    Its mean is the loss that a total sensitivity of so many nats usually means. Deviations follow the total
    sensitivity (how sensitive this network's classes are) and the plan itself, as the vector of the roots of its
    sensitivities: two plans that hurt in the same places err alike, which is how interactions of knobs are learned.

    On 181 plans of the quick start's network (8 to 120 of them learned from, the others predicted) fitting all
    parameters by the likelihood was no better than choosing three of them from a grid, which is deterministic.
    """

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._roots = [np.sqrt(sensitivity) for sensitivity in scores.sensitivity]
        self._features = np.empty((0, len(scores.sensitivity) + 1))
        self._parameters, self._scale = (AMPLITUDES[1], LENGTHS[1], NOISES[0]), 1.0
        self._chosen_from = 0

    def fit(self, vectors: np.ndarray, losses: np.ndarray, earlier: Surrogate | None = None) -> None:
        """vectors: (n, knobs) int; losses: (n,), of accuracy, as a share of 1.

        earlier: its parameters are taken where they were chosen from more than a hundred plans and nearly as many.
        """
        self._features = self._describe(vectors)
        losses = np.maximum(losses, -RESOLUTION / 2)
        target = np.log(RESOLUTION + losses) - _usual(self._features[:, 0])
        shared, apart = self._parts(self._features)
        best = -np.inf
        candidates = list(product(AMPLITUDES, LENGTHS, NOISES))
        self._chosen_from = len(vectors)
        if earlier is not None and MANY < len(vectors) < NEARLY * earlier._chosen_from:
            candidates, self._chosen_from = [earlier._parameters], earlier._chosen_from
        for amplitude, length, noise in candidates:
            # What is the same error in accuracy is a smaller one in the logarithm of a larger loss.
            doubt = (noise / (RESOLUTION + np.maximum(losses, 0))) ** 2
            kernel = shared + amplitude * np.exp(-apart / (2 * length**2)) + np.diag(doubt)
            factor = cholesky(kernel + 1e-8 * np.eye(len(kernel)), lower=True)
            white = solve_triangular(factor, target, lower=True)
            scale = (TRUST + white @ white) / (TRUST + len(white))
            likelihood = -(len(white) + TRUST) * np.log(scale) / 2 - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best, self._parameters = likelihood, (amplitude, length, noise)
                self._factor, self._white, self._scale = factor, white, scale

    def predict(self, vectors: np.ndarray) -> Prediction:
        described = self._describe(vectors)
        u, mean = described[:, 0], _usual(described[:, 0])
        amplitude, length, _ = self._parameters
        variance = CONSTANT + SLOPE * u**2 + CURVE + amplitude
        reduced = np.empty((0, len(u)))
        if len(self._features):
            shared, apart = self._parts(described)
            cross = shared + amplitude * np.exp(-apart / (2 * length**2))
            reduced = solve_triangular(self._factor, cross.T, lower=True)
            mean = mean + self._white @ reduced
            variance = variance - (reduced**2).sum(0)
        return Prediction(self, described, mean, np.maximum(variance, 1e-8), reduced)

    def covariance(self, described: np.ndarray, one: np.ndarray) -> np.ndarray:
        """(n,) prior covariances of plans with one of them."""
        amplitude, length, _ = self._parameters
        u, v = described[:, 0], one[0]
        apart = ((described[:, 1:] - one[1:]) ** 2).sum(1)
        shared = CONSTANT + SLOPE * u * v + CURVE * np.exp(-((u - v) ** 2) / (2 * STRETCH**2))
        return np.asarray(shared + amplitude * np.exp(-apart / (2 * length**2)))

    def _describe(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 1 + knobs): the logarithm of the total sensitivity, the root of each knob's."""
        roots = np.stack([root[column] for root, column in zip(self._roots, vectors.T, strict=True)], axis=1)
        return np.column_stack([np.log(LEAST_SENSITIVITY + (roots**2).sum(1)), roots])

    def _parts(self, described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the kernel between these and the learned: what the total sensitivity explains, and squared distances."""
        a, b = described, self._features
        total = a[:, :1] - b[None, :, 0]
        shared = CONSTANT + SLOPE * np.outer(a[:, 0], b[:, 0]) + CURVE * np.exp(-(total**2) / (2 * STRETCH**2))
        squares = (a[:, 1:] ** 2).sum(1)[:, None] + (b[:, 1:] ** 2).sum(1) - 2 * a[:, 1:] @ b[:, 1:].T
        return shared, np.maximum(squares, 0)


class Prediction:
    """Of some plans: ``mean``, (n,), of log(RESOLUTION + loss), and how sure it is."""

    def __init__(
        self, surrogate: Surrogate, described: np.ndarray, mean: np.ndarray, variance: np.ndarray, reduced: np.ndarray
    ) -> None:
        self.mean = mean
        self._surrogate, self._described, self._variance, self._reduced = surrogate, described, variance, reduced

    @property
    def deviation(self) -> np.ndarray:
        return np.asarray(np.sqrt(self._surrogate._scale * self._variance))

    def losses(self, spread: float = 1.0) -> np.ndarray:
        """(n, 8): equally likely values of each plan's loss, rising; ``spread`` scales the doubt."""
        return np.asarray(np.exp(self.mean[:, None] + spread * self.deviation[:, None] * QUANTILES) - RESOLUTION)

    def interval(self, share: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Two (n,): between which each plan's loss lies with this probability."""
        reach = norm.ppf((1 + share) / 2) * self.deviation
        return np.exp(self.mean - reach) - RESOLUTION, np.exp(self.mean + reach) - RESOLUTION

    def expect(self, i: int) -> None:
        """Take the i-th plan for evaluated, with the loss that is predicted: plans like it become as certain."""
        prior = self._surrogate.covariance(self._described, self._described[i])
        row = (prior - self._reduced.T @ self._reduced[:, i]) / np.sqrt(self._variance[i] + 1e-4)
        self._reduced = np.vstack([self._reduced, row])
        self._variance = np.maximum(self._variance - row**2, 1e-8)


def _usual(log_sensitivity: np.ndarray) -> np.ndarray:
    """log(RESOLUTION + loss): half of all classes change at 0.4 nats or so."""
    sensitivity = np.maximum(np.exp(log_sensitivity) - LEAST_SENSITIVITY, 0)
    return np.asarray(np.log(RESOLUTION + 0.85 * -np.expm1(-((sensitivity / 0.4) ** 2))))
