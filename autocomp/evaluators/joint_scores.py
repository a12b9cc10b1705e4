"""The sensitivity of knobs together: each knob's sensitivities, weighted so that they agree with measured joint
plans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

JOINT = 16  # plans
SEED = 2020
MOST = 1.0  # nats: largest sum of sensitivities of a joint plan; above it outputs are noise
LEAST = 0.01  # nats: sensitivities are compared by log(LEAST + sensitivity)
TRUST = 0.5  # strength of the prior: the logarithm of a weight times this counts as an error
RUINED = 10.0  # nats: a plan whose outputs are not finite

Sensitivity = Sequence[Sequence[float]]  # for each knob, for each of its values


def joint_vectors(sensitivity: Sensitivity, count: int = JOINT) -> np.ndarray:
    """(count, knobs) int: random plans, each value equally likely.

    Where a plan would ruin the network, random knobs are set back to their first value until the sum of the
    sensitivities is at most 1 nat.
    """
    rng = np.random.default_rng(SEED)
    vectors = rng.integers(0, [len(one) for one in sensitivity], (count, len(sensitivity)))
    for vector, parts in zip(vectors, _parts(sensitivity, vectors), strict=True):
        order = rng.permutation(len(sensitivity))
        vector[order[np.cumsum(parts[order]) > MOST]] = 0
    return vectors


def weighed(sensitivity: Sensitivity, vectors: np.ndarray, found: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """The sensitivities, those of each knob times a weight that makes their sums nearest to these plans' divergences.

    vectors: (n, knobs) int; found: (n,) nats. The weights are the least squares fit of the logarithms, with a prior
        that weights are 1. Where no plan uses a knob its weight stays 1. The order of a knob's values never changes.
    """
    parts, measured = _parts(sensitivity, vectors), np.asarray(found)
    parts, measured = parts[measured < RUINED], measured[measured < RUINED]
    target = np.log(LEAST + measured)

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.concatenate([np.log(LEAST + parts @ np.exp(logs)) - target, TRUST * logs])

    def slopes(logs: np.ndarray) -> np.ndarray:
        each = parts * np.exp(logs)
        return np.vstack([each / (LEAST + each.sum(1, keepdims=True)), TRUST * np.eye(len(logs))])

    weights = np.exp(least_squares(errors, np.zeros(len(sensitivity)), slopes).x)
    return tuple(tuple(float(weight * d) for d in one) for weight, one in zip(weights, sensitivity, strict=True))


def _parts(sensitivity: Sensitivity, vectors: np.ndarray) -> np.ndarray:
    """(n, knobs): the sensitivity of each knob's value in each plan."""
    return np.stack([np.asarray(one)[column] for one, column in zip(sensitivity, vectors.T, strict=True)], axis=1)
