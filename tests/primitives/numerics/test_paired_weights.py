"""Weights of 8 bits whose neighbours' products with unsigned 8-bit inputs fit into 16 bits together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.primitives.numerics.quantizers import QuantizedWeight, quantize_weight, saturates

SHAPES = [(64, 16), (96, 7), (32, 8, 3, 3), (48, 3, 3, 3), (64, 1, 3, 3), (128, 5, 1, 1)]


def weights(shape: tuple[int, ...], seed: int, heavy: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.standard_t(2, shape) if heavy else rng.uniform(-1, 1, shape)
    return (drawn * rng.uniform(0.01, 10, (shape[0], *[1] * (len(shape) - 1)))).astype(np.float32)


def largest_pair(weight: QuantizedWeight) -> int:
    """Of neighbours as they are multiplied: the channels of a position of the kernel, then the next position."""
    found = 0
    for row in weight.integers.astype(int):
        numbers = [abs(v) for v in (row.transpose(1, 2, 0) if row.ndim == 3 else row).reshape(-1).tolist()]
        found = max([found, *(a + b for a, b in zip(numbers[::2], [*numbers[1::2], 0], strict=False))])
    return found


def error(weight: np.ndarray, rounded: QuantizedWeight) -> float:
    """The mean of the channels' squared errors, each relative to its numbers."""
    shares = [((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(rounded.dequantized(), weight, strict=True)]
    return float(np.mean(shares))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 999), st.booleans())
def test_pairs_fit_and_lose_no_more_than_seven_bits(shape: tuple[int, ...], seed: int, heavy: bool) -> None:
    weight = weights(shape, seed, heavy)
    paired = quantize_weight(weight, 8, paired=True)
    assert largest_pair(paired) <= 128 and not saturates(paired)
    seven = quantize_weight(weight, 7, search_clip=False)
    assert error(weight, paired) < error(weight, seven)


def test_weights_whose_pairs_fit_are_rounded_as_any() -> None:
    weight = weights((4, 8, 3, 3), 0, heavy=False)
    weight[:, 1::2] = 0
    plain, paired = quantize_weight(weight, 8), quantize_weight(weight, 8, paired=True)
    assert np.array_equal(paired.integers, plain.integers) and np.array_equal(paired.scale, plain.scale)


def test_fewer_bits_need_no_limit() -> None:
    weight = weights((4, 8, 3, 3), 1, heavy=True)
    for bits in (4, 7):
        assert np.array_equal(
            quantize_weight(weight, bits, paired=True).integers, quantize_weight(weight, bits).integers
        )


@pytest.mark.parametrize(("pair", "beyond"), [((127, 1), False), ((-64, 64), False), ((-100, 29), True)])
def test_what_saturates(pair: tuple[int, int], beyond: bool) -> None:
    integers = np.zeros((2, 4, 1, 1), np.int8)
    integers[1, 2:, 0, 0] = pair
    assert saturates(QuantizedWeight(integers, np.ones(2, np.float32), 8)) == beyond


def test_a_channel_without_numbers_stays_zero() -> None:
    rounded = quantize_weight(np.zeros((2, 4), np.float32), 8, paired=True)
    assert not rounded.integers.any() and np.all(rounded.scale > 0)
