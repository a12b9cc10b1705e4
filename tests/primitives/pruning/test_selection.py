"""Which units stay, and what a cut costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.pruning.channel_pruning import keep_step
from autocomp.primitives.pruning.cut_cost import macs_cost, parameters_cost
from autocomp.primitives.pruning.selection import NOT_RATED, Share, select
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import SearchSpace
from tests.conftest import Subject


def importance_of(subject: Subject, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, subject.graph.unit_count)


def test_costs_are_those_of_the_network_that_is_really_cut(subject: Subject) -> None:
    kept = select(subject.graph, subject.parameters, importance_of(subject), Share(keep_ratio=0.6))
    compressed = PlanCompressor(SearchSpace(subject.graph, ()), subject.parameters).of(kept, {})
    cut = convert(subject.net, subject.graph, subject.parameters, compressed, folds=False)
    assert macs_cost(subject.graph).of(kept) == trace(cut, (subject.x[:1],)).macs
    elements = sum(parameter.size for parameter in cut.get_parameters())
    assert parameters_cost(subject.graph, subject.parameters).of(kept) == elements


@pytest.mark.parametrize("name", ["flops", "parameters"])
def test_slopes_are_what_each_unit_costs(subject: Subject, name: str) -> None:
    cost = Share(**{name: 0.5}).cost(subject.graph, subject.parameters)  # type: ignore[arg-type]
    kept = select(subject.graph, subject.parameters, importance_of(subject), Share(keep_ratio=0.6))
    slopes, step = cost.slopes(kept), 1e-4
    for unit in range(0, len(kept), max(len(kept) // 16, 1)):
        more = kept.astype(float)
        more[unit] += step
        assert slopes[unit] == pytest.approx((cost.of(more) - cost.of(kept)) / step, rel=1e-3)


@pytest.mark.parametrize("name", ["flops", "parameters"])
def test_what_competes_by_its_cost_keeps_more_importance_in_the_same_share(subject: Subject, name: str) -> None:
    importance, share = importance_of(subject), Share(**{name: 0.6})  # type: ignore[arg-type]
    alone, by_cost = (
        select(subject.graph, subject.parameters, importance, replace(share, per_cost=chosen))
        for chosen in (False, True)
    )
    cost = share.cost(subject.graph, subject.parameters)
    assert cost.of(by_cost) <= 0.6 * cost.of(np.ones_like(by_cost))
    assert importance[by_cost].sum() >= importance[alone].sum()


@pytest.mark.parametrize("name", ["keep_ratio", "flops", "parameters"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_the_share_is_met_and_the_floor_kept(subject: Subject, name: str, per_layer: bool) -> None:
    share = replace(Share(**{name: 0.55}), per_layer=per_layer, channel_divisor=2, min_keep_ratio=0.25)  # type: ignore[arg-type]
    kept = select(subject.graph, subject.parameters, importance_of(subject), share)
    cost = share.cost(subject.graph, subject.parameters)
    left = cost.of(kept) / cost.of(np.ones_like(kept))
    assert (left <= 0.55 or (per_layer and name == "keep_ratio")) and left > 0.35
    for group in subject.graph.channel_groups:
        count = int(kept[group.start : group.stop].sum())
        assert count >= 0.25 * group.units
        assert count == group.units or count % keep_step(group, 2) == 0


def test_the_least_important_of_a_group_go(subject: Subject) -> None:
    importance = importance_of(subject)
    for per_layer in (False, True):
        kept = select(subject.graph, subject.parameters, importance, Share(flops=0.5, per_layer=per_layer))
        for group in subject.graph.channel_groups:
            part = slice(group.start, group.stop)
            if not kept[part].all():
                assert importance[part][kept[part]].min() >= importance[part][~kept[part]].max()


def test_over_the_whole_network_what_is_useless_goes_first(subject: Subject) -> None:
    """One group is worth nothing: with a share of all units it is cut to its floor before any other loses a unit."""
    importance = importance_of(subject)
    victim = max(subject.graph.channel_groups, key=lambda group: group.units)
    importance[victim.start : victim.stop] = 1e-6
    ratio = 1 - 0.5 * victim.units / subject.graph.unit_count
    kept = select(subject.graph, subject.parameters, importance, Share(keep_ratio=ratio))
    inside = np.zeros(len(kept), bool)
    inside[victim.start : victim.stop] = True
    assert kept[~inside].all() and (~kept[inside]).sum() == pytest.approx(0.5 * victim.units, abs=1)


def test_rounds_lead_to_the_share() -> None:
    shares = Share(flops=0.5, per_layer=True).in_rounds(3)
    np.testing.assert_allclose([share.value for share in shares], [0.5 ** (1 / 3), 0.5 ** (2 / 3), 0.5])
    assert all(share.per_layer and share.name == "flops" for share in shares)


def test_negative_scores_rank_below_zero(subject: Subject) -> None:
    importance = importance_of(subject)
    group = subject.graph.channel_groups[0]
    importance[group.start + 1] = -5
    kept = select(subject.graph, subject.parameters, importance, Share(keep_ratio=1 - 1 / subject.graph.unit_count))
    assert np.flatnonzero(~kept).tolist() == [group.start + 1]


def test_what_is_not_rated_stays(subject: Subject) -> None:
    importance = importance_of(subject)
    group = subject.graph.channel_groups[0]
    importance[group.start : group.stop] = NOT_RATED
    for per_layer in (False, True):
        kept = select(subject.graph, subject.parameters, importance, Share(keep_ratio=0.8, per_layer=per_layer))
        assert kept[group.start : group.stop].all() and not kept.all()


def test_a_share_out_of_reach_is_refused(subject: Subject) -> None:
    with pytest.raises(
        ValueError, match=r"flops=0.01 cannot be reached: with min_keep_ratio=0.5 and channel_divisor=1 0\.\d+ of"
    ):
        select(subject.graph, subject.parameters, importance_of(subject), Share(flops=0.01, min_keep_ratio=0.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of keep_ratio, flops and parameters must be given, but got none of them"),
        ({"flops": 0.5, "parameters": 0.5}, "must be given, but got flops, parameters"),
        ({"flops": 1.5}, r"flops must be in \(0, 1\), but got flops=1.5"),
        ({"flops": 0.5, "channel_divisor": 0}, "channel_divisor must be 1 or more"),
        ({"flops": 0.5, "min_keep_ratio": 1.0}, "min_keep_ratio must be in"),
        (
            {"keep_ratio": 0.05, "per_layer": True},
            "keep_ratio=0.05 of every group cannot be reached with min_keep_ratio=0.1",
        ),
        ({"flops": 0.5, "per_layer": True, "per_cost": True}, "leave out per_cost"),
    ],
)
def test_bad_shares(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Share(**arguments)  # type: ignore[arg-type]
