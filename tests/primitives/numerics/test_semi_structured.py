"""Two zeros in every four weights, and what the others do about them."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.primitives.numerics.adaptive_rounding import adaptive_rounding
from autocomp.primitives.numerics.semi_structured import compensated, two_of_four


def _problem(out: int = 6, groups: int = 1, inside: int = 8, taps: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """A weight (out, inside, ...), and the moments of correlated patches."""
    rng, width = np.random.default_rng(0), inside * taps
    side = round(taps**0.5)
    weight = rng.standard_normal((out, inside, side, side) if taps > 1 else (out, inside)).astype(np.float32)
    patches = rng.standard_normal((groups, 4 * width, width)) @ rng.standard_normal((groups, width, width))
    return weight, np.swapaxes(patches, 1, 2) @ patches / (4 * width)


def _error(weight: np.ndarray, found: np.ndarray, hessian: np.ndarray) -> float:
    groups, width = hessian.shape[:2]
    difference = (found - weight).reshape(groups, -1, width).astype(np.float64)
    return float((difference @ hessian * difference).sum())


def _most_in_four(weight: np.ndarray) -> int:
    """The most weights that are not zero in four neighbours along the input channels."""
    rows = np.moveaxis(weight, 1, -1)
    padded = np.concatenate((rows, np.zeros((*rows.shape[:-1], -rows.shape[-1] % 4))), -1)
    return int((padded.reshape(-1, 4) != 0).sum(1).max())


def test_magnitudes_choose_along_the_input_channels() -> None:
    weight = np.array([[4, -1, 3, 2, 1, 1, 1, 9]], np.float32)
    np.testing.assert_array_equal(two_of_four(weight), [[4, 0, 3, 0, 1, 0, 0, 9]])
    kernel = weight.reshape(1, 4, 1, 2)  # channel c has the taps 2 c and 2 c + 1
    np.testing.assert_array_equal(two_of_four(kernel).reshape(-1), [4, 0, 3, 2, 0, 0, 0, 9])


def test_the_size_of_inputs_counts() -> None:
    weight = np.array([[4, 1, 3, 2]], np.float32)
    np.testing.assert_array_equal(two_of_four(weight, np.array([0, 9, 0, 9])), [[0, 1, 0, 2]])


@pytest.mark.parametrize("inside", [8, 6, 5, 3])
@pytest.mark.parametrize("taps", [1, 9])
def test_no_group_of_four_has_more_than_two(inside: int, taps: int) -> None:
    """In a last group of fewer than four inputs, too, which runtimes fill with zeros."""
    weight, hessian = _problem(inside=inside, taps=taps)
    for found in (two_of_four(weight), compensated(weight, hessian)):
        assert _most_in_four(found) == 2
        assert found.shape == weight.shape and found.dtype == np.float32


@pytest.mark.parametrize("groups", [1, 2])
def test_compensation_is_the_least_squares_solution_for_its_zeros(groups: int) -> None:
    weight, hessian = _problem(groups=groups, inside=8, taps=1)
    found = compensated(weight, hessian)
    for row, (before, after) in enumerate(zip(weight, found, strict=True)):
        moment, kept = hessian[row // (len(weight) // groups)], after != 0
        best = np.linalg.solve(moment[np.ix_(kept, kept)], (moment @ before)[kept])
        np.testing.assert_allclose(after[kept], best, rtol=1e-3)


def test_it_loses_less_than_magnitudes() -> None:
    weight, hessian = _problem()
    by_magnitude = _error(weight, two_of_four(weight), hessian)
    assert _error(weight, compensated(weight, hessian), hessian) < 0.5 * by_magnitude


def test_independent_inputs_of_one_size_need_no_compensation() -> None:
    weight, _ = _problem()
    found = compensated(weight, np.eye(72)[None])
    np.testing.assert_allclose(found, two_of_four(weight), atol=1e-6)


def test_inputs_that_are_always_zero() -> None:
    weight, _ = _problem()
    found = compensated(weight, np.zeros((1, 72, 72)))
    assert np.isfinite(found).all() and _most_in_four(found) == 2


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("quick", [False, True])
def test_rounding_keeps_the_zeros(bits: int, quick: bool) -> None:
    weight, hessian = _problem()
    sparse = compensated(weight, hessian)
    rounded = adaptive_rounding(sparse, bits, hessian, quick, keeps_zeros=True)
    assert not rounded.integers[sparse == 0].any()
    assert _most_in_four(adaptive_rounding(sparse, bits, hessian, quick).integers) > 2, "unless it is told to"
