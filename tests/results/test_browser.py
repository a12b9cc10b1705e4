"""The report in a browser: no error, and every part of it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autocomp.results.layers import DrawnOperator, LayerCosts, LayerTables
from autocomp.results.report import html
from autocomp.search_spaces import Plan
from tests.fronts import front

from .browser import BROWSER, seen_by_browser

LAYERS = 200

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


def deep(result: Any) -> LayerTables:
    """A chain of many layers with shortcuts, under every point."""
    operators = tuple(
        DrawnOperator(f"stage.{i}", "conv", ("relu",), (i - 1, i - 4) if i % 5 == 4 else (i - 1,) * (i > 0), 64 + i)
        for i in range(LAYERS)
    )
    kept = tuple(LayerCosts(32 + i % 7, "w4a8", ("adaround",), 0.01, 1e4, "memory") for i in range(LAYERS))
    whole = tuple(LayerCosts(64 + i, "float", (), 0.02, 2e4, "compute") for i in range(LAYERS))
    plans = {point.plan.key: kept for point in result} | {Plan().key: whole}
    return LayerTables(operators, plans, 0.1)


def test_every_part_of_the_report_answers(tmp_path: Path) -> None:
    result = front([(0.89, 0.6, 0.5), (0.88, 0.4, 0.6), (0.80, 0.3, 0.2)], "latency<70%, size<90%")
    result._layers = deep(result)
    seen = seen_by_browser(html(result), tmp_path)
    assert seen["errors"] == []
    assert all(seen[part] for part in ("front", "network", "search", "arrow", "dark"))
    chosen, summary = seen["clicked"]
    assert chosen and "accuracy 88.0 %" in summary
    assert seen["boxes"] == seen["lines"] == LAYERS and seen["plots"] >= 2
    assert len(seen["paint"]) == 1


def test_a_front_without_layers_says_so(tmp_path: Path) -> None:
    page = html(front([(0.89, 0.6, 0.5), (0.88, 0.4, 0.6)])).replace(
        'seen.clicked = [id("point").value', "seen.clicked = [0"
    )
    seen = seen_by_browser(page, tmp_path)
    assert seen["errors"] == [] and seen["boxes"] == 0
    assert "saved without its network" in seen["clicked"][1]
