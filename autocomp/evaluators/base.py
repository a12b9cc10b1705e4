"""The contract of an evaluator, and the measurement that it makes of a plan."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Protocol, runtime_checkable

from autocomp.search_spaces import Plan


@dataclass(frozen=True)
class Measurement:
    """The measured quality of a plan.

    accuracy: 0 to 1: the share of samples whose class is the label's (metric ``accuracy``) or the float network's
        (``agreement``, where there are no labels), or 1 minus the ratio of noise to signal in the outputs
        (``fidelity``, where there are no data or no classes), or the value of the user's own metric.
    metric: one of these, or the name of the user's function.
    samples: the number of samples it was measured on; fidelity: the same in words, ``"2000 images"``.
    seconds: duration of the measurement.
    error: standard error of the accuracy, where it is an estimate for all samples from a part of them; 0 where all
        samples were measured.
    scale: of a metric where lower is better: the accuracy is 1 - value / scale. 0: it is the metric's value.
    change_error: standard error of the accuracy's difference to the float network's on the same samples, as an estimate
        for other samples of the same kind; None where it is not known.
    accuracy_error: standard error of the accuracy itself for other samples, several times as large as a rule.
    divergence: of the outputs from the float network's on these samples: nats for classes, else their squared error
        divided by their variance; None where it is not known.
    """

    accuracy: float
    metric: str = "accuracy"
    samples: int = 0
    seconds: float = 0.0
    seed: int = 0
    fidelity: str = ""
    error: float = 0.0
    scale: float = 0.0
    change_error: float | None = field(default=None, compare=False)
    accuracy_error: float | None = field(default=None, compare=False)
    divergence: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.metric, str) and self.metric.isidentifier()):
            raise ValueError(f"metric must be a name, but got metric={self.metric!r}")
        if not (math.isnan(self.accuracy) or 0 <= self.accuracy <= 1):
            raise ValueError(f"accuracy must be in [0, 1], but got accuracy={self.accuracy}")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Measurement:
        """ValueError or TypeError for any text that ``to_json`` does not write."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"a measurement is a JSON object, but got {text!r}")
        return cls(**values)


@runtime_checkable
class Evaluator(Protocol):
    """Measures plans; picklable, so that workers can hold a copy.

    >>> evaluator.evaluate(Plan())                        # the float network
    Measurement(accuracy=0.92, metric='accuracy', samples=2000, ...)
    >>> evaluator.evaluate(Plan({"format/conv1": "w4"}))
    Measurement(accuracy=0.87, metric='accuracy', samples=2000, ...)

    The same plan gives the same accuracy, in any order and in any process.
    """

    @property
    def key(self) -> str:
        """Changes with everything that changes an accuracy: the network's weights, the data and the settings."""
        ...

    def evaluate(self, plan: Plan) -> Measurement:
        """Raises EvaluationError where the plan cannot be measured."""
        ...
