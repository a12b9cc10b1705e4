"""What knobs do together: sensitivities measured one at a time, each weighed by what joint plans did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

JOINT = 16  # plans
SEED = 2020
MOST = 1.0  # nats that a joint plan may do by the sum: beyond it outputs are noise
LEAST = 0.01  # nats: sensitivities are compared by log(LEAST + sensitivity)
TRUST = 0.5  # a weight of e (or 1/e) counts like an error by this factor's logarithm
RUINED = 10.0  # nats: a plan whose outputs are not finite

Sensitivity = Sequence[Sequence[float]]  # of each knob, of each of its values


def joint_vectors(sensitivity: Sensitivity, count: int = JOINT) -> np.ndarray:
    """(count, knobs) int: each value equally likely; of plans that would ruin the network, knobs at random are left
    as they are until the sum of the sensitivities is one that outputs survive."""
    rng = np.random.default_rng(SEED)
    vectors = rng.integers(0, [len(one) for one in sensitivity], (count, len(sensitivity)))
    for vector, parts in zip(vectors, _parts(sensitivity, vectors), strict=True):
        order = rng.permutation(len(sensitivity))
        vector[order[np.cumsum(parts[order]) > MOST]] = 0
    return vectors


def weighed(sensitivity: Sensitivity, vectors: np.ndarray, found: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """The sensitivities, those of each knob times a weight, so that their sums are nearest to what these plans did.

    vectors: (n, knobs) int; found: (n,) nats. Least squares of the logarithms with a prior that weights are 1: where
    plans say nothing of a knob its weight stays 1, and the order of its values stays in any case.
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
    """(n, knobs): what each knob does in each plan."""
    return np.stack([np.asarray(one)[column] for one, column in zip(sensitivity, vectors.T, strict=True)], axis=1)
