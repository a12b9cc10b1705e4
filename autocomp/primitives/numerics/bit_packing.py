"""Packs integers of 1 to 7 bits into bytes, so that a graph can take them apart by shifting.

Widths that divide 8 put whole integers into a byte, the first into its lowest bits. The others are a row of bits, eight
integers in as many bytes as an integer has bits. Either way ``(byte << left) >> right`` on int8, which keeps the sign,
gives the integers, or their bits as 0 and -1.
"""

from __future__ import annotations

import numpy as np

BYTE = 8


def in_fields(bits: int) -> bool:
    """Whether an integer lies in one byte, beside others."""
    return BYTE % bits == 0


def pack_bits(integers: np.ndarray, bits: int) -> np.ndarray:
    """int8 values -2^(bits - 1) .. 2^(bits - 1) - 1: (n, 1) int8, padded with zeros."""
    flat = integers.reshape(-1).astype(np.int64)
    unit = BYTE // bits if in_fields(bits) else BYTE
    flat = np.concatenate([flat, np.zeros(-len(flat) % unit, np.int64)])
    row = (flat[:, None] >> np.arange(bits)) & 1
    return np.packbits(row.astype(np.uint8), bitorder="little").view(np.int8).reshape(-1, 1)


def unpack_bits(packed: np.ndarray, bits: int, shape: tuple[int, ...]) -> np.ndarray:
    """The int8 array of ``shape`` that :func:`pack_bits` packed."""
    left, right = shifts(bits)
    found = (packed.reshape(-1, 1) << left).astype(np.int8) >> right
    flat = found.reshape(-1) if in_fields(bits) else found.reshape(-1, bits) @ weights_of_bits(bits)
    return flat[: int(np.prod(shape))].astype(np.int8).reshape(shape)


def shifts(bits: int) -> tuple[np.ndarray, np.int8]:
    """(1, parts) int8 and int8: by how much a byte is shifted to the left, then to the right, for each of its parts."""
    width = bits if in_fields(bits) else 1
    left = BYTE - width * np.arange(1, BYTE // width + 1)
    return left.astype(np.int8)[None], np.int8(BYTE - width)


def weights_of_bits(bits: int) -> np.ndarray:
    """(bits,) float32: what a bit, as 0 or -1, adds to an integer in two's complement."""
    found = -(2.0 ** np.arange(bits))
    found[-1] *= -1
    return found.astype(np.float32)


def packed_bytes(count: float | np.ndarray, bits: float | np.ndarray) -> np.ndarray:
    """Bytes of packed integers, for counts and widths of one shape; widths above 7 are whole bytes."""
    width = np.maximum(bits, 1)
    unit = np.where(np.mod(BYTE, width) == 0, BYTE // width, BYTE)
    return np.ceil(count / unit) * unit * width / BYTE


def in_halves(integers: np.ndarray) -> np.ndarray:
    """(rows, width) integers, of which the low 4 bits count, as (rows, width / 2) uint8: the first half of a row is in
    the low halves of its bytes, the second in the high ones."""
    low, high = np.split(integers.astype(np.uint8) & 15, 2, axis=1)
    return np.ascontiguousarray(low | (high << BYTE // 2))
