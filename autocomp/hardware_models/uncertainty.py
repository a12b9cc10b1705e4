"""The errors of predicted latencies: relative errors of fits for networks that they did not use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
LEAST, MOST = 0.5, 0.95  # of a confidence: a hundred networks do not determine the last percent


@dataclass(frozen=True)
class LatencyErrors:
    """Quantiles of the relative error, predicted / measured - 1, of networks that were left out of the fit.

    levels: rising shares of the networks, in (0, 1). values: the error that so many of them do not exceed.
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, errors: Sequence[float] | np.ndarray) -> LatencyErrors:
        return cls(LEVELS, tuple(float(value) for value in np.quantile(np.asarray(errors), LEVELS)))

    @classmethod
    def parse(cls, data: Mapping[str, Sequence[float]]) -> LatencyErrors:
        """``{"levels": [...], "values": [...]}``, as in a device file."""
        return cls(tuple(data["levels"]), tuple(data["values"]))

    def as_dict(self) -> dict[str, list[float]]:
        return {"levels": list(self.levels), "values": list(self.values)}

    def widened(self, factor: float) -> LatencyErrors:
        """The errors with ``factor`` times the logarithm: of networks or chips that are less alike."""
        return LatencyErrors(self.levels, tuple(float((1 + value) ** factor - 1) for value in self.values))

    def range(self, latency_ms: float) -> tuple[float, float]:
        """The range that contains 90 % of measured latencies where ``latency_ms`` was predicted."""
        return latency_ms / (1 + self._quantile(0.95)), latency_ms / (1 + self._quantile(0.05))

    def margin(self, confidence: float) -> float:
        """With this confidence the measured latency is below so many times the predicted one; at least 1."""
        if not LEAST <= confidence <= MOST:
            raise ValueError(f"the confidence of a bound must be {LEAST:.0%} to {MOST:.0%}, but got {confidence:.3g}")
        return max(1.0, 1 / (1 + self._quantile(1 - confidence)))

    def _quantile(self, level: float) -> float:
        return float(np.interp(level, self.levels, self.values))
