"""How many groups of a convolution are multiplied together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autocomp.search_spaces import groups_together, groups_together_in_floats

COUNTS, WIDTHS = st.integers(1, 96), st.integers(1, 200)


@given(COUNTS, WIDTHS)
def test_groups_are_as_few_as_make_a_convolution_wide(groups: int, width: int) -> None:
    together = int(groups_together(groups, width))
    fewer = [count for count in range(1, together) if groups % count == 0]
    assert groups % together == 0
    assert together == groups or together * width >= 32
    assert all(count * width < 32 for count in fewer)


@given(COUNTS, WIDTHS, WIDTHS)
def test_in_floats_they_fill_blocks_or_stay(groups: int, width: int, outputs: int) -> None:
    together = int(groups_together_in_floats(groups, width, outputs))
    assert groups % together == 0
    filled = (together * width) % 16 == 0 and (together * outputs) % 16 == 0
    assert together == 1 or (filled and together * width <= 64)


@given(COUNTS, st.lists(WIDTHS, min_size=1, max_size=5))
def test_plans_are_answered_at_once(groups: int, widths: list[int]) -> None:
    alone = [int(groups_together(groups, width)) for width in widths]
    assert groups_together(groups, np.array(widths, float)).tolist() == alone
    alone = [int(groups_together_in_floats(groups, width, 16)) for width in widths]
    assert groups_together_in_floats(groups, np.array(widths, float), np.full(len(widths), 16.0)).tolist() == alone
