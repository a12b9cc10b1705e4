"""The scoring pass: the sensitivity of every value of every knob, measured with one knob changed at a time."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.search_spaces import Knob, Plan, SearchSpace, split_value

from .accuracy import PlanEvaluator
from .distances import divergences, squared_error
from .joint_scores import JOINT, RUINED, joint_vectors, weighed

log = logging.getLogger("autocomp")

VERSION = 3
LEAST_IMAGES, MOST_IMAGES = 16, 200
EVALUATIONS = 12  # the pass may cost as much as so many evaluations
STATISTICS_WORK = 1.6  # cost of an image for BatchNorm's statistics, relative to an evaluated image
LEAST_PLANS = 28
FORMATS_SHARE = 2 / 3  # largest share of the plans
NEGLIGIBLE = 1e-3  # nats, for a format in all layers together: below it no layer is measured by itself
JOINT_SHARE = 1 / 4  # largest share of the plans

POWER = 1.35  # of a layer's output error, to which the sensitivity of what replaces it is proportional: of ResNet-20
LEAST_ERROR = 1e-6

TINY, UNKNOWN = 1e-9, 0.1  # nats: the least that is told apart; of a plan, where none was measured

Measure = Callable[[Sequence[Plan]], Sequence[float]]


@dataclass(frozen=True)
class Scores:
    """sensitivity: for each knob one number for each of its values, 0 for the first; a plan's sensitivity is their sum.

    The unit is nats: the divergence KL(float || plan) of the class probabilities, in the mean of the samples. Where the
    outputs are no classes it is the squared error as a share of the outputs' variance.
    """

    sensitivity: tuple[tuple[float, ...], ...]

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n,): the sensitivity of each plan of (n, knobs) int."""
        first, every = self._flat
        return np.asarray(every[first + np.asarray(vectors)].sum(1))

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        """The position of each knob's first number, and all numbers."""
        sizes = np.array([len(row) for row in self.sensitivity], np.intp)
        return np.cumsum(sizes) - sizes, np.array([number for row in self.sensitivity for number in row])

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, "sensitivity": self.sensitivity})

    @classmethod
    def from_json(cls, text: str, space: SearchSpace) -> Scores | None:
        """None for anything but finite scores of this space in this version."""
        try:
            value = json.loads(text)
            version = value.pop("version")
            (rows,) = value.values()  # the one other entry, under whatever name it was written
            found = cls(tuple(tuple(float(d) for d in row) for row in rows))
            fits = version == VERSION and np.isfinite(np.concatenate(found.sensitivity)).all()
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return found if fits and [len(d) for d in found.sensitivity] == space.sizes.tolist() else None


def score(
    evaluator: PlanEvaluator, most: int | None = None, samples: int | None = None, measure: Measure | None = None
) -> Scores:
    """Measure about ``most`` plans on ``samples`` of the evaluator's samples; needs no labels.

    Sensitivities that are not measured are derived. Formats of 8 bits are measured in all layers at once, and in halves
    only where their sensitivity is not negligible. Coarser weights are measured layer by layer, or in runs of
    neighbours where there are many. The sensitivities of coarse weights and of rounded inputs are added. Between two
    keep ratios the logarithm of the sensitivity is interpolated. Of what may replace a layer one value is measured, and
    more where there is room; for the others the errors of the layer's output tell. Then a few random joint plans are
    measured, and each knob's sensitivities get a weight (:mod:`autocomp.evaluators.joint_scores`).

    measure: gives the divergences of plans, :func:`divergence` of each, NaN for those that it has no time for; these
        are estimated from the others. None computes them here, one after the other.
    """
    started = time.perf_counter()
    count = len(evaluator.inputs[0])
    samples = affordable_images(count) if samples is None else min(samples, count)
    measured: list[Plan] = []

    def counted(plans: Sequence[Plan]) -> Sequence[float]:
        measured.extend(plans)
        if measure is not None:
            return measure(plans)
        return [_or_ruined(evaluator, plan, samples) for plan in plans]

    most = affordable_plans(evaluator, samples) if most is None else most
    joint = min(JOINT, int(JOINT_SHARE * most)) if len(evaluator.space.knobs) > 1 else 0
    sensitivity = _scores(evaluator.space, counted, most - joint, output_errors(evaluator))
    if joint:
        vectors = joint_vectors(sensitivity, joint)
        sensitivity = weighed(sensitivity, vectors, counted([evaluator.space.decode(vector) for vector in vectors]))
    log.info("scored %d knobs by %d plans in %.1f s", len(sensitivity), len(measured), time.perf_counter() - started)
    return Scores(sensitivity)


