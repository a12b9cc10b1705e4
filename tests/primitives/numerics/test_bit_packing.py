from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autocomp.primitives.numerics.bit_packing import pack_bits, packed_bytes, unpack_bits
from autocomp.primitives.numerics.quantizers import QuantizedWeight

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def integers(bits: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    top = 2 ** (bits - 1)
    return np.random.default_rng(seed).integers(-top, top, shape).astype(np.int8)


@given(bits=st.integers(1, 7), shape=SHAPES, seed=st.integers(0, 99))
def test_round_trip_in_as_few_bytes_as_predicted(bits: int, shape: tuple[int, ...], seed: int) -> None:
    values = integers(bits, shape, seed)
    packed = pack_bits(values, bits)
    assert packed.dtype == np.int8 and packed.shape == (int(packed_bytes(values.size, bits)), 1)
    np.testing.assert_array_equal(unpack_bits(packed, bits, shape), values)


@pytest.mark.parametrize("bits", range(1, 8))
def test_no_bit_is_lost_to_padding(bits: int) -> None:
    assert pack_bits(integers(bits, (8, 16)), bits).size == 16 * bits


def test_four_bits_lie_as_in_an_onnx_file() -> None:
    assert pack_bits(np.array([1, 2, -1], np.int8), 4).view(np.uint8).reshape(-1).tolist() == [0x21, 0x0F]


@settings(max_examples=8, deadline=None)
@given(bits=st.integers(1, 8), odd=st.booleans(), shape=SHAPES)
def test_mindspore_unpacks_the_same(bits: int, odd: bool, shape: tuple[int, ...]) -> None:
    from autocomp.primitives.cells.layers import StoredWeight
    from autocomp.primitives.tracing.platform import forward

    odd = odd and bits < 4
    values = 2 * integers(bits, shape) + 1 if odd else integers(bits, shape)
    weight = QuantizedWeight(values, np.linspace(0.5, 2, len(values)).astype(np.float32), bits, odd=odd)
    np.testing.assert_array_equal(forward(StoredWeight(weight), (), graph=False)[0], weight.dequantized())
