from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autocomp.errors import BudgetError
from autocomp.hardware_models import LatencyErrors
from autocomp.problem.budget import Bound, Budget, check_reachable, objectives
from autocomp.problem.metrics import METRICS, rounded_up, significant

ATTRIBUTES = tuple(metric.attribute for metric in METRICS.values())


def cost(**values: Any) -> Any:
    """What a Cost looks like to a budget; whatever is not said is 1."""
    n = max((np.size(value) for value in values.values()), default=1)
    filled = {name: np.ones(n) if n > 1 else 1.0 for name in ATTRIBUTES} | values
    return SimpleNamespace(**filled)


positive = st.floats(min_value=1e-9, max_value=1e15, allow_nan=False)
bounds = st.one_of(
    st.builds(Bound, st.sampled_from(tuple(METRICS)), positive, st.booleans()),
    st.builds(Bound, st.just("accuracy"), st.floats(0, 1), st.booleans()),
)


@given(st.lists(bounds, max_size=5))
def test_text_is_canonical(parts: list[Bound]) -> None:
    budget = Budget(tuple(parts))
    assert Budget.parse(str(budget)) == budget


@given(st.sampled_from(list(METRICS.values())), st.decimals("0.001", "9999", places=3), st.data())
def test_units_scale(metric: Any, number: Any, data: st.DataObject) -> None:
    unit, other = (data.draw(st.sampled_from(metric.known_units)) for _ in range(2))
    value = Budget.parse(f"{metric.name}<{number}{unit}").bounds[0].value
    again = Budget.parse(f"{metric.name} <= {number * metric.scale(unit) / metric.scale(other):f} {other}").bounds[0]
    assert again.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency<5ms", [Bound("latency", 5.0)]),
        ("latency <= 500us", [Bound("latency", 0.5)]),
        ("latency<0.002s", [Bound("latency", 2.0)]),
        ("size<1KiB,memory<2GB", [Bound("size", 0.001024), Bound("memory", 2000.0)]),
        ("macs<5 and params<1.5M", [Bound("macs", 5.0), Bound("params", 1.5e6)]),
        ("bops<30%, weight_bytes<=20 KB", [Bound("bops", 0.3, relative=True), Bound("weight_bytes", 20_000.0)]),
        ("bops<1.5G, weight_bytes<1KiB", [Bound("bops", 1.5e9), Bound("weight_bytes", 1024.0)]),
        ("Latency<55%", [Bound("latency", 0.55, relative=True)]),
        ("energy<3mJ and accuracy>=-1%", [Bound("energy", 3.0), Bound("accuracy", 0.01, relative=True)]),
        ("accuracy>90%", [Bound("accuracy", 0.9)]),
        ("accuracy>.9", [Bound("accuracy", 0.9)]),
        ("accuracy > -0.005", [Bound("accuracy", 0.005, relative=True)]),
        ("  ", []),
    ],
)
def test_reads(text: str, expected: list[Bound]) -> None:
    assert Budget.parse(text).bounds == tuple(expected)


def test_written_in_the_largest_fitting_unit() -> None:
    assert str(Budget.parse("latency<=0.5ms and size<1500KB, accuracy>-1%, memory<1KiB")) == (
        "latency<500us, size<1.5MB, accuracy>-1%, memory<1.024KB"
    )


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("macro_f1>-1%", 0, "accuracy here (a metric of your own is bounded as accuracy), but got 'macro_f1>-1%'"),
        (
            "latncy<5ms",
            0,
            "one of latency, memory, size, energy, macs, params, bops, weight_bytes, tpot, cache, accuracy here, "
            "but got 'latncy",
        ),
        ("weight_bytes<5", 14, "a unit (B, KB, MB, GB"),
        ("latency>5ms", 7, "< or <= here (latency is bounded from above), but got '>5ms'"),
        ("accuracy<5%", 8, "> or >= here (accuracy is bounded from below)"),
        ("latency<", 8, "a number here, but it ends there"),
        ("latency<x", 8, "a number here, but got 'x'"),
        ("latency<-5ms", 8, "a number here, but got '-5ms'"),
        ("latency<0ms", 8, "a number above 0"),
        ("latency<1e400ms", 8, "a number above 0 and not too large"),
        ("latency<5", 9, "a unit (us, ms, s, or % of the float network's) here, but it ends there"),
        ("latency<5 and size<1MB", 10, "a unit (us, ms, s"),
        ("size<1MB, latency<5MB", 19, "a unit (us, ms, s, or % of the float network's) here, but got 'MB'"),
        ("latency<5ms size<1MB", 12, "a comma, 'and' or the end here, but got 'size<1MB'"),
        ("latency<5ms,", 12, "another bound"),
        ("latency<5ms,,size<1MB", 12, "but got ','"),
        ("accuracy>90", 9, "at most 100% or 1 here, but got '90'"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, at: int, message: str) -> None:
    with pytest.raises(ValueError, match="the budget must have") as caught:
        Budget.parse(text)
    assert message in str(caught.value)
    assert str(caught.value).splitlines()[1:] == [f"  {text}", "  " + " " * at + "^"]


