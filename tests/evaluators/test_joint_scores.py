"""Weights of knobs, learned from joint plans whose sensitivities are known."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.evaluators.joint_scores import MOST, RUINED, joint_vectors, weighed

ALONE = ((0.0, 0.01, 0.05), (0.0, 0.02, 0.1, 0.2), (0.0, 0.04), (0.0, 0.0))
WEIGHTS = (2.0, 0.7, 1.4, 1.0)


def together(vectors: np.ndarray) -> np.ndarray:
    """What plans do where knobs weigh so much."""
    return np.array([sum(w * one[i] for w, one, i in zip(WEIGHTS, ALONE, vector, strict=True)) for vector in vectors])


def test_weights_are_found_and_those_that_no_plan_tells_stay() -> None:
    vectors = joint_vectors(ALONE, 40)
    found = weighed(ALONE, vectors, together(vectors).tolist())
    for sensitivity, alone, weight in zip(found[:3], ALONE, WEIGHTS, strict=False):
        assert sensitivity[-1] / alone[-1] == pytest.approx(weight, rel=0.15)
        np.testing.assert_allclose(np.divide(sensitivity, sensitivity[-1]), np.divide(alone, alone[-1]))
    assert found[3] == ALONE[3]


def test_sums_that_are_right_already_stay() -> None:
    vectors = joint_vectors(ALONE)
    sums = [sum(one[i] for one, i in zip(ALONE, vector, strict=True)) for vector in vectors]
    np.testing.assert_allclose(np.concatenate(weighed(ALONE, vectors, sums)), np.concatenate(ALONE), atol=1e-9)


def test_a_few_plans_say_little() -> None:
    """One plan that hurts three times as much as the sum: no weight reaches three."""
    vector = np.array([[2, 3, 1, 1]])
    found = weighed(ALONE, vector, [3 * 0.29])
    gains = [sensitivity[-1] / alone[-1] for sensitivity, alone in zip(found[:3], ALONE, strict=False)]
    assert all(1 < gain < 3 for gain in gains) and sum(sensitivity[-1] for sensitivity in found) < 2.5 * 0.29


def test_plans_that_cannot_run_are_left_out() -> None:
    vectors = joint_vectors(ALONE)
    assert weighed(ALONE, vectors, [RUINED] * len(vectors)) == ALONE


def test_joint_plans_that_would_ruin_the_network_change_fewer_knobs() -> None:
    many = [(0.0, 0.02, 0.1)] * 60
    vectors = joint_vectors(many)
    sums = np.take((0.0, 0.02, 0.1), vectors).sum(1)
    assert (sums <= MOST + 1e-9).all() and sums.min() > 0.8
    assert (vectors.any(0)).mean() > 0.6, "the plans tell of most knobs"
    np.testing.assert_array_equal(vectors, joint_vectors(many))
