"""A surrogate for the accuracy of plans: additive scores, corrected by evaluations."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.stats import norm

from autocomp.evaluators import Scores

RESOLUTION = 0.01  # losses are compared by log(RESOLUTION + loss)
LEAST_SENSITIVITY = 1e-3  # nats, below which nothing is lost
MOST = 300  # most evaluations that it is fitted to
CURVE, SLOPE, CONSTANT = 0.3, 0.1, 0.3  # prior variances of the loss's logarithm over the total sensitivity
STRETCH = 2.0  # of the logarithm of the total sensitivity
AMPLITUDES, LENGTHS, NOISES = (0.05, 0.2, 0.6), (0.25, 0.5, 1.0), (0.003, 0.01)  # noise: of an accuracy
MANY, NEARLY = 100, 1.25  # beyond 100 evaluations, parameters are chosen again when there are 1.25 times as many
TRUST = 8  # weight of the prior variances, in evaluations
QUANTILES = norm.ppf((np.arange(8) + 0.5) / 8)


class Surrogate:
    """A Gaussian process for the logarithm of the lost accuracy.

    Its mean is the usual loss at a total sensitivity of so many nats. The deviations from it depend on the total
    sensitivity (how sensitive this network's classes are) and on the plan itself, described by the square roots of its
    knobs' sensitivities. Two plans that are sensitive in the same knobs have similar deviations; so interactions of
    knobs are fitted.

    On 181 plans of the quick start's network (fitted to 8 to 120 of them, the others predicted) fitting all parameters
    by the likelihood was no better than choosing three of them from a grid, which is deterministic.
    """

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._roots = [np.sqrt(sensitivity) for sensitivity in scores.sensitivity]
        self._features = np.empty((0, len(scores.sensitivity) + 1))
        self._parameters, self._scale = (AMPLITUDES[1], LENGTHS[1], NOISES[0]), 1.0
        self._chosen_from = 0

    def fit(self, vectors: np.ndarray, losses: np.ndarray, earlier: Surrogate | None = None) -> None:
        """vectors: (n, knobs) int; losses: (n,), of accuracy, as a share of 1.

        earlier: its parameters are used again where they were chosen from more than a hundred plans and from nearly as
            many.
        """
        self._features = self._describe(vectors)
        losses = np.maximum(losses, -RESOLUTION / 2)
        target = np.log(RESOLUTION + losses) - _usual(self._features[:, 0])
        shared, distances = self._parts(self._features)
        best = -np.inf
        candidates = list(product(AMPLITUDES, LENGTHS, NOISES))
        self._chosen_from = len(vectors)
        if earlier is not None and MANY < len(vectors) < NEARLY * earlier._chosen_from:
            candidates, self._chosen_from = [earlier._parameters], earlier._chosen_from
        for amplitude, length, noise in candidates:
            # The same error of an accuracy is a smaller error of the logarithm where the loss is larger.
            doubt = (noise / (RESOLUTION + np.maximum(losses, 0))) ** 2
            kernel = shared + amplitude * np.exp(-distances / (2 * length**2)) + np.diag(doubt)
            factor = cholesky(kernel + 1e-8 * np.eye(len(kernel)), lower=True)
            white = solve_triangular(factor, target, lower=True)
            scale = (TRUST + white @ white) / (TRUST + len(white))
            likelihood = -(len(white) + TRUST) * np.log(scale) / 2 - np.log(np.diag(factor)).sum()
            if likelihood > best:
                best, self._parameters = likelihood, (amplitude, length, noise)
                self._factor, self._white, self._scale = factor, white, scale

    def predict(self, vectors: np.ndarray) -> LossDistribution:
        described = self._describe(vectors)
        u, mean = described[:, 0], _usual(described[:, 0])
        amplitude, length, _ = self._parameters
        variance = CONSTANT + SLOPE * u**2 + CURVE + amplitude
        reduced = np.empty((0, len(u)))
        if len(self._features):
            shared, distances = self._parts(described)
            cross = shared + amplitude * np.exp(-distances / (2 * length**2))
            reduced = solve_triangular(self._factor, cross.T, lower=True)
            mean = mean + self._white @ reduced
            variance = variance - (reduced**2).sum(0)
        return LossDistribution(self, described, mean, np.maximum(variance, 1e-8), reduced)

    def covariance(self, described: np.ndarray, one: np.ndarray) -> np.ndarray:
        """(n,): prior covariances of plans with one of them."""
        amplitude, length, _ = self._parameters
        u, v = described[:, 0], one[0]
        distances = ((described[:, 1:] - one[1:]) ** 2).sum(1)
        shared = CONSTANT + SLOPE * u * v + CURVE * np.exp(-((u - v) ** 2) / (2 * STRETCH**2))
        return np.asarray(shared + amplitude * np.exp(-distances / (2 * length**2)))

    def _describe(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 1 + knobs): the logarithm of the total sensitivity, then the square root of each knob's sensitivity."""
        roots = np.stack([root[column] for root, column in zip(self._roots, vectors.T, strict=True)], axis=1)
        return np.column_stack([np.log(LEAST_SENSITIVITY + (roots**2).sum(1)), roots])

    def _parts(self, described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two parts of the kernel between these plans and those it was fitted to: the covariance by total sensitivity,
        and squared distances."""
        a, b = described, self._features
        total = a[:, :1] - b[None, :, 0]
        shared = CONSTANT + SLOPE * np.outer(a[:, 0], b[:, 0]) + CURVE * np.exp(-(total**2) / (2 * STRETCH**2))
        squares = (a[:, 1:] ** 2).sum(1)[:, None] + (b[:, 1:] ** 2).sum(1) - 2 * a[:, 1:] @ b[:, 1:].T
        return shared, np.maximum(squares, 0)


class LossDistribution:
    """The prediction for some plans: ``mean``, (n,), of log(RESOLUTION + loss), and its deviation."""

    def __init__(
        self, surrogate: Surrogate, described: np.ndarray, mean: np.ndarray, variance: np.ndarray, reduced: np.ndarray
    ) -> None:
        self.mean = mean
        self._surrogate, self._described, self._variance, self._reduced = surrogate, described, variance, reduced

    @property
    def deviation(self) -> np.ndarray:
        return np.asarray(np.sqrt(self._surrogate._scale * self._variance))

    def losses(self, spread: float = 1.0) -> np.ndarray:
        """(n, 8): equally likely values of each plan's loss, rising; ``spread`` scales the standard deviation."""
        return np.asarray(np.exp(self.mean[:, None] + spread * self.deviation[:, None] * QUANTILES) - RESOLUTION)

    def interval(self, share: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Two (n,): the bounds between which each plan's loss lies with this probability."""
        reach = norm.ppf((1 + share) / 2) * self.deviation
        return np.exp(self.mean - reach) - RESOLUTION, np.exp(self.mean + reach) - RESOLUTION

    def expect(self, i: int) -> None:
        """Take the i-th plan as evaluated, with the predicted loss: similar plans become as certain."""
        prior = self._surrogate.covariance(self._described, self._described[i])
        row = (prior - self._reduced.T @ self._reduced[:, i]) / np.sqrt(self._variance[i] + 1e-4)
        self._reduced = np.vstack([self._reduced, row])
        self._variance = np.maximum(self._variance - row**2, 1e-8)


def _usual(log_sensitivity: np.ndarray) -> np.ndarray:
    """log(RESOLUTION + loss): half of all classes change at about 0.4 nats."""
    sensitivity = np.maximum(np.exp(log_sensitivity) - LEAST_SENSITIVITY, 0)
    return np.asarray(np.log(RESOLUTION + 0.85 * -np.expm1(-((sensitivity / 0.4) ** 2))))
