"""The examples of what others add run, and what they add is what searches."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import autocomp
from autocomp.samplers import Outcome, Problem, sampler
from tests.third_party import run_example
from tests.toy import toy_space

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "look_at_a_search.ipynb"


def front_of(example: str, monkeypatch: pytest.MonkeyPatch) -> autocomp.ParetoSet:
    front: autocomp.ParetoSet = run_example(example, monkeypatch)["main"](trials=8, samples=100)
    return front


def test_the_primitive_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    front = front_of("third_party_primitive.py", monkeypatch)
    assert front.settings["primitives"] == "l1-pruning, post-training"
    assert len(front.evaluated) == 8
    assert min(point.cost.latency_ms for point in front) < 0.75 * front.float_point.cost.latency_ms
    assert any(name.startswith("keep/") for point in front.evaluated for name in point.plan)


def test_the_sampler_anneals(monkeypatch: pytest.MonkeyPatch) -> None:
    front = front_of("third_party_sampler.py", monkeypatch)
    assert front.settings["sampler"] == "annealing" and len(front.evaluated) == 8
    space = toy_space()
    made = sampler("annealing", Problem(space, 2, trials=400, seed=1))
    best, zero = 2.0, np.zeros(len(space.knobs), np.int64)
    made.tell([Outcome(tuple(zero.tolist()), (-1.0, 1.0))])
    for _ in range(50):  # the share of the knobs that are at their strongest value is the cost
        asked = made.ask(8)
        costs = [float((plan == space.sizes - 1).mean()) for plan in asked]
        made.tell([Outcome(tuple(p.tolist()), (-1.0, 1.0 - c)) for p, c in zip(asked, costs, strict=True)])
        best = min(best, 1.0 - max(costs))
    assert best < 0.35, "random plans reach 0.5"


def test_a_small_llama_learns_and_is_compressed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")  # MindSpore looks for the module of a network's class
    example = importlib.import_module("small_llama")
    kept = ("w4, GPTQ",)
    for name, value in {"HELD_OUT": 16, "CALIBRATED": 16, "TRAINED": 2, "WRITTEN": 3}.items():
        monkeypatch.setattr(example, name, value)
    monkeypatch.setattr(example, "ALGORITHMS", {name: example.ALGORITHMS[name] for name in kept})
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 100)
    found = example.main(tmp_path / "text.txt", steps=30, width=64, blocks=1, trials=4, out=tmp_path)
    assert list(found)[:2] == ["float", *kept] and len(found) == 6
    assert found["float"] < 10  # of 18 characters
    assert found["w4, GPTQ"] < 1.5 * found["float"]
    assert {path.name for path in tmp_path.glob("*.mindir")} == {"w4__GPTQ.mindir"}
    assert {path.name for path in tmp_path.glob("*.onnx")} == {
        f"{name}.onnx" for name in ("net", "step", "prefill", "step8", "step4")
    }
    caches = [found[f"cache in {kind}"] for kind in ("floats", "8 bits", "4 bits")]
    assert caches == pytest.approx([caches[0]] * 3, rel=0.05) and len(set(caches)) == 3
    assert "seconds with the cache, the Cell's own" in capsys.readouterr().out


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
