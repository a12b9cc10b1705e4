from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autocomp.results.details import (
    BINS,
    FILE,
    ClassProfile,
    FrontDetails,
    Histogram,
    LayerTensors,
    Levels,
    Losses,
    UniformPlan,
)
from autocomp.results.front import ParetoSet
from autocomp.results.growth import rounds
from autocomp.results.plots import figure
from autocomp.results.report import html
from autocomp.search_spaces import Plan
from tests.fronts import FLOAT, front

ROWS = [(0.89, 0.6, 0.5), (0.88, 0.4, 0.6), (0.87, 0.5, 0.7), (0.80, 0.3, 0.2)]
COST = {name: value / 2 for name, value in asdict(FLOAT).items()}
VALUES = Histogram.of(np.array([-1.0, 0.0, 0.5, 1.0]))
DETAILS = FrontDetails(
    (UniformPlan("w8a8", {"format/conv": "w8a8"}, 0.85, 2000, COST),),
    (
        LayerTensors("conv", {"w4": 0.25}, VALUES, {"w4": Levels(-1.0, 0.125, 15)}, VALUES, {"w4": Levels(0, 0.1, 9)}),
        LayerTensors("fc", {}, VALUES),
    ),
    Losses("key", {"conv": 12.5, "fc": None}, (ClassProfile(0, 40, 0.95, 0.7), ClassProfile(1, 60, 0.9, 0.92))),
)


def known(details: FrontDetails = DETAILS, **settings: Any) -> ParetoSet:
    return front(ROWS, details=details, **settings)


def test_a_histogram_counts_all_values() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    found = Histogram.of(values)
    assert len(found.counts) == BINS and sum(found.counts) == 1000
    assert (found.low, found.high) == (values.min(), values.max())
    assert sum(Histogram.of(np.full(7, 2.5)).counts) == 7


def test_details_come_back_from_their_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(DETAILS.to_json())
    assert FrontDetails.read(tmp_path) == DETAILS
    assert FrontDetails.read(tmp_path / "nowhere") is None
    (tmp_path / FILE).write_text('{"uniform": [], "tensors": [{}]}')
    with pytest.raises(ValueError, match=r"details\.json must be what ParetoSet\.save writes, but it lacks"):
        FrontDetails.read(tmp_path)


def test_a_saved_front_keeps_them(tmp_path: Path) -> None:
    assert ParetoSet.load(known().save(tmp_path)).details == DETAILS
    assert ParetoSet.load(front(ROWS).save(tmp_path / "without")).details is None


def test_uniform_plans_stand_in_the_plot() -> None:
    (first, _) = (trace for trace in figure(known()).data if trace.name == "same format everywhere")
    assert list(first.x) == [FLOAT.latency_ms / 2] and list(first.y) == [85.0]
    assert "w8a8 in all layers" in first.text[0] and "measured on 2,000 samples" in first.text[0]
    assert all(trace.name != "same format everywhere" for trace in figure(front(ROWS)).data)


def test_earlier_uniform_plans_stay_where_samples_are_missing() -> None:
    later = replace(DETAILS, uniform=())
    assert later.completed(DETAILS) == DETAILS and later.completed(None) == later


def test_sensitivities_of_a_plan_by_layer() -> None:
    details = FrontDetails(
        sensitivity={"format/conv": {"w4": 0.25}, "keep/conv": {"0.5": 0.5}, "format/fc": {"w8": 1e-6}}
    )
    plan = Plan({"format/conv": "w4", "keep/conv": 0.5, "format/fc": "w4"})
    assert (
        details.nats(plan, "conv") == 0.75 and details.nats(plan, "fc") is None and details.nats(Plan(), "conv") is None
    )


def test_the_report_names_what_loses() -> None:
    page = html(known())
    assert "<td>0</td><td>40</td><td>95.0%</td><td>70.0%</td><td>-25.0</td>" in page
    assert page.index("<td>0</td><td>40</td>") < page.index("<td>1</td><td>60</td>")
    assert '"layer": "conv"' in page and '"conv": 12.5' in page


def test_rounds_and_failures() -> None:
    result = known(settings={"rounds": [3, 5], "failures": {"it <fell>": 2}})
    made = rounds(result)
    assert [one.plans for one in made] == [3, 5]
    assert [one.kept for one in made] == [2, 1] and 0 < made[0].hypervolume < made[1].hypervolume
    assert made[1].hypervolume == pytest.approx(result.hypervolume())
    page = html(result)
    assert "2 of them: it &lt;fell&gt;" in page and "of its plans on the front" in page
    assert "<dt>rounds</dt>" not in page and "<dt>failures</dt>" not in page
    assert "No evaluation failed" in html(known(settings={"failures": {}}))


@pytest.mark.parametrize("stored", [None, "8, 16", [0, 1, 99], [{"a": 1}]])
def test_rounds_that_are_not_known(stored: Any) -> None:
    assert rounds(known(settings={"rounds": stored})) == []


def test_many_rounds_are_taken_together() -> None:
    result = front([(0.5 + i / 1000, 0.9, 0.9) for i in range(200)], settings={"rounds": list(range(2, 202))})
    made = rounds(result)
    assert 50 < len(made) <= 60 and made[-1].plans == 201 and sum(one.kept for one in made) == len(result) - 1
