"""A worker's device evaluates where its numbers are the processor's; no device is needed here, a stand-in plays it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from autocomp.evaluators import PlanEvaluator
from autocomp.search_spaces import Plan
from autocomp.study.cluster.accelerators import use_accelerator
from tests.conftest import Subject

CUDA = "CUDAExecutionProvider"
REAL = onnxruntime.InferenceSession


class StandIn:
    """A session that says it runs on the device; its numbers are off by so much."""

    off, runs_on, error = 0.0, CUDA, ""

    def __init__(self, model: bytes, options: Any, providers: list[Any], **rest: Any) -> None:
        wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
        self._there = wanted == CUDA
        self._session = REAL(model, options, providers=["CPUExecutionProvider"], **rest)

    def run(self, *given: Any) -> list[np.ndarray]:
        if self._there and self.error:
            raise RuntimeError(self.error)
        return [array * (1 + self.off * self._there) for array in self._session.run(*given)]

    def get_providers(self) -> list[str]:
        return [self.runs_on if self._there else "CPUExecutionProvider"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def evaluator(named_subject: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch) -> PlanEvaluator:
    found: PlanEvaluator = pickle.loads(pickle.dumps(named_subject("residual").evaluator))
    monkeypatch.setattr(onnxruntime, "InferenceSession", StandIn)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    return found


def on_processor(evaluator: PlanEvaluator) -> bool:
    return bool(evaluator.engine.providers == ("CPUExecutionProvider",))  # type: ignore[attr-defined]


def test_the_device_is_used_where_its_numbers_are_the_same(
    evaluator: PlanEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluator.evaluate(Plan())
    monkeypatch.setattr(StandIn, "off", 1e-6)
    assert use_accelerator(evaluator, ["GPU"]) == f"plans are evaluated by {CUDA}"
    assert evaluator.engine.providers[0][0] == CUDA  # type: ignore[attr-defined]
    assert evaluator.evaluate(Plan()).accuracy == pytest.approx(before.accuracy, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"off": 0.1}, f"numbers by {CUDA} differ by 1.0e-01 \\(at most 0.001\\)"),
        ({"off": float("nan")}, f"numbers by {CUDA} differ by nan"),
        ({"error": "CUDA failure 2: out of\nmemory"}, f"{CUDA} does not run \\(CUDA failure 2: out of memory\\)"),
        ({"runs_on": "CPUExecutionProvider"}, "onnxruntime fell back to CPUExecutionProvider"),
    ],
)
def test_else_the_processor_is_and_a_sentence_says_why(
    changed: dict[str, Any], sentence: str, evaluator: PlanEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in changed.items():
        monkeypatch.setattr(StandIn, name, value)
    said = use_accelerator(evaluator, ["GPU"])
    assert said.startswith("plans are evaluated on the processor: ")
    assert re.search(sentence, said), said
    assert on_processor(evaluator)


def test_what_is_not_installed_is_not_tried(evaluator: PlanEvaluator) -> None:
    assert use_accelerator(evaluator, ["NPU"]) == (
        "plans are evaluated on the processor: onnxruntime has no CANNExecutionProvider here"
    )
    assert use_accelerator(object(), ["GPU"]).startswith("plans are evaluated on the processor: nothing here")
    assert on_processor(evaluator)
