from __future__ import annotations

import base64
import gzip
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from autocomp.results.plots import figure, history
from autocomp.results.report import html
from tests.fronts import front

ROWS = [(0.89, 0.6, 0.5), (0.88, 0.4, 0.6), (0.87, 0.5, 0.7), (0.80, 0.3, 0.2), (0.5, 0.95, 0.95)]


class Page(HTMLParser):
    """Texts of the cells of each table row, addresses that the page would load, and whether all tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def page() -> str:
    settings = {"seed": 7, "sampler": "nsga2", "note": "<script>alert(1)</script>"}
    return html(front(ROWS, "latency<70%, accuracy>-15%", settings=settings, notes=["bound by <fixed> costs"]))


def test_needs_nothing_else(page: str) -> None:
    parsed = Page(page)
    assert parsed.open == [] and parsed.loaded == []
    assert len(page) < 3_000_000
    packed = re.search(r'id="plotly">([^<]+)<', page)
    assert packed and gzip.decompress(base64.b64decode(packed[1])).decode() == get_plotlyjs()


def test_has_the_table_and_what_the_search_ran_with(page: str) -> None:
    rows = Page(page).rows
    assert rows[0] == ["plan", "accuracy%", "changepoints", "latencyms", "ratio", "sizeMB", "ratio"]
    assert rows[1][:2] == ["float network", "90.0"]
    assert [row[1] for row in rows[2:]] == ["89.0", "88.0", "80.0"]
    for text in ("latency&lt;70%, accuracy&gt;-15%", "ascend-310p3", "<dd>7</dd>", "<dd>nsga2</dd>", "hypervolume"):
        assert text in page


def test_text_is_escaped(page: str) -> None:
    assert "bound by &lt;fixed&gt; costs" in page
    assert "<script>alert" not in page


def traces(result: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for trace in figure(result).data:
        found.setdefault(trace.name, []).append(trace)
    return found


def test_every_evaluated_plan_is_drawn_once_in_each_panel() -> None:
    result = front(ROWS, "latency<70%, size<90%")
    result[0].measured["size_mb"] = 0.55
    found = traces(result)
    counts = {name: [len(trace.x) for trace in panels] for name, panels in found.items() if name}
    assert counts == {
        "evaluated": [1, 1],
        "evaluated, over budget": [1, 1],
        "Pareto front": [3, 3],
        "measured": [1],
        "knee": [1, 1],
        "float network": [1, 1],
    }
    latencies = next(trace for trace in found["Pareto front"] if trace.xaxis == "x")
    assert list(latencies.x) == pytest.approx([2.4, 1.6, 1.2])
    assert list(latencies.y) == pytest.approx([89, 88, 80])
    assert found["measured"][0].showlegend
    assert sum(trace.showlegend for trace in found["Pareto front"]) == 1


def test_axes_have_units_and_the_budget_has_lines() -> None:
    plot = figure(front(ROWS, "latency<70%, size<90%, accuracy>-15%"))
    assert plot.layout.xaxis.title.text == "latency [ms], predicted"
    assert plot.layout.xaxis2.title.text == "size [MB], predicted"
    assert plot.layout.yaxis.title.text == "accuracy [%]"
    texts = [annotation.text for annotation in plot.layout.annotations]
    assert texts == ["latency<2.80 ms", "accuracy>75.0 %", "size<900 KB"]
    lines = [(shape.x0, shape.y0) for shape in plot.layout.shapes]
    assert lines == [(pytest.approx(2.8), 0), (0, pytest.approx(75)), (pytest.approx(0.9), 0), (0, pytest.approx(75))]


def test_hover_tells_the_plan() -> None:
    found = traces(front(ROWS))
    text = found["Pareto front"][0].text[0]
    assert re.search(r"<b>w8a8 x1</b><br>accuracy 89.0 % \(-1.0 points\)<br>latency 2.40 ms \(60 % of float\)", text)


def test_a_front_of_the_float_network_alone(tmp_path: Path) -> None:
    path = front([]).report(tmp_path / "new" / "report.html")
    assert [row[0] for row in Page(path.read_text()).rows] == ["plan", "float network"]


def test_long_fronts_show_20_and_all_on_demand() -> None:
    result = front([(0.5 + 0.006 * i, 0.1 + 0.014 * i, 0.5) for i in range(40)])
    page = html(result)
    assert f"<summary>all {len(result)} points of the front</summary>" in page
    tables = re.findall(r"<table>.*?</table>", page, re.S)
    assert [len(Page(table).rows) for table in tables] == [21, len(result) + 1]


def test_history_grows_to_the_hypervolume_of_the_front() -> None:
    result = front(ROWS)
    line = history(result).data[0]
    assert list(line.x) == list(range(1, len(result.evaluated) + 1)) and (np.diff(line.y) >= 0).all()
    assert line.y[-1] == pytest.approx(result.hypervolume())


def test_history_of_many_plans_has_few_steps() -> None:
    (line,) = history(front([(0.5, 0.5, 0.5)] * 300)).data
    assert len(line.x) == 60 and line.x[-1] == 301


def test_points_know_their_intervals() -> None:
    result = front(ROWS)
    assert traces(result)["Pareto front"][0].error_y.array is None
    errors = [replace(point, change_error=0.01) for point in result]
    result._points = tuple(errors)
    assert list(traces(result)["Pareto front"][1].error_y.array) == pytest.approx([1.96] * (len(errors) - 1))
