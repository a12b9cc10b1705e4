"""Fills what a report shows beside the front, with few evaluations and none where one takes long."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.evaluators import PlanEvaluator, Scores
from autocomp.hardware_models import Device
from autocomp.primitives.numerics.plan_compressor import CompressedWeights
from autocomp.results.details import FrontDetails, Histogram, LayerTensors, Levels, Losses, UniformPlan
from autocomp.results.point import Point
from autocomp.search_spaces import Knob, Plan, split_value

from .profiler import Profiler

log = logging.getLogger("autocomp")

MOST_UNIFORM, MOST_TENSORS = 4, 10
LONGEST_S = 10.0  # of an evaluation of the float network, above which no plan is evaluated for a report
SAMPLES = 16  # on which tensors are read


@dataclass(frozen=True)
class DetailMaker:
    """evaluates: whether the evaluator has the samples of the search. scores: of the search, None where it has none."""

    evaluator: PlanEvaluator
    device: Device
    batch: int
    evaluates: bool
    scores: Scores | None

    def __call__(self, evaluated: Sequence[Point], shown: Point) -> FrontDetails:
        """evaluated: points that need no further evaluation. shown: the point of which the losses are."""
        fast = self.evaluates and self.evaluator.plain_seconds <= LONGEST_S
        known = {point.plan: point for point in evaluated}
        uniform = tuple(found for name in self._formats() if (found := self._uniform(name, known, fast)) is not None)
        losses = None if shown.is_float or shown.tuned else self._losses(shown.plan, fast)
        seen = self._histograms()
        tensors = tuple(self._tensors(knob, seen.get(knob.layers[0])) for knob in self._sensitive())
        return FrontDetails(uniform, tensors, losses, self._every_sensitivity())

    @property
    def _knobs(self) -> list[Knob]:
        return [knob for knob in self.evaluator.space.knobs if knob.kind == "format"]

    def _formats(self) -> list[str]:
        """Formats that most layers offer, evenly spread over the mild and the strong ones."""
        counts: dict[str, int] = {}
        for knob in self._knobs:
            for value in map(str, knob.values[1:]):
                if not split_value(value)[1]:
                    counts[value] = counts.get(value, 0) + 1
        common = [value for value, count in counts.items() if 2 * count >= max(counts.values())]
        places = np.unique(np.linspace(0, len(common) - 1, min(MOST_UNIFORM, len(common))).round().astype(int))
        return [common[i] for i in places]

    def _uniform(self, name: str, known: Mapping[Plan, Point], fast: bool) -> UniformPlan | None:
        """None where it would take long to evaluate, or fails."""
        plan = Plan({knob.name: name for knob in self._knobs if name in map(str, knob.values)})
        space = self.evaluator.space
        cost = self.device.costs(space.workload(space.encode(plan)[None], self.batch))[0]
        found = known.get(plan)
        if found is not None:
            accuracy, samples = found.accuracy if found.observed is None else found.observed, found.samples
        elif fast:
            try:
                part = self.evaluator.evaluates_subsets
                measured = (self.evaluator.evaluate_subset if part else self.evaluator.evaluate)(plan)
            except EvaluationError as error:
                log.info("%s in all layers is not shown: %s", name, error)
                return None
            accuracy, samples = measured.accuracy, measured.samples
        else:
            return None
        return UniformPlan(name, dict(plan), accuracy, samples, {k: float(v) for k, v in asdict(cost).items()})

    def _losses(self, plan: Plan, fast: bool) -> Losses:
        profiler = Profiler(self.evaluator, self.device, self.batch)
        layers = profiler.accumulated(plan, SAMPLES)
        return Losses(plan.key, layers, profiler.classes(plan) if fast else ())

    def _sensitivity(self, knob: Knob) -> dict[str, float]:
        if self.scores is None:
            return {}
        row = self.scores.sensitivity[self.evaluator.space.knobs.index(knob)]
        return {str(value): float(nats) for value, nats in zip(knob.values[1:], row[1:], strict=True)}

    def _every_sensitivity(self) -> dict[str, dict[str, float]]:
        found = {knob.name: self._sensitivity(knob) for knob in self.evaluator.space.knobs}
        short = {name: {text: float(f"{nats:.3g}") for text, nats in row.items()} for name, row in found.items()}
        return {name: row for name, row in short.items() if row}

    def _sensitive(self) -> list[Knob]:
        """Without scores those whose layers are executed first."""
        knobs = [knob for knob in self._knobs if knob.layers[0] in self.evaluator.space.graph.layers]
        ranked = sorted(knobs, key=lambda knob: -max(self._sensitivity(knob).values(), default=0.0))
        return ranked[:MOST_TENSORS]

    def _tensors(self, knob: Knob, inputs: Histogram | None) -> LayerTensors:
        layer = knob.layers[0]
        plain = self.evaluator.compressor(Plan())
        weight = plain.layers[layer].weight
        largest = np.maximum(np.abs(weight.reshape(len(weight), -1)).max(1), 1e-30)
        compressed = {value: self.evaluator.compressor(Plan({knob.name: value})) for value in self._plain_values(knob)}
        return LayerTensors(
            layer,
            self._sensitivity(knob),
            Histogram.of(weight.reshape(len(weight), -1) / largest[:, None]),
            dict(_weight_levels(compressed, layer, largest)),
            inputs,
            dict(_input_levels(compressed, layer)),
        )

    @staticmethod
    def _plain_values(knob: Knob) -> list[str]:
        return [value for value in map(str, knob.values[1:]) if not split_value(value)[1]]

    def _histograms(self) -> dict[str, Histogram]:
        """Layer -> that of its inputs on a few samples; of those that can be read."""
        few = tuple(array[:SAMPLES] for array in self.evaluator.inputs)
        found = self.evaluator.engine.layer_inputs(self.evaluator.compressor(Plan()), few)
        return {layer: Histogram.of(calls[0]) for layer, calls in found.items() if calls[0].size}


def _weight_levels(
    compressed: Mapping[str, CompressedWeights], layer: str, largest: np.ndarray
) -> Iterator[tuple[str, Levels]]:
    """Relative to the largest magnitude of each output channel."""
    for value, weights in compressed.items():
        quantized = weights.layers[layer].quantized
        if quantized is not None and quantized.scale.ndim == 1 and len(quantized.scale) == len(largest):
            step = float(np.median(np.abs(quantized.scale) / largest))
            top = max(1, 2 ** (quantized.bits - 1) - 1)
            yield value, Levels(-top * step, step, 2 * top + 1)


def _input_levels(compressed: Mapping[str, CompressedWeights], layer: str) -> Iterator[tuple[str, Levels]]:
    for value, weights in compressed.items():
        rounding = weights.layers[layer].activation
        if rounding is not None:
            low, high = rounding.bounds
            yield value, Levels(low * rounding.scale, rounding.scale, int(high - low) + 1)
