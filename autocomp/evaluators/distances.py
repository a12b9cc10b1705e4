"""How far a plan's outputs are from the float network's on the same samples."""

from __future__ import annotations

import numpy as np


def divergences(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n,) KL divergence of the class probabilities, nats; both arguments (n, classes), before or after the softmax."""
    p, q = _log_probabilities(expected), _log_probabilities(found)
    return np.maximum((np.exp(p) * (p - q)).sum(1), 0)


def squared_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The squared error divided by the variance over the samples; for integers the share that differs."""
    if expected.dtype.kind != "f":
        return float(np.mean(found != expected))
    spread = float(((expected - expected.mean(0)) ** 2).sum()) or float((expected**2).sum()) or 1.0
    return float(((found.astype(np.float64) - expected) ** 2).sum()) / spread


def explained(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the outputs' variance over the samples that is kept, 0 to 1: 1 minus the ratio of noise to signal.

    The mean over the samples is subtracted, since it does not depend on the input. With one sample, or equal ones, it
    is the share of their square. For integers (classes, masks) it is the share that agrees: the distance between class
    numbers has no meaning.
    """
    if expected.dtype.kind != "f":
        return float(np.mean(found == expected)) if expected.size else 1.0
    square = float(((expected - expected.mean(0)) ** 2).sum()) or float((expected**2).sum()) or 1.0
    return float(np.clip(1 - ((found - expected) ** 2).sum() / square, 0, 1))


def _log_probabilities(outputs: np.ndarray) -> np.ndarray:
    outputs = outputs.astype(np.float64)
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(outputs, 1e-12)))
    shifted = outputs - outputs.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
