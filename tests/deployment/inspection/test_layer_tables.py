from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autocomp.deployment.inspection.layer_tables import LayerCounter
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.registry import search_space
from autocomp.results.layers import FILE, LayerTables
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject

FORMATS = tuple(map(Format.parse, ("float", "w8a8", "w4a8")))
NAMES = ("adaround", "channel-pruning", "low-rank", "ghost")


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
