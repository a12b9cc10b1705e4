"""What a report shows beside the front: uniform plans, tensors of sensitive layers, where accuracy goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.process.bounded_files import parse_json, read_text
from autocomp.search_spaces import Plan

if TYPE_CHECKING:
    from .point import Point

FILE = "details.json"
SCHEMA = 1
BINS = 60


@dataclass(frozen=True)
class Histogram:
    """counts: of equally wide bins from ``low`` to ``high``."""

    low: float
    high: float
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        low, high = float(values.min()), float(values.max())
        counts, _ = np.histogram(values, BINS, (low, high if high > low else low + 1))
        return cls(low, high if high > low else low + 1, tuple(map(int, counts)))


@dataclass(frozen=True)
class Levels:
    """The values that a quantizer knows: ``count`` of them from ``low`` on, ``step`` apart."""

    low: float
    step: float
    count: int


@dataclass(frozen=True)
class LayerTensors:
    """A layer's weights and inputs in the float network, and the levels of each format that is offered for it.

    sensitivity: format -> nats of divergence where this layer alone has it. weights: each divided by the largest
    magnitude of its output channel; their levels are those of a typical channel. inputs: None where they cannot be
    read.
    """

    layer: str
    sensitivity: Mapping[str, float]
    weights: Histogram
    weight_levels: Mapping[str, Levels] = field(default_factory=dict)
    inputs: Histogram | None = None
    input_levels: Mapping[str, Levels] = field(default_factory=dict)


@dataclass(frozen=True)
class UniformPlan:
    """The same format in all layers that offer it, and no other choice. accuracy: measured on ``samples`` samples.
    cost: predicted, by the names of Cost's fields."""

    name: str
    plan: Mapping[str, Any]
    accuracy: float
    samples: int
    cost: Mapping[str, float]


@dataclass(frozen=True)
class ClassProfile:
    """The samples with one label: how many there are, and the share that the float network and the plan's get right."""

    label: int
    samples: int
    of_float: float
    of_plan: float


@dataclass(frozen=True)
class Losses:
    """Of the plan with this key: signal to noise of each layer's output in dB, None without noise; and each class."""

    plan: str
    layers: Mapping[str, float | None] = field(default_factory=dict)
    classes: tuple[ClassProfile, ...] = ()


@dataclass(frozen=True)
class FrontDetails:
    """tensors: of at most ten layers, the most sensitive first. losses: of the front's knee.

    sensitivity: name of a knob -> text of a value -> nats of divergence where that choice alone is made; empty without
        scores.
    """

    uniform: tuple[UniformPlan, ...] = ()
    tensors: tuple[LayerTensors, ...] = ()
    losses: Losses | None = None
    sensitivity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def nats(self, plan: Plan, layer: str) -> float | None:
        """Of the choices of the plan that begin at this layer; None where there is none, or it is not known."""
        known = [
            self.sensitivity[name][str(value)]
            for name, value in plan.items()
            if name.partition("/")[2] == layer and str(value) in self.sensitivity.get(name, {})
        ]
        return sum(known) if known else None

    def fits(self, knee: Point) -> bool:
        """Whether the losses are those of this point, or it has none."""
        return knee.is_float or knee.tuned or (self.losses is not None and self.losses.plan == knee.plan.key)

    def completed(self, known: FrontDetails | None) -> FrontDetails:
        """With the uniform plans of earlier details where these have none, for want of samples."""
        return self if self.uniform or known is None else replace(self, uniform=known.uniform)

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}) + "\n"

    @classmethod
    def read(cls, folder: Path) -> FrontDetails | None:
        """None where the folder has no such file; ValueError for one that :meth:`to_json` did not write."""
        path = folder / FILE
        if not path.is_file():
            return None
        value = parse_json(read_text(path), str(path))
        try:
            uniform = tuple(UniformPlan(**row) for row in value["uniform"])
            tensors = tuple(_tensors(row) for row in value["tensors"])
            return cls(uniform, tensors, value["losses"] and _losses(value["losses"]), value.get("sensitivity", {}))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} must be what ParetoSet.save writes, but it lacks {error}") from error


def _tensors(row: Mapping[str, Any]) -> LayerTensors:
    return LayerTensors(
        row["layer"],
        row["sensitivity"],
        _histogram(row["weights"]),
        {name: Levels(**levels) for name, levels in row["weight_levels"].items()},
        row["inputs"] and _histogram(row["inputs"]),
        {name: Levels(**levels) for name, levels in row["input_levels"].items()},
    )


def _histogram(row: Mapping[str, Any]) -> Histogram:
    return Histogram(row["low"], row["high"], tuple(row["counts"]))


def _losses(row: Mapping[str, Any]) -> Losses:
    return Losses(row["plan"], row["layers"], tuple(ClassProfile(**one) for one in row["classes"]))
