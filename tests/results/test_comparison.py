from __future__ import annotations

import json

import pytest

from autocomp.results.comparison import FrontComparison, PointComparison
from tests.fronts import front

GOOD = [(0.89, 0.6, 0.5), (0.88, 0.4, 0.4), (0.80, 0.2, 0.2)]
WORSE = [(0.88, 0.7, 0.6), (0.85, 0.5, 0.5)]


def test_the_better_front_dominates_and_is_cheaper_wherever_both_have_a_point() -> None:
    found = FrontComparison.of(front(GOOD), front(WORSE), ("a", "b"))
    assert found.hypervolumes[0] > found.hypervolumes[1]
    assert list(found.dominated) == pytest.approx([0, 2 / 3])  # all but the float network, which both hold
    assert found.ahead[0][3] is None and all(row[3] == 0 for row in found.ahead[1:])
    assert [row[0] for row in found.ahead] == sorted((row[0] for row in found.ahead), reverse=True)
    assert "a is cheaper" in str(found) and "b is cheaper" not in str(found)


def test_swapped_fronts_swap_everything() -> None:
    one, other = FrontComparison.of(front(GOOD), front(WORSE)), FrontComparison.of(front(WORSE), front(GOOD))
    assert one.hypervolumes == other.hypervolumes[::-1] and one.dominated == other.dominated[::-1]
    assert [row[3] for row in other.ahead] == [None if row[3] is None else 1 - row[3] for row in one.ahead]


def test_other_devices_are_compared_in_shares() -> None:
    found = FrontComparison.of(front(GOOD), front(GOOD, device="nvidia-t4"))
    assert found.as_shares and found.hypervolumes[0] == found.hypervolumes[1]
    assert "the devices differ" in str(found)


def test_where_a_front_is_not_so_accurate_the_json_has_none() -> None:
    result = front([(0.95, 0.5, 0.5)])
    found = FrontComparison.of(result, front(WORSE)).as_dict()
    rows = json.loads(json.dumps(found))["ahead"]
    assert rows[0]["second"] is None and rows[0]["cheaper"] == 0


def test_fronts_that_minimise_nothing_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match="must minimise a common cost, but got latency and size"):
        FrontComparison.of(front(GOOD, "latency<90%"), front(GOOD, "size<90%"))


def test_points() -> None:
    result = front(GOOD)
    found = PointComparison.of(result[1], result[2])
    assert list(found.costs["latency"]) == pytest.approx([2.4, 1.6])
    assert found.plan == {"format/layer1": ("w8a8", None), "format/layer2": (None, "w8a8")}
    assert "accuracy: -1.0 in the second" in str(found) and "format/layer2  as it is -> w8a8" in str(found)
