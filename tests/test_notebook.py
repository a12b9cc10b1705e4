"""The notebook of the examples runs as it is, and shows what it says."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "look_at_a_search.ipynb"


def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(FILE, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    NotebookClient(notebook, kernel_name="python3").execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pages = [output["data"]["text/html"] for output in shown if "text/html" in output.get("data", {})]
    texts = " ".join("".join(output.get("text", "") for output in shown).split())
    assert "float network" in pages[0] and len(pages) >= 2
    assert any("plotly" in str(output.get("data", {})) for output in shown)
    assert "loses most by" in texts and "outputs agree to" in texts and "points from 24 evaluations" in texts
    assert "report.html" in str(shown[-1]["data"]["text/plain"])
