"""How soon a browser shows a report: the first contentful paint in headless Chromium, of a front of a network with 200
layers under 20 plans, or of a report of one's own.

    python benchmarks/report_paint.py [report.html] [--runs 5]
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost
from autocomp.problem.record import Record
from autocomp.results.front import ParetoSet
from autocomp.results.layers import DrawnOperator, LayerCosts, LayerTables
from autocomp.results.report import html
from autocomp.search_spaces import Plan

LAYERS, PLANS, RUNS = 200, 20, 5
GOAL_S, ATTEMPTS = 2.0, 10
SCRIPT = """<script>
new PerformanceObserver((list) => {
  for (const one of list.getEntriesByName("first-contentful-paint")) document.title = `painted ${one.startTime}`;
}).observe({ type: "paint", buffered: true });
</script>"""


def front() -> ParetoSet:
    """A chain of convolutions with shortcuts, each plan a little smaller than the one before."""
    operators = tuple(
        DrawnOperator(f"stage.{i}", "conv", ("relu",), (i - 1, i - 4) if i % 5 == 4 else (i - 1,) * (i > 0), 64 + i)
        for i in range(LAYERS)
    )
    records, tables = [], {}
    for k in range(PLANS + 1):
        plan = Plan({f"format/stage.{i}": "w8a8" for i in range(k * LAYERS // PLANS)})
        share = 1 - 0.6 * k / PLANS
        cost = Cost(10 * share, 40.0, 20 * share, 50 * share, 1e9 * share, 5e6)
        measured = Measurement(0.9 - 0.002 * k, "accuracy", 2000, 1.0, 0, "2000 images")
        records.append(Record(plan, (k,), measured, cost, 0.0))
        tables[plan.key] = tuple(
            LayerCosts(64 + i, "w8a8" if k else "float", ("rtn",), 0.05 * share, 1e4, "memory") for i in range(LAYERS)
        )
    return ParetoSet(records, device="ascend-310p3", layers=LayerTables(operators, tables, 0.1))


def paint_s(browser: str, page: Path) -> float:
    """Seconds from the start of the navigation."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--timeout=10000", "--dump-dom"]
    for _ in range(ATTEMPTS):  # the page may be dumped before the paint is reported
        done = subprocess.run([browser, *flags, page.as_uri()], capture_output=True, text=True, check=True)
        if (found := re.search(r"<title>painted ([\d.]+)</title>", done.stdout)) is not None:
            return float(found[1]) / 1e3
    raise RuntimeError(f"the browser reported no paint: {done.stderr[-500:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", help="a report.html; none: of 200 layers under 20 plans")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        parser.error("it needs Chromium, but none is installed")
    text = html(front()) if options.report is None else options.report.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(text.replace("</title>", f"</title>{SCRIPT}", 1), encoding="utf-8")
        seconds = [paint_s(browser, page) for _ in range(options.runs)]
    print(f"{len(text) / 1e6:.2f} MB, {options.runs} runs: " + ", ".join(f"{one:.2f}" for one in seconds) + " s")
    print(f"first paint: {statistics.median(seconds):.2f} s (goal {GOAL_S:g})")


if __name__ == "__main__":
    main()
