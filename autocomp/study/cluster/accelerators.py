"""onnxruntime's provider for the device that a worker was given, checked against the processor's numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from autocomp.evaluators.engines import SAME, OnnxEngine, relative_error
from autocomp.search_spaces import Plan

PROVIDERS = {  # by Ray's names of devices; the first one that is installed
    "GPU": ("CUDAExecutionProvider", "TensorrtExecutionProvider"),
    "NPU": ("CANNExecutionProvider",),
}
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # whose products keep 10 bits
SAMPLES = 8  # on which numbers are compared


def use_accelerator(evaluator: Any, kinds: Iterable[str]) -> str:
    """Lets the evaluator run on a device of these kinds where its numbers are the processor's. What it runs on, in a
    sentence; that is the processor where the provider is not installed, does not run, or gives other numbers.
    """
    engine = getattr(evaluator, "engine", None)
    names = [name for kind in kinds for name in PROVIDERS.get(kind, ())]
    if not isinstance(engine, OnnxEngine) or not names:
        return "plans are evaluated on the processor: nothing here runs them on the worker's device"
    import onnxruntime

    there = [name for name in names if name in onnxruntime.get_available_providers()]
    if not there:
        return f"plans are evaluated on the processor: onnxruntime has no {' or '.join(names)} here"
    reason = _tried(evaluator, engine, there[0])
    return f"plans are evaluated on the processor: {reason}" if reason else f"plans are evaluated by {there[0]}"


def _tried(evaluator: Any, engine: OnnxEngine, name: str) -> str:
    """Why the provider is not used; empty where it is."""
    inputs, compressed = tuple(array[:SAMPLES] for array in evaluator.inputs), evaluator.compress(Plan())
    expected, before = engine.outputs(compressed, inputs), engine.providers
    engine.providers = ((name, OPTIONS.get(name, {})), "CPUExecutionProvider")
    try:
        if (runs := engine.running_on(compressed)) != name:
            raise RuntimeError(f"onnxruntime fell back to {runs}")
        found = engine.outputs(compressed, inputs)
    except Exception as error:  # onnxruntime's errors are not RuntimeErrors
        engine.providers = before
        return f"{name} does not run ({' '.join(str(error).split())[:200]})"
    worst = max(relative_error(a, b) for a, b in zip(found, expected, strict=True))
    if not worst <= SAME:
        engine.providers = before
        return f"numbers by {name} differ by {worst:.1e} (at most {SAME:g})"
    return ""