def test_other_types() -> None:
    budget = Budget.parse("latency<5ms")
    assert Budget.parse(budget) is budget
    assert Budget.parse(None) == Budget()
    assert not Budget()
    with pytest.raises(TypeError, match="a budget must be text, a Budget or None, but got int"):
        Budget.parse(5)  # type: ignore[arg-type]


def test_violations_are_relative_excess_for_many_plans_at_once() -> None:
    budget = Budget.parse("latency<50%, size<2MB, accuracy>-1%")
    costs = cost(latency_ms=np.array([4.0, 5.0, 10.0]), size_mb=np.array([1.0, 2.0, 3.0]))
    found = budget.violations(costs, np.array([0.9, 0.89, 0.8]), cost(latency_ms=10.0), 0.9)
    np.testing.assert_allclose(found, np.array([[-0.2, -0.5, -0.01], [0.0, 0, 0], [1, 0.5, 0.09]]), atol=1e-12)
    np.testing.assert_allclose(
        budget.violation(costs, np.array([0.9, 0.89, 0.8]), cost(latency_ms=10.0), 0.9), [-0.01, 0, 1], atol=1e-12
    )


def test_scalar_cost_is_one_row_and_the_float_network_meets_100_percent() -> None:
    budget = Budget.parse("latency<100%, accuracy>-0%")
    assert budget.violations(cost(latency_ms=0.1), 0.3, cost(latency_ms=0.1), 0.3).tolist() == [[0.0, 0.0]]


def test_exactly_at_the_limit_is_within_it() -> None:
    budget = Budget.parse("accuracy>-1%")
    assert 0.5006 - 0.01 > 0.4906  # in binary fractions
    assert budget.violation(cost(), 0.4906, cost(), 0.5006).tolist() == [0.0]
    assert budget.violation(cost(), 0.4905, cost(), 0.5006).tolist() == [pytest.approx(0.0001)]


def test_unknown_accuracy_violates_nothing() -> None:
    budget = Budget.parse("accuracy>99%, latency<1ms")
    assert budget.violation(cost(latency_ms=0.5), None, cost(), None).tolist() == [0.0]
    assert Budget().violation(cost(latency_ms=np.ones(3)), None, cost(), None).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="relative to the float network's accuracy, which is not known"):
        Budget.parse("accuracy>-1%").violation(cost(), 0.5, cost(), None)


@given(st.lists(bounds, min_size=1, max_size=4), st.lists(positive, min_size=10, max_size=10), st.floats(0, 1))
def test_resolving_changes_no_violation(parts: list[Bound], values: list[float], accuracy: float) -> None:
    budget, of_float = Budget(tuple(parts)), cost(**dict(zip(ATTRIBUTES, values, strict=True)))
    plan = cost()
    absolute = budget.resolve(of_float, 0.9)
    np.testing.assert_array_equal(
        budget.violations(plan, accuracy, of_float, 0.9), absolute.violations(plan, accuracy, cost(), None)
    )
    assert not any(bound.relative for bound in absolute.bounds)


def test_objectives() -> None:
    assert objectives(Budget.parse("accuracy>-1%")) == ("latency", "size")
    assert objectives(Budget.parse("size<1MB, latency<5ms, size<10%, accuracy>-1%")) == ("size", "latency")


def test_unreachable_bounds_are_named_with_the_nearest() -> None:
    costs = cost(latency_ms=np.array([4.0, 2.3141, 3.0]), size_mb=np.array([1.0, 0.5, 0.2]))
    of_float = cost(latency_ms=4.0, size_mb=1.0)
    check_reachable(Budget.parse("latency<2.32ms, size<20%, accuracy>99%"), costs, of_float, "cpu")
    with pytest.raises(BudgetError) as caught:
        check_reachable(Budget.parse("latency<1ms, size<10%"), costs, of_float, "ascend-310p3")
    assert str(caught.value) == (
        "latency<1ms cannot be reached on ascend-310p3: the nearest is 2.32 ms (57.9 % of the float network's 4.00 ms);"
        " size<10% cannot be reached on ascend-310p3: the nearest is 20 % of the float network's 1.00 MB, 200 KB"
    )


@given(positive)
def test_rounded_up_is_never_below_and_close(value: float) -> None:
    assert value <= rounded_up(value) <= value * 1.01


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.98765, "0.988"), (9.996, "10.00"), (1234.5, "1,234"), (0.0001234, "0.000123"), (57.04, "57.0")],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


ERRORS = LatencyErrors((0.05, 0.1, 0.5, 0.9, 0.95), (-0.3, -0.2, 0.0, 0.25, 0.4))


