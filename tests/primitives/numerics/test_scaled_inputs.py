"""Scales that move between inputs and weights, and the search for their exponents."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.primitives.numerics.quantizers import quantizer_of_range
from autocomp.primitives.numerics.scaled_inputs import (
    activation_scales,
    best_activation_scales,
    best_migration,
    best_suppression,
    migration_scales,
    rounded_rows,
    suppression_scales,
)
from autocomp.primitives.numerics.weight_grids import fit_grid

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((200, 16)).astype(np.float32)
ROWS[:, 5] *= 60
WEIGHTS = [RNG.standard_normal((24, 16)).astype(np.float32), RNG.standard_normal((8, 16)).astype(np.float32)]
PEAKS = np.abs(ROWS).max(0)
READS = np.max([np.abs(weight).max(0) for weight in WEIGHTS], 0)


def test_eq_4_up_to_a_common_factor() -> None:
    found = migration_scales(PEAKS, READS, 0.3) / (PEAKS**0.3 / READS**0.7)
    np.testing.assert_allclose(found, found[0], rtol=1e-4)
    for alpha in (0.0, 0.5, 1.0):
        assert np.log(migration_scales(PEAKS, READS, alpha)).mean() == pytest.approx(0, abs=1e-5)


def test_with_alpha_1_all_channels_reach_the_same_magnitude() -> None:
    scaled = PEAKS / migration_scales(PEAKS, READS, 1.0)
    np.testing.assert_allclose(scaled, scaled[0], rtol=1e-4)


def test_a_channel_that_is_always_zero_keeps_the_scale_1() -> None:
    peaks = PEAKS.copy()
    peaks[2] = 0
    assert migration_scales(peaks, READS, 0.5)[2] == 1 == activation_scales(peaks, 0.5)[2]
    assert np.isfinite(migration_scales(np.zeros(16), READS, 0.5)).all()


def output_error(scales: np.ndarray) -> float:
    rows = ROWS / scales
    x = quantizer_of_range(float(rows.min()), float(rows.max()), 8)(rows)
    changes = [x @ fit_grid(w * scales, 8).nearest(w * scales).T - ROWS @ w.T for w in WEIGHTS]
    return float(sum((change**2).sum() for change in changes))


def test_the_searched_alpha_errs_less_than_none_and_than_one_that_is_given() -> None:
    scales, alpha = best_migration(WEIGHTS, ROWS, PEAKS, (8, 8), "minmax")
    assert output_error(scales) < 0.3 * output_error(np.ones(16, np.float32))
    given, same = best_migration(WEIGHTS, ROWS, PEAKS, (8, 8), "minmax", alpha=0.1)
    assert same == 0.1 != alpha and output_error(scales) < output_error(given)


def test_centred_channels_beyond_the_threshold_alone_are_divided() -> None:
    np.testing.assert_allclose(suppression_scales(np.array([1.0, 4.0, 0.0, 16.0]), 0.125), [1, 2, 1, 8])
    rows = ROWS + np.where(np.arange(16) == 9, 300, 0).astype(np.float32)  # a channel far from zero, without a spread
    extremes = rows.min(0), rows.max(0)
    shift, scales, share = best_suppression(WEIGHTS, rows, extremes, (8, 8), "minmax")
    np.testing.assert_allclose(shift, (extremes[0] + extremes[1]) / 2)
    assert 0.01 <= share < 1 and scales.argmax() == 5 and (scales == 1).sum() > 8

    def error(shift: np.ndarray, scales: np.ndarray) -> float:
        x = (rows - shift) / scales
        x = quantizer_of_range(min(0.0, float(x.min())), float(x.max()), 8)(x)
        return sum(float((((x @ (w * scales).T) + w @ shift - rows @ w.T) ** 2).sum()) for w in WEIGHTS)

    assert error(shift, scales) < 0.1 * error(0 * shift, np.ones(16, np.float32))
    given = best_suppression(WEIGHTS, rows, extremes, (8, 8), share=0.3)
    assert given[2] == 0.3


def test_where_inputs_are_even_no_scales_are_better_than_bad_ones() -> None:
    rows = RNG.uniform(-1, 1, (400, 16)).astype(np.float32)
    weight = RNG.uniform(-1, 1, (8, 16)).astype(np.float32)
    weight[0] = 1e-3 * np.arange(1, 17) ** 3  # so that alpha 0 would spoil the inputs
    _, alpha = best_migration([weight], rows, np.abs(rows).max(0), (8, 8), "minmax")
    assert alpha > 0.2


def test_one_row_with_massive_values_does_not_decide_alone() -> None:
    rows = RNG.standard_normal((100, 16)).astype(np.float32)
    massive = np.concatenate([rows, np.zeros((1, 16), np.float32)])
    massive[-1, 3] = 3000
    (scales, _) = best_migration(WEIGHTS, massive, np.abs(massive).max(0), (8, 8), dynamic=True)
    found = rounded_rows(rows / scales, 8) @ fit_grid(WEIGHTS[0] * scales, 8).nearest(WEIGHTS[0] * scales).T
    wanted = rows @ WEIGHTS[0].T
    assert ((found - wanted) ** 2).mean() < 1e-3 * (wanted**2).mean()


def test_each_row_has_a_range_of_its_own() -> None:
    rows = np.array([[127.0, 2.4, -0.6], [0.0127, 0.00024, -0.00006], [0, 0, 0]], np.float32)
    expected = np.array([[127, 2, -1], [0.0127, 0.0002, -0.0001], [0, 0, 0]])
    np.testing.assert_allclose(rounded_rows(rows, 8), expected, rtol=1e-5)


def test_awq_errs_less_than_rounding_to_nearest() -> None:
    def rounding(weight: np.ndarray) -> np.ndarray:
        return fit_grid(weight, 3).nearest(weight)

    scales, ratio = best_activation_scales(WEIGHTS, ROWS, np.abs(ROWS).mean(0), rounding)
    assert 0 < ratio < 1 and scales.argmax() == 5

    def error(scale: np.ndarray) -> float:
        changes = [rounding(weight * scale) / scale - weight for weight in WEIGHTS]
        pairs = [(ROWS @ change.T, ROWS @ weight.T) for change, weight in zip(changes, WEIGHTS, strict=True)]
        return float(sum(((mine**2).sum(1) / (true**2).sum(1)).mean() for mine, true in pairs))

    unscaled, *others = (error(activation_scales(np.abs(ROWS).mean(0), other)) for other in (0.0, 0.5, 0.95))
    assert error(scales) < 0.9 * unscaled and error(scales) <= min(others)
