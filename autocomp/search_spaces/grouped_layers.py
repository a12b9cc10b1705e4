"""Groups of a convolution as onnxruntime's kernels multiply them: several together, with zeros between them."""

from __future__ import annotations

import numpy as np

WIDE = 32  # least input channels in integers: with fewer they take longer, with more they multiply more zeros
FILLED, WIDEST = 16, 64  # channels in a block of floats: a group has whole ones, or takes up to five times as long


def groups_together(groups: int, width: int | np.ndarray) -> np.ndarray:
    """How many groups one convolution multiplies in integers, a divisor of ``groups``. width: input channels of a
    group."""
    divisors = _divisors(groups)
    needed = np.ceil(WIDE / np.maximum(width, 1))
    return np.asarray(divisors[np.minimum(np.searchsorted(divisors, needed), len(divisors) - 1)])


def groups_together_in_floats(groups: int, width: int | np.ndarray, outputs: int | np.ndarray) -> np.ndarray:
    """How many groups are one in floats, a divisor of ``groups``: so many that its channels in and out fill blocks, if
    they are then not too wide. outputs: output channels of a group."""
    found = np.ones(np.shape(width), np.int64)
    for count in _divisors(groups)[::-1]:
        whole = (np.multiply(width, count) % FILLED == 0) & (np.multiply(outputs, count) % FILLED == 0)
        found = np.where(whole & (np.multiply(width, count) <= WIDEST), count, found)
    return found


def _divisors(groups: int) -> np.ndarray:
    return np.array([count for count in range(1, groups + 1) if groups % count == 0])