def test_a_confidence_asks_for_room_below_the_bound() -> None:
    """A tenth of the left-out networks took 1 / 0.8 of their prediction or longer."""
    budget = Budget.parse("latency < 5 ms @ 90%").on(ERRORS, "mine")
    assert str(budget) == "latency<5ms@90%"
    assert budget.bounds[0].limit(cost(), None) == pytest.approx(4.0)
    found = budget.violation(cost(latency_ms=np.array([3.9, 4.0, 4.1])), None, cost(), None)
    assert found == pytest.approx([-0.025, 0, 0.025])
    assert str(budget.resolve(cost(), None)) == "latency<4ms"


@given(st.floats(0.5, 0.95), st.floats(0.5, 0.95))
def test_more_confidence_never_allows_more(one: float, other: float) -> None:
    limits = [Bound("latency", 5.0, confidence=c, margin=ERRORS.margin(c)).limit(cost(), None) for c in (one, other)]
    assert max(limits) <= 5.0
    assert (limits[0] <= limits[1]) or one <= other


def test_a_confidence_needs_known_errors() -> None:
    budget = Budget.parse("size<1MB, latency<5ms@0.8")
    with pytest.raises(ValueError, match="none were measured for mine"):
        budget.on(None, "mine")
    with pytest.raises(ValueError, match="needs the errors of a device"):
        budget.violation(cost(), None, cost(), None)
    assert Budget.parse("latency<5ms").on(None, "mine") == Budget.parse("latency<5ms")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency<5ms@99%", "a confidence from 50% to 95%"),
        ("latency<5ms@", "a number"),
        ("latency<50%@90%", "a share of the float network's cost has none"),
        ("size<1MB@90%", "known of the latency only"),
    ],
)
def test_a_confidence_that_cannot_be_held_is_pointed_at(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Budget.parse(text)


def test_an_unreachable_confidence_names_what_can_be_asked_for() -> None:
    budget = Budget.parse("latency<1ms@90%").on(ERRORS, "mine")
    with pytest.raises(BudgetError, match=r"the nearest is 2.50 ms, of which 2.00 ms are predicted"):
        check_reachable(budget, cost(latency_ms=np.array([2.0, 4.0])), cost(latency_ms=4.0), "mine")


class TestLowerIsBetter:
    @pytest.mark.parametrize(
        ("text", "shown", "relative", "value"),
        [
            ("wer<0.1", "wer<0.1", False, 0.1),
            ("latency<5ms, WER <= 12%", "wer<0.12", False, 0.12),
            ("metric < +5%", "wer<+5%", True, 0.05),
            ("wer<23.5 and size<1MB", "wer<23.5", False, 23.5),
        ],
    )
    def test_bounds(self, text: str, shown: str, relative: bool, value: float) -> None:
        (bound,) = [bound for bound in Budget.parse(text, "wer").bounds if bound.metric == "accuracy"]
        assert (str(bound), bound.relative) == (shown, relative) and bound.value == pytest.approx(value)
        assert Budget.parse(str(Budget.parse(text, "wer")), "wer") == Budget.parse(text, "wer")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("accuracy>-1%", r"wer<0.1 or wer<\+5% here \(lower is better of wer\)"),
            ("wer>0.1", "bounded from above"),
            ("wer<+5", "% here"),
            ("wer<+5%, cer<1", "one of latency"),
        ],
    )
    def test_mistakes(self, text: str, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            Budget.parse(text, "wer")

    def test_limits(self) -> None:
        """At scale 0.4 a float network of accuracy 0.75 has a value of 0.1."""
        of_float = cost()
        absolute, relative = Budget.parse("wer<0.12", "wer").scaled(0.4), Budget.parse("wer<+20%", "wer")
        for budget in (absolute, relative):
            (limit,) = (bound.limit(of_float, 0.75) for bound in budget.bounds)
            assert limit == pytest.approx(1 - 0.12 / 0.4)
            values = 1 - np.array([0.11, 0.13]) / 0.4
            costs = cost(latency_ms=np.ones(2))
            assert (budget.violation(costs, values, of_float, 0.75) <= 0).tolist() == [True, False]
        with pytest.raises(ValueError, match="needs the scale"):
            Budget.parse("wer<0.1", "wer").bounds[0].limit(of_float, 0.75)


@pytest.mark.parametrize(
    ("text", "least"), [("accuracy>+0.3%", 0.903), ("accuracy >= +2 %", 0.92), ("accuracy>+0.01", 0.91)]
)
def test_an_accuracy_above_the_float_networks(text: str, least: float) -> None:
    budget = Budget.parse(text)
    assert budget.bounds[0].limit(cost(), 0.9) == pytest.approx(least)
    assert Budget.parse(str(budget)) == budget and "+" in str(budget)