def affordable_images(count: int) -> int:
    """The number of images for a scoring pass: a quarter of an evaluation's ``count``, 16 to 200."""
    return min(count, MOST_IMAGES, max(LEAST_IMAGES, count // 4))


def affordable_plans(evaluator: PlanEvaluator, images: int) -> int:
    """How many plans may be scored. It depends on the data alone, so that scores do not depend on the machine."""
    count, statistics = len(evaluator.inputs[0]), STATISTICS_WORK * len(evaluator.statistics_inputs[0])
    return max(LEAST_PLANS, int(EVALUATIONS * (count + statistics) / (images + statistics)))


def divergence(evaluator: PlanEvaluator, plan: Plan, samples: int | None = None) -> float:
    """The divergence of the plan's outputs from the float network's, on evenly chosen samples: as many as a scoring
    pass uses.

    EvaluationError where the plan cannot be run; outputs that are not finite count as ruined.
    """
    count = len(evaluator.inputs[0])
    chosen = np.unique(np.linspace(0, count - 1, min(samples or affordable_images(count), count)).astype(int))
    known = zip(evaluator.engine.described_outputs, evaluator.plain_outputs, strict=True)
    expected = evaluator.judged(tuple(output.rows(array, chosen) for output, array in known))
    try:
        inputs = tuple(array[chosen] for array in evaluator.inputs)
        found = evaluator.judged(evaluator.run(evaluator.compress(plan), inputs))
    except Exception as error:  # any error of an engine
        raise EvaluationError(f"plan {plan} could not be scored: {error}") from error
    if not evaluator.classifies:
        value = float(np.mean([squared_error(a, b) for a, b in zip(found, expected, strict=True)]))
    else:
        value = float(np.mean(divergences(expected[0], found[0])))
    return min(value, RUINED) if np.isfinite(value) else RUINED


def _or_ruined(evaluator: PlanEvaluator, plan: Plan, samples: int) -> float:
    """A plan that cannot be run counts as ruined."""
    try:
        return divergence(evaluator, plan, samples)
    except EvaluationError as error:
        log.warning("%s", error)
        return RUINED


def output_errors(evaluator: PlanEvaluator) -> dict[str, np.ndarray]:
    """Knob that replaces a layer -> for each value the share of the layer's output that is lost, 0 for the first."""
    return {
        knob.name: np.array([
            0.0, *(evaluator.compressor.output_error(knob.layers[0], knob.chains[value]) for value in knob.values[1:])
        ])
        for knob in evaluator.space.knobs
        if knob.chains
    }  # fmt: skip


def _scores(
    space: SearchSpace, measure: Measure, most: int, errors: Mapping[str, np.ndarray]
) -> tuple[tuple[float, ...], ...]:
    """All plans that need no earlier result are measured in one call: many workers may share the plans of one call.

    errors: see :func:`output_errors`."""
    formats = [knob for knob in space.knobs if knob.kind == "format"]
    others = [knob for knob in space.knobs if knob.kind != "format"]
    for_formats = max(1, int(FORMATS_SHARE * most))
    left = most - min(for_formats, sum(len(_measured_alone(knob)) for knob in formats))
    orders = [order for knob in others for order in _orders(knob, errors.get(knob.name))]
    counts = _shares([len(order.positions) for order in orders], left)
    ranks = [order.measured(count) for order, count in zip(orders, counts, strict=True)]
    mild, rough = _mild(formats), _rough(formats, for_formats)
    of_others = [order.plan(rank) for order, own in zip(orders, ranks, strict=True) for rank in own]
    asked = [*map(_plan, mild), *map(_plan, rough), *of_others]
    found = iter(_filled(asked, measure(asked)))
    whole = [next(found) for _ in mild]
    known = _divided(rough, [next(found) for _ in rough]) | _by_halves(mild, whole, measure)
    sensitivity: dict[str, tuple[float, ...]] = {knob.name: (0.0,) * len(knob.values) for knob in others}
    for order, own in zip(orders, ranks, strict=True):
        name = order.knob.name
        values = dict(zip(order.positions, order.sensitivities(own, [next(found) for _ in own]), strict=True))
        sensitivity[name] = tuple(float(values.get(i, value)) for i, value in enumerate(sensitivity[name]))
    return tuple(
        sensitivity[knob.name] if knob.name in sensitivity else _format_sensitivity(knob, known) for knob in space.knobs
    )


def _filled(plans: Sequence[Plan], found: Sequence[float]) -> list[float]:
    """Of plans that were not measured (NaN) the geometric mean of those that set the same values, else of all."""
    logs: dict[frozenset[object], list[float]] = {}
    for plan, value in zip(plans, found, strict=True):
        if not math.isnan(value):
            logs.setdefault(frozenset(plan.values()), []).append(math.log(max(value, TINY)))
    every = [value for same in logs.values() for value in same] or [math.log(UNKNOWN)]
    means = [math.exp(float(np.mean(logs.get(frozenset(plan.values()), every)))) for plan in plans]
    return [mean if math.isnan(value) else value for value, mean in zip(found, means, strict=True)]


# Formats --------------------------------------------------------------------------------------------------------------

Known = dict[tuple[str, str], float]  # (knob, value) -> sensitivity
Run = tuple[Sequence[Knob], str]  # knobs that are set to one value together


def _plan(run: Run) -> Plan:
    knobs, value = run
    return Plan(dict.fromkeys((knob.name for knob in knobs), value))


def _divided(runs: Sequence[Run], sensitivities: Sequence[float]) -> Known:
    """Divides the sensitivity of a run equally among its knobs."""
    return {
        (knob.name, value): whole / len(knobs)
        for (knobs, value), whole in zip(runs, sensitivities, strict=True)
        for knob in knobs
    }


def _mild(knobs: Sequence[Knob]) -> list[Run]:
    """Runs of the values with no fewer than 8 bits, each in all layers that have it."""
    values = dict.fromkeys(str(v) for knob in knobs for v in knob.values[1:] if not _is_rough(knob, str(v)))
    return [([knob for knob in knobs if value in knob.values], value) for value in values]


def _by_halves(runs: Sequence[Run], sensitivities: Sequence[float], measure: Measure) -> Known:
    """Runs whose sensitivity is not negligible are measured again in halves, down to single layers."""
    known = _divided(runs, sensitivities)
    hurting = [run for run, whole in zip(runs, sensitivities, strict=True) if whole > NEGLIGIBLE and len(run[0]) > 1]
    if not hurting:
        return known
    halves = [
        (part, value) for knobs, value in hurting for part in (knobs[: len(knobs) // 2], knobs[len(knobs) // 2 :])
    ]
    found = measure([_plan(run) for run in halves])
    measured = [(run, value) for run, value in zip(halves, found, strict=True) if not math.isnan(value)]
    return known | _by_halves([run for run, _ in measured], [value for _, value in measured], measure)


def _rough(knobs: Sequence[Knob], most: int) -> list[Run]:
    """Runs of the values with fewer than 8 bits: single layers, or neighbours where these would be more than ``most``
    plans."""
    wanted: dict[str, list[Knob]] = {}
    for knob in knobs:
        for value in _measured_alone(knob):
            wanted.setdefault(value, []).append(knob)
    together = -(-sum(map(len, wanted.values())) // most)
    return [
        (having[start : start + together], value)
        for value, having in wanted.items()
        for start in range(0, len(having), together)
    ]


def _is_rough(knob: Knob, value: str) -> bool:
    chosen = knob.formats[knob.index(value)]
    return min(chosen.weight_bits, chosen.activation_bits) < 8


def _measured_alone(knob: Knob) -> list[str]:
    """The values with fewer than 8 bits that are measured: one for each number of weight bits, and one for each coarse
    input."""
    kept: dict[tuple[int, int], str] = {}
    for value in map(str, knob.values):
        if _is_rough(knob, value):
            kept.setdefault(_roughness(knob, value), value)
    return list(kept.values())


def _roughness(knob: Knob, value: str) -> tuple[int, int]:
    """Bits of the weights, and bits of the inputs, at most 8."""
    chosen = knob.formats[knob.index(value)]
    return chosen.weight_bits, min(chosen.activation_bits, 8)


def _format_sensitivity(knob: Knob, known: Mapping[tuple[str, str], float]) -> tuple[float, ...]:
    """The sensitivity of each value. Where only the weights were measured, the part of 8-bit inputs is added, which is
    the difference of w8a8 and w8."""
    inputs = max(known.get((knob.name, "w8a8"), 0.0) - known.get((knob.name, "w8"), 0.0), 0.0)
    alone = {_roughness(knob, value): known[knob.name, value] for value in _measured_alone(knob)}
    sensitivity = [0.0]
    for value in map(str, knob.values[1:]):
        direct = known.get((knob.name, value))
        sensitivity.append(alone[_roughness(knob, value)] + inputs if direct is None else direct)
    return tuple(sensitivity)


# Ratios and other ordered values --------------------------------------------------------------------------------------


def _shares(wanted: Sequence[int], left: int) -> list[int]:
    """How many values of each knob are measured: at least the strongest, at most all; the rest of ``left`` is divided
    evenly."""
    counts = [min(1, count) for count in wanted]
    while sum(counts) < left and counts != list(wanted):
        needy = min((i for i in range(len(wanted)) if counts[i] < wanted[i]), key=lambda i: (counts[i], i))
        counts[needy] += 1
    return counts


@dataclass(frozen=True, eq=False)
class _Order:
    """Values of a knob in the order of their strength.

    positions: of the values, without the first, which changes nothing. strengths: rising; the share of units that a
    value cuts, for other knobs the value's rank, or the logarithm of the error of the replaced layer's output.
    """

    knob: Knob
    positions: tuple[int, ...]
    strengths: np.ndarray
    by_error: bool = False

    def plan(self, rank: int) -> Plan:
        return Plan({self.knob.name: self.knob.values[self.positions[rank]]})

    def measured(self, count: int) -> np.ndarray:
        """(count,) ranks, rising: the strongest and others at even distances; of errors the middle one, if one."""
        last = len(self.positions) - 1
        if count == 1 and self.by_error:
            return np.array([last // 2])
        ranks = np.linspace(last, 0, count + 1 if count == 1 else count).round().astype(int)[:count]
        return np.unique(ranks)

    def sensitivities(self, ranks: np.ndarray, found: Sequence[float]) -> np.ndarray:
        """Of every value, from those at these ranks. Between them the logarithm is interpolated linearly."""
        measured, x = np.maximum(found, TINY), self.strengths
        known = x[ranks]
        logs = np.interp(x, known, np.log(measured))
        below = x < known[0]
        if self.by_error:
            logs[below] -= POWER * (known[0] - x[below])
            logs[x > known[-1]] += POWER * (x[x > known[-1]] - known[-1])
            return np.minimum(np.exp(logs), RUINED)
        # Below the mildest measured value the sensitivity is proportional to the square of the share that is cut.
        logs[below] = np.log(measured[0]) + 2 * np.log(np.maximum(x[below], 1e-9) / known[0])
        return np.asarray(np.exp(logs))


def _orders(knob: Knob, errors: np.ndarray | None) -> list[_Order]:
    """One for each primitive that carries out some of the values; for what replaces a layer one of all values.

    errors: of the layer's output under each value.
    """
    if errors is not None:
        positions = tuple(int(i) for i in np.argsort(errors[1:], kind="stable") + 1)
        return [_Order(knob, positions, np.log(np.maximum(errors[list(positions)], LEAST_ERROR)), by_error=True)]
    found: dict[str, list[int]] = {}
    for i, value in enumerate(knob.values[1:], start=1):
        found.setdefault(split_value(value)[1], []).append(i)
    return [_Order(knob, tuple(own), np.array([_strength(knob, i) for i in own])) for own in found.values()]


def _strength(knob: Knob, i: int) -> float:
    """The share of units that a value cuts; for other knobs the value's rank, 0 to 1."""
    if knob.kind == "keep":
        return 1 - float(knob.kept[i].mean())
    return i / (len(knob.values) - 1)
