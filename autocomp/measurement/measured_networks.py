"""Networks whose latency was measured as a whole: ``resnet50.onnx=2.31ms``."""

from __future__ import annotations

import re
from pathlib import Path

from autocomp.hardware_models.fitting.own_device import MeasuredNetwork

from .onnx_graph import read_workload

MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
FORM = re.compile(r"(?P<file>.+?)(@(?P<batch>\d{1,6}))?=(?P<number>\d{1,15}(\.\d{0,15})?) ?(?P<unit>us|ms|s)")


def parse_network(text: str) -> MeasuredNetwork:
    """``"resnet50.onnx=2.31ms"``; behind an @ the batch, where the file leaves it free: ``"resnet50.onnx@8=9.1ms"``."""
    found = FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"a network is a file and its latency, as in resnet50.onnx=2.31ms, but got {text!r}")
    latency_ms = float(found["number"]) * MILLISECONDS[found["unit"]]
    return measured_network(found["file"], latency_ms, int(found["batch"] or 1))


def measured_network(path: str | Path, latency_ms: float, batch: int = 1) -> MeasuredNetwork:
    """The network of an ONNX file, and its measured latency for one inference of the batch."""
    if not 0 < latency_ms < float("inf"):
        raise ValueError(f"latency_ms must be above 0, but got latency_ms={latency_ms}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, but got batch={batch}")
    return MeasuredNetwork(Path(path).name, read_workload(path, batch), float(latency_ms))
