"""The report in a browser: no error, and every part of it answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from autocomp.results.layers import DrawnOperator, LayerCosts, LayerTables
from autocomp.results.report import html
from autocomp.search_spaces import Plan
from tests.fronts import front

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LAYERS = 200
CLICKS = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("load", async () => {
  const wait = (ms) => new Promise((then) => setTimeout(then, ms));
  for (let i = 0; i < 200 && !document.documentElement.dataset.ready; i++) await wait(50);
  const seen = {}, id = (name) => document.getElementById(name);
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.click();
    seen[tab.dataset.tab] = !id(tab.dataset.tab).hidden;
  }
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  document.querySelector("[role=tab]").focus();
  press("ArrowRight");
  seen.arrow = !id("network").hidden;
  const before = document.documentElement.classList.contains("dark");
  id("theme").click();
  seen.dark = document.documentElement.classList.contains("dark") !== before;
  const rows = [...document.querySelectorAll("tr[data-plan]")];
  rows[2].click();
  seen.clicked = [id("point").value === rows[2].dataset.plan, id("summary").textContent];
  id("point").selectedIndex = 0;
  id("point").dispatchEvent(new Event("change"));
  seen.boxes = id("picture").querySelectorAll("g[data-row]").length;
  seen.lines = id("layers").tBodies[0] ? id("layers").tBodies[0].rows.length : 0;
  seen.plots = document.querySelectorAll(".main-svg").length;
  seen.paint = performance.getEntriesByName("first-contentful-paint").map((one) => one.startTime);
  seen.errors = errors;
  const found = document.createElement("pre");
  found.id = "seen";
  found.textContent = JSON.stringify(seen);
  document.body.append(found);
});
</script>"""

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


def seen_by_browser(page: str, folder: Path) -> dict[str, Any]:
    path = folder / "report.html"
    path.write_text(page.replace("<head>", f"<head>{CLICKS}", 1), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return dict(json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))


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
