"""Estimates of many plans' accuracy changes that do not flatter those that are chosen for them.

Of 200 plans measured on the same samples the best owes a part of its value to these samples (the winner's curse). The
posterior mean of a plan's change, given all plans, has no such bias, whatever is chosen by it: each plan is shrunk
towards what plans whose outputs are equally far from the float network's lose (empirical Bayes: Efron, Large-Scale
Inference, 2010, chapter 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

LEAST = 8  # plans: below it nothing is known of what others lose
BANDWIDTHS = (0.15, 0.3, 0.6, 1.2)  # of the logarithm of the divergence
RATIOS = (
    0.0,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    4.0,
    16.0,
    64.0,
    1e3,
    1e6,
)  # variance of plans around the trend over that of errors
POWERS = (1, 2)  # of the variance of one sample's change, to which that variance is proportional
MOST = 400  # plans that the trend is fitted to
LEAST_DIVERGENCE = 1e-9
FLAT = 1e-2  # of the squared bandwidth: the ridge of a local slope


@dataclass(frozen=True)
class Changes:
    """Measured changes of the accuracy of n plans against the float network, each (n,).

    change, error: the change and its standard error. samples: how many it was measured on. divergence: of the outputs.
    """

    change: np.ndarray
    error: np.ndarray
    samples: np.ndarray
    divergence: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[float, float, int, float]]) -> Changes:
        change, error, samples, divergence = np.array(rows, np.float64).reshape(-1, 4).T
        return cls(change, error, samples, divergence)


def shrunk(found: Changes) -> np.ndarray:
    """(n,): the posterior means of the changes; as measured where there are fewer than eight plans."""
    if len(found.change) < LEAST:
        return found.change.copy()
    variance, fits = found.error**2, []
    for power, ratio, width in product(POWERS, RATIOS, BANDWIDTHS):
        fits.append(_Fit.of(found, variance, ratio * _spread(found, power), width))
    return max(fits, key=lambda fit: fit.likelihood).posterior


def _spread(found: Changes, power: float) -> np.ndarray:
    """(n,): the variance of plans around the trend, up to a ratio. Plans that differ on more samples scatter more."""
    of_sample = found.error**2 * found.samples
    typical = float(np.median(of_sample))
    return np.asarray((of_sample / typical) ** power * typical / np.median(found.samples))


@dataclass(frozen=True)
class _Fit:
    """likelihood: the logarithm, of every plan given the others. posterior: (n,) means."""

    likelihood: float
    posterior: np.ndarray

    @classmethod
    def of(cls, found: Changes, variance: np.ndarray, spread: np.ndarray, width: float) -> _Fit:
        """variance: (n,) of the errors of measurement; spread: (n,) of plans around the trend."""
        weights = _weights(np.log(np.maximum(found.divergence, LEAST_DIVERGENCE)), variance + spread, width)
        trend = weights @ found.change
        prior = spread + weights**2 @ (variance + spread)
        total = np.maximum(prior + variance, 1e-18)
        likelihood = -0.5 * float((np.log(total) + (found.change - trend) ** 2 / total).sum())
        return cls(likelihood, trend + prior / total * (found.change - trend))


def _weights(x: np.ndarray, variance: np.ndarray, width: float) -> np.ndarray:
    """(n, n): of the other plans in the local linear trend at each plan; a plan has none in its own."""
    trusted = 1 / np.maximum(variance, 1e-12)
    kernel = (np.exp(-(((x[:, None] - x) / width) ** 2) / 2) + 1e-6) * trusted
    if len(x) > MOST:
        kept = np.argsort(x, kind="stable")[np.linspace(0, len(x) - 1, MOST).round().astype(int)]
        kernel *= np.isin(np.arange(len(x)), kept)
    np.fill_diagonal(kernel, 0)
    kernel /= kernel.sum(1, keepdims=True)
    centre = kernel @ x
    off = x - centre[:, None]
    slope = kernel * off / ((kernel * off**2).sum(1, keepdims=True) + FLAT * width**2)
    return np.asarray(kernel + (x - centre)[:, None] * slope)
