"""Opens a report in headless Chromium, and presses what can be pressed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
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
  const row = rows[Math.min(2, rows.length - 1)];
  row.click();
  seen.clicked = [id("point").value === row.dataset.plan, id("summary").textContent];
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


def seen_by_browser(page: str, folder: Path) -> dict[str, Any]:
    path = folder / "report.html"
    path.write_text(page.replace("<head>", f"<head>{CLICKS}", 1), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stderr[-2000:]
    return dict(json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
