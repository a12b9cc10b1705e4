from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from autocomp.deployment.inspection.layer_tables import LayerCounter
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.registry import search_space
from autocomp.results.front import ParetoSet
from autocomp.results.layers import FILE, LayerTables
from autocomp.results.point import Deployer
from autocomp.search_spaces import Format, Plan, SearchSpace
from tests.conftest import Subject
from tests.fronts import record
from tests.hardware_models.networks import Builder

FORMATS = tuple(map(Format.parse, ("float", "w8a8", "w4a8")))
NAMES = ("adaround", "channel-pruning", "operators")


@pytest.fixture(scope="module")
def counter(named_subject: Callable[[str], Subject]) -> LayerCounter:
    subject = named_subject("residual")
    space = search_space(subject.graph, subject.parameters, Choices(FORMATS, 4, NAMES))
    return LayerCounter(device("ascend-310p3"), space, 4)


@pytest.fixture(scope="module")
def plans(counter: LayerCounter) -> list[Plan]:
    found = [counter.space.decode(vector) for vector in counter.space.random(np.random.default_rng(0), 12)]
    assert any(name.startswith("structure/") for plan in found for name in plan)
    return found


def test_rows_add_up_to_the_plans_latency(counter: LayerCounter, plans: list[Plan]) -> None:
    tables = counter(plans)
    for plan in (Plan(), *plans):
        cost = counter.device.costs(counter.space.workload(counter.space.encode(plan)[None], 4))[0]
        rows = tables.plans[plan.key]
        assert tables.fixed_ms + sum(row.latency_ms for row in rows) == pytest.approx(cost.latency_ms)
        assert sum(tables.share(row, plan) for row in rows) < 1


def test_rows_say_what_the_plan_chooses(counter: LayerCounter) -> None:
    keep = next(knob for knob in counter.space.knobs if knob.kind == "keep")
    layer = keep.layers[0]
    plan = Plan({keep.name: keep.values[-1], f"format/{layer}": "w4a8"})
    one, row, before = next(found for found in counter([plan]).rows(plan) if found[0].name == layer)
    assert row.channels < before.channels == one.channels
    assert (row.format, before.format) == ("w4a8", "float")
    assert set(row.primitives) == {"adaround", "channel-pruning"} and before.primitives == ()


def test_every_operator_but_the_first_reads_another(counter: LayerCounter) -> None:
    operators = counter([]).operators
    assert operators[0].inputs == () and all(one.inputs for one in operators[1:])
    assert max(len(one.inputs) for one in operators) == 2  # the residual additions
    assert all(max(one.inputs) < i for i, one in enumerate(operators) if one.inputs)


def test_read_again(counter: LayerCounter, plans: list[Plan], tmp_path: Path) -> None:
    tables = counter(plans)
    assert LayerTables.read(tmp_path) is None
    (tmp_path / FILE).write_text(tables.to_json())
    assert LayerTables.read(tmp_path) == tables
    (tmp_path / FILE).write_text('{"schema": 1}')
    with pytest.raises(ValueError, match=r"must be what ParetoSet\.save writes, but it lacks 'operators'"):
        LayerTables.read(tmp_path)


@pytest.fixture(scope="module")
def chain() -> SearchSpace:
    """Four layers of 64 and 256 channels, whose channels can be cut to a half and three quarters."""
    builder = Builder(3, 56)
    x = builder.conv(builder.conv(0, 64), 64)
    builder.conv(builder.conv(x, 256), 256)
    return builder.space()


def test_cuts_that_do_not_pay_on_an_nvidia_gpu(chain: SearchSpace, tmp_path: Path) -> None:
    """48 of 64 channels fill no block of 64, 192 of 256 do; on an Ascend both pay."""
    counter = LayerCounter(device("nvidia-h100"), chain, 64)
    mild, strong = (Plan({f"keep/g{i}": ratio for i in range(3)}) for ratio in (0.75, 0.5))
    tables = counter([mild, strong])
    assert tables.unpaid == {mild.key: ("keep 0.75 of g0", "keep 0.75 of g1")} and tables.device == "nvidia-h100"
    costs = [
        counter.device.costs(chain.workload(chain.encode(plan)[None], 64)) for plan in (mild, _without(mild, "g1"))
    ]
    assert costs[0].latency_ms[0] >= costs[1].latency_ms[0] and costs[0].macs[0] < costs[1].macs[0]
    assert not LayerCounter(device("ascend-310p3"), chain, 64)([mild, strong]).unpaid
    (tmp_path / FILE).write_text(tables.to_json())
    assert LayerTables.read(tmp_path) == tables


def _without(plan: Plan, group: str) -> Plan:
    return Plan({name: plan[name] for name in plan if name != f"keep/{group}"})


class _Counts:
    """A deployer that knows what the operators cost, and no more."""

    def __init__(self, counter: LayerCounter) -> None:
        self.layers = counter


def test_the_table_and_the_points_name_cuts_that_do_not_pay(chain: SearchSpace) -> None:
    counter = LayerCounter(device("nvidia-t4"), chain, 8)
    plans = [Plan(), *(Plan({f"keep/g{i}": ratio for i in range(3)}) for ratio in (0.75, 0.5))]
    records = [replace(record(0.9 - 0.01 * i, 1 - 0.2 * i, 1 - 0.2 * i), plan=plan) for i, plan in enumerate(plans)]
    front = ParetoSet(records, cast(Deployer, _Counts(counter)), device="nvidia-t4")
    assert len(front) == 3
    line = "no faster on nvidia-t4, whatever else it saves: keep 0.75 of g0 (in 1 of 3 plans), keep 0.75 of g1"
    assert line in " ".join(str(front).split())
    by_plan = {point.plan: point for point in front}
    assert by_plan[plans[1]].unpaid_cuts == ("keep 0.75 of g0", "keep 0.75 of g1")
    assert by_plan[plans[1]].summary().endswith("; no faster for: keep 0.75 of g0, keep 0.75 of g1")
    assert "no faster" not in by_plan[plans[2]].summary() and by_plan[plans[2]].unpaid_cuts == ()
