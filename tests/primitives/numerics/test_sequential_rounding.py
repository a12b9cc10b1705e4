"""GPTQ on grids of groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from autocomp.primitives.numerics.sequential_rounding import sequential_rounding
from autocomp.primitives.numerics.weight_grids import fit_grid

RNG = np.random.default_rng(0)
MIXED = RNG.standard_normal((40, 24)) @ RNG.standard_normal((24, 24))
HESSIAN = MIXED.T @ MIXED / 40 + 0.1 * np.eye(24)
ROWS = RNG.standard_normal((16, 24)).astype(np.float32)


def errors(found: np.ndarray, rows: np.ndarray = ROWS, hessian: np.ndarray = HESSIAN) -> np.ndarray:
    difference = found - rows
    return np.asarray(((difference @ hessian) * difference).sum(1))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
def test_it_stays_on_the_grid_and_errs_far_less_than_rounding_to_nearest(
    symmetric: bool, ordered: bool, parts: int
) -> None:
    grid = fit_grid(ROWS, 3, parts, symmetric)
    found = sequential_rounding(ROWS, grid, HESSIAN, ordered)
    np.testing.assert_array_equal(grid.nearest(found), found)
    nearest = errors(grid.nearest(ROWS))
    assert (errors(found) <= nearest + 1e-9).all() and errors(found).sum() < 0.5 * nearest.sum()


def test_it_is_close_to_the_best_of_all_roundings() -> None:
    rows, hessian = ROWS[:8, :4], HESSIAN[:4, :4]
    grid = fit_grid(rows, 2, 2)
    steps = np.repeat(grid.scale, 2, 1)
    levels = np.array(list(product((-1, 0, 1), repeat=4)), np.float32)
    best = [min(errors(levels * steps[i], rows[i], hessian)) for i in range(8)]
    found = errors(sequential_rounding(rows, grid, hessian), rows, hessian)
    assert (found >= np.array(best) - 1e-6).all() and found.sum() < 1.3 * sum(best)


def test_without_inputs_or_with_infinite_ones_it_rounds_to_nearest() -> None:
    grid = fit_grid(ROWS, 4)
    for hessian in (np.zeros((24, 24)), np.full((24, 24), np.inf)):
        np.testing.assert_array_equal(sequential_rounding(ROWS, grid, hessian), grid.nearest(ROWS))


def test_a_hessian_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hessian must be \(24, 24\) for rows of 24, but got \(4, 4\)"):
        sequential_rounding(ROWS, fit_grid(ROWS, 4), np.eye(4))
