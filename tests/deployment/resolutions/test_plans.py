"""Plans at a lower resolution have the names of the user's network."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.deployment.resolutions.plans import LowerResolution
from autocomp.results.wording import short
from autocomp.search_spaces import RESOLUTION, Plan

NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
PLACES = st.lists(NAMES | st.just("network"), min_size=1, max_size=4).map(".".join)
KINDS = st.sampled_from(("format", "keep", "structure", "skip", "sparsity", "activation"))


@given(
    st.dictionaries(st.tuples(KINDS, PLACES), st.sampled_from((0.5, "w8a8", "w4@lsq"))), st.sampled_from((0.5, 0.875))
)
def test_names_come_back(choices: dict[tuple[str, str], Any], ratio: float) -> None:
    lower = LowerResolution(ratio)
    told = Plan({f"{kind}/{place}": value for (kind, place), value in choices.items()} | {RESOLUTION: ratio})
    own = lower.own(told)
    assert all(name.partition("/")[2].startswith("network.") for name in own) and len(own) == len(choices)
    assert lower.told(own) == told and LowerResolution.of(told) == lower and LowerResolution.of(own) is None


@pytest.mark.parametrize("ratio", [0, 1, 1.5, "0.5", True, -0.5])
def test_other_ratios_are_refused(ratio: Any) -> None:
    with pytest.raises(ValueError, match=r"^the plan's resolution/images must be a share above 0 and below 1, but got"):
        LowerResolution.of(Plan({RESOLUTION: ratio}))


def test_in_words() -> None:
    assert short(Plan({RESOLUTION: 0.75, "format/a": "w8", "keep/b": 0.5})) == "resolution 0.75, w8 x1, keep 0.5 x1"
    assert short(Plan({RESOLUTION: 0.875})) == "resolution 0.875"
