"""What ``examples/`` adds to autocomp, registered for one test."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from autocomp.primitives import register
from autocomp.primitives import registry as primitive_registry
from autocomp.samplers import registry as sampler_registry

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PRIMITIVE, SAMPLER = "l1-pruning", "annealing"


def run_example(example: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the example's file defines; what it registers is gone after the test."""
    monkeypatch.setattr(primitive_registry, "_REGISTRY", dict(primitive_registry._REGISTRY))
    monkeypatch.setattr(sampler_registry, "_MAKERS", dict(sampler_registry._MAKERS))
    return runpy.run_path(str(EXAMPLES / example))


def add_primitive(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run_example("third_party_primitive.py", monkeypatch)["L1Pruning"]()
    register(made, automatic=made.automatic)


def add_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    run_example("third_party_sampler.py", monkeypatch)
