"""The progress of a search as Ray's metrics, which Prometheus reads from each node of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXTS = {
    "done": "Evaluations that have ended, failed ones included.",
    "failed": "Evaluations that failed.",
    "trials": "Evaluations that are wanted.",
    "hypervolume": "The front's hypervolume, 0 to 1.",
    "rate": "Evaluations a minute, over the last minutes.",
    "workers": "Workers that have loaded the evaluator.",
    "queued": "Plans that wait for a worker.",
}


class Metrics:
    """Gauges ``autocomp_<name>`` with the tag ``search``; Ray must be connected when they are set first."""

    def __init__(self, search: str) -> None:
        self._search = search
        self._gauges: dict[str, Any] = {}

    def set(self, values: Mapping[str, float]) -> None:
        """values: by the names of ``TEXTS``."""
        for name, value in values.items():
            self._gauge(name).set(value, tags={"search": self._search})

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            self._gauges[name] = Gauge(f"autocomp_{name}", description=TEXTS[name], tag_keys=("search",))
        return self._gauges[name]
