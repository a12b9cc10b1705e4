"""Levels of weights, with a scale and a zero point for each part of a row."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.primitives.numerics.quantizers import quantize_weight
from autocomp.primitives.numerics.weight_grids import WeightGrid, fit_grid, grid_of

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((6, 24)).astype(np.float32) * RNG.uniform(0.1, 3, (6, 24)).astype(np.float32)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("parts", [1, 3, 24])
def test_what_is_stored_is_the_nearest_level(symmetric: bool, bits: int, parts: int) -> None:
    grid = fit_grid(ROWS, bits, parts, symmetric)
    stored = grid.stored(ROWS)
    np.testing.assert_array_equal(stored.dequantized(), grid.nearest(ROWS))
    assert stored.integers.dtype == np.int8 and stored.scale.size == 6 * parts
    again = grid_of(stored)
    np.testing.assert_array_equal(again.scale, grid.scale)
    np.testing.assert_array_equal(again.zero, grid.zero)
    np.testing.assert_array_equal(again.nearest(grid.nearest(ROWS)), grid.nearest(ROWS))


def test_no_number_is_farther_from_a_level_than_half_a_step_or_the_range() -> None:
    grid = WeightGrid(np.full((1, 2), 0.5, np.float32), np.array([[0, 5]], np.float32), 4, False)
    rows = np.array([[-1.0, 0.6, 9.0, -2.6, 0.2, 4.0]], np.float32)
    np.testing.assert_array_equal(grid.nearest(rows), [[0, 0.5, 7.5, -2.5, 0, 4]])


@pytest.mark.parametrize("bits", [3, 4])
def test_clipping_is_as_good_as_that_of_whole_rows(bits: int) -> None:
    usual = quantize_weight(ROWS, bits).dequantized()
    error, before = ((fit_grid(ROWS, bits).nearest(ROWS) - ROWS) ** 2).sum(1), ((usual - ROWS) ** 2).sum(1)
    assert (error < 1.05 * before).all()


def test_smaller_parts_and_zero_points_err_less() -> None:
    shifted = ROWS + 1
    errors = [
        float(((fit_grid(shifted, 3, parts, symmetric).nearest(shifted) - shifted) ** 2).sum())
        for parts, symmetric in ((1, True), (3, True), (3, False))
    ]
    assert errors[0] > errors[1] > errors[2]


def test_importance_moves_the_clipping_towards_the_columns_that_count() -> None:
    rows = np.array([[8.0, 1.3, 0.7, -0.9]], np.float32)
    even = fit_grid(rows, 3, importance=np.ones(4))
    small = fit_grid(rows, 3, importance=np.array([1e-4, 1, 1, 1]))
    assert small.scale[0, 0] < even.scale[0, 0]


def test_without_clipping_the_largest_weight_is_a_level() -> None:
    grid = fit_grid(ROWS, 3, 3, clips=False)
    parts = np.abs(ROWS).reshape(6, 3, 8).max(2)
    np.testing.assert_allclose(grid.scale * 3, parts, rtol=1e-6)


def test_a_row_of_zeros_stays_zero() -> None:
    zeros = np.zeros((2, 4), np.float32)
    for symmetric in (True, False):
        assert not fit_grid(zeros, 4, 2, symmetric).nearest(zeros).any()
