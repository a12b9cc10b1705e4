"""Cut channels told from kept ones: exact where they are linear combinations, least squares elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.primitives.numerics.reconstruction import moments_of, pivoted_order, reconstruct


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_moments_are_those_of_numpy(rng: np.random.Generator) -> None:
    rows = rng.normal(3, 2, (5000, 4)).astype(np.float32) @ rng.normal(size=(4, 4)).astype(np.float32)
    found = moments_of(rows)
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T, bias=True), rtol=1e-3, atol=1e-4)


def test_a_channel_that_others_tell_is_cut_without_loss(rng: np.random.Generator) -> None:
    free = rng.normal(1, 1, (4000, 3)).astype(np.float32)
    rows = np.column_stack([free, free @ [0.5, -1.0, 2.0] + 0.7]).astype(np.float32)
    weight = rng.normal(size=(6, 4)).astype(np.float32)
    columns = np.array([True, True, True, False])
    new, shift = reconstruct(weight, columns, moments_of(rows))
    expected = rows @ weight.T
    np.testing.assert_allclose(rows[:, columns] @ new.T + shift, expected, atol=2e-2 * np.abs(expected).max())
    dropped = rows[:, columns] @ weight[:, columns].T
    assert np.abs(dropped - expected).max() > 0.2 * np.abs(expected).max()


def test_it_is_the_least_squares_solution(rng: np.random.Generator) -> None:
    """Against NumPy's own lstsq over inputs and a constant, up to the small ridge."""
    rows = (rng.normal(size=(6000, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)).astype(np.float32)
    weight = rng.normal(size=(5, 6)).astype(np.float32)
    columns = np.array([True, False, True, True, False, True])
    new, shift = reconstruct(weight, columns, moments_of(rows))
    target = rows @ weight.T
    design = np.column_stack([rows[:, columns], np.ones(len(rows))])
    best = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    found = rows[:, columns] @ new.T + shift
    assert np.mean((found - target) ** 2) <= 1.01 * np.mean((best - target) ** 2)


def test_kernels_take_one_map_for_all_taps(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(1000, 4)).astype(np.float32)
    rows[:, 3] = rows[:, 0]
    weight = rng.normal(size=(2, 4, 3, 3)).astype(np.float32)
    new, _ = reconstruct(weight, np.array([True, True, True, False]), moments_of(rows))
    assert new.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(new[:, 0], weight[:, 0] + weight[:, 3], atol=5e-3)
    np.testing.assert_allclose(new[:, 1:], weight[:, 1:3], atol=5e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**31))
def test_pivots_are_those_of_the_definition(n: int, seed: int) -> None:
    """Each pivot has the largest variance that the ones before it leave unexplained."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n + 3, n)) * rng.uniform(0.1, 3, n)
    matrix = rows.T @ rows
    order = pivoted_order(matrix)
    assert sorted(order) == list(range(n))
    for step in range(n):
        before, after = order[:step], order[step:]
        left = np.diag(matrix)[after].copy()
        if step:
            solved = np.linalg.solve(matrix[np.ix_(before, before)], matrix[np.ix_(before, after)])
            left -= np.einsum("ij,ij->j", matrix[np.ix_(before, after)], solved)
        assert left[0] >= left.max() - 1e-8 * matrix.max()


def test_a_copy_comes_last_however_large(rng: np.random.Generator) -> None:
    base = rng.normal(size=(500, 3))
    rows = np.column_stack([5 * base[:, 0], base[:, 1], 4.9 * base[:, 0], 0.3 * base[:, 2]])
    assert pivoted_order(rows.T @ rows)[-1] == 2
