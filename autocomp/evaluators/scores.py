"""The scoring pass: how much every value of every knob hurts, one knob changed at a time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..search_spaces import FLOAT_BITS, Knob, Plan, SearchSpace
from .accuracy import PlanEvaluator
from .engines import BATCH, Arrays

log = logging.getLogger("autocomp")

VERSION = 1
SAMPLES = 2 * BATCH  # a batch for each of two processors
MOST = 44  # plans that are measured one by one
NEGLIGIBLE = 1e-3  # nats: the mildest formats of all layers together; then no layer is looked at by itself
RUINED = 10.0  # nats: a plan whose outputs are not finite

Measure = Callable[[Plan], float]


@dataclass(frozen=True)
class Scores:
    """damage: for each knob one number for each of its values, 0 for the first; they add up to that of a plan.

    The divergence KL(float || plan) of the class probabilities, nats a sample; where the outputs are no classes the
    squared error as a share of the outputs' variance.
    """

    damage: tuple[tuple[float, ...], ...]

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) of (n, knobs) int."""
        columns = np.asarray(vectors).T
        return np.sum([np.array(d)[c] for d, c in zip(self.damage, columns, strict=True)], axis=0)

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, "damage": self.damage})

    @classmethod
    def from_json(cls, text: str, space: SearchSpace) -> Scores | None:
        """None for anything but finite scores of this space, as this version measures them."""
        try:
            value = json.loads(text)
            found = cls(tuple(tuple(float(d) for d in damage) for damage in value["damage"]))
            fits = value["version"] == VERSION and np.isfinite(np.concatenate(found.damage)).all()
        except (KeyError, TypeError, ValueError):
            return None
        return found if fits and [len(d) for d in found.damage] == space.sizes.tolist() else None


def score(evaluator: PlanEvaluator, most: int = MOST, samples: int = SAMPLES) -> Scores:
    """Measure at most about ``most`` plans on so many of the evaluator's samples; needs no labels.

    What is not measured is derived: formats of 8 bits are measured in all layers at once, and by halves only where
    that hurts; rounding noise falls with the square of the step; between two ratios of channels the damage is
    interpolated in its logarithm.
    """
    started = time.perf_counter()
    divergence = Divergence(evaluator, samples)
    damage = _scores(evaluator.space, divergence, most)
    log.info("scored %d knobs by %d plans in %.1f s", len(damage), divergence.measured, time.perf_counter() - started)
    return Scores(damage)


class Divergence:
    """Of a plan's outputs from the float network's, on evenly chosen samples."""

    def __init__(self, evaluator: PlanEvaluator, samples: int) -> None:
        count = len(evaluator.inputs[0])
        chosen = np.unique(np.linspace(0, count - 1, min(samples, count)).astype(int))
        self.evaluator = evaluator
        self.inputs: Arrays = tuple(array[chosen] for array in evaluator.inputs)
        self.expected: Arrays = tuple(output[chosen] for output in evaluator.plain_outputs)
        self.measured = 0

    def __call__(self, plan: Plan) -> float:
        self.measured += 1
        try:
            found = self.evaluator.engine.outputs(self.evaluator.realise(plan), self.inputs)
        except Exception as error:  # whatever an engine raises; the plan then counts as useless
            log.warning("plan %s could not be scored: %s", plan, error)
            return RUINED
        if self.evaluator.metric == "fidelity":
            value = float(np.mean([_error(a, b) for a, b in zip(found, self.expected, strict=True)]))
        else:
            value = float(np.mean(divergences(self.expected[0], found[0])))
        return min(value, RUINED) if np.isfinite(value) else RUINED


def divergences(expected: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n,) KL divergence of the class probabilities, nats; both (n, classes), scores before or after the softmax."""
    p, q = _log_probabilities(expected), _log_probabilities(found)
    return np.maximum((np.exp(p) * (p - q)).sum(1), 0)


def _log_probabilities(outputs: np.ndarray) -> np.ndarray:
    outputs = outputs.astype(np.float64)
    if (outputs >= 0).all() and np.allclose(outputs.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(outputs, 1e-12)))
    shifted = outputs - outputs.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """Squared error over the variance over the samples."""
    spread = float(((expected - expected.mean(0)) ** 2).sum()) or float((expected**2).sum()) or 1.0
    return float(((found.astype(np.float64) - expected) ** 2).sum()) / spread


def _scores(space: SearchSpace, measure: Measure, most: int) -> tuple[tuple[float, ...], ...]:
    formats = [knob for knob in space.knobs if knob.kind == "format"]
    mild = _mild_formats(formats, measure)
    left = most - sum(len(_rough(knob)) for knob in formats)
    others = [knob for knob in space.knobs if knob.kind != "format"]
    counts = _shares([len(knob.values) - 1 for knob in others], left)
    chosen = {knob.name: count for knob, count in zip(others, counts, strict=True)}
    return tuple(
        _format_damage(knob, mild, measure) if knob.kind == "format" else _damage(knob, chosen[knob.name], measure)
        for knob in space.knobs
    )


# Formats --------------------------------------------------------------------------------------------------------------


def _mild_formats(knobs: Sequence[Knob], measure: Measure) -> dict[tuple[str, str], float]:
    """(knob, value) -> damage, for the values with no fewer than 8 bits."""
    found: dict[tuple[str, str], float] = {}
    values = dict.fromkeys(str(v) for knob in knobs for v in knob.values[1:] if not _is_rough(knob, str(v)))
    for value in values:
        having = [knob for knob in knobs if value in knob.values]
        found |= {(name, value): damage for name, damage in _by_halves(having, value, measure).items()}
    return found


def _by_halves(knobs: Sequence[Knob], value: str, measure: Measure) -> dict[str, float]:
    whole = measure(Plan(dict.fromkeys((knob.name for knob in knobs), value)))
    if len(knobs) == 1 or whole <= NEGLIGIBLE:
        return dict.fromkeys((knob.name for knob in knobs), whole / len(knobs))
    middle = len(knobs) // 2
    return _by_halves(knobs[:middle], value, measure) | _by_halves(knobs[middle:], value, measure)


def _is_rough(knob: Knob, value: str) -> bool:
    chosen = knob.formats[knob.index(value)]
    return min(chosen.weight_bits, chosen.activation_bits) < 8


def _rough(knob: Knob) -> list[str]:
    """The values that are measured by themselves: one for each number of weight bits, and for each of few input bits."""
    kept: dict[tuple[int, int], str] = {}
    for value, chosen in zip(knob.values, knob.formats, strict=True):
        if _is_rough(knob, str(value)):
            kept.setdefault((chosen.weight_bits, min(chosen.activation_bits, 8)), str(value))
    return list(kept.values())


def _format_damage(knob: Knob, mild: Mapping[tuple[str, str], float], measure: Measure) -> tuple[float, ...]:
    known = {value: mild[knob.name, value] for value in map(str, knob.values) if (knob.name, value) in mild}
    known |= {value: measure(Plan({knob.name: value})) for value in _rough(knob)}
    # What 8-bit inputs add does not depend on the weights' bits.
    inputs = max(known.get("w8a8", 0.0) - known.get("w8", 0.0), 0.0)
    measured_bits = {Format_key(knob, value): value for value in known}
    damage = []
    for value, chosen in zip(map(str, knob.values), knob.formats, strict=True):
        if chosen.weight_bits == FLOAT_BITS:
            damage.append(0.0)
        elif value in known:
            damage.append(known[value])
        else:
            damage.append(known[measured_bits[chosen.weight_bits, min(chosen.activation_bits, 8)]] + inputs)
    return tuple(damage)


def Format_key(knob: Knob, value: str) -> tuple[int, int]:
    chosen = knob.formats[knob.index(value)]
    return chosen.weight_bits, min(chosen.activation_bits, 8)


# Ratios and other ordered values --------------------------------------------------------------------------------------


def _shares(wanted: Sequence[int], left: int) -> list[int]:
    """How many values of each knob are measured: at least the strongest, evenly what is left, at most all."""
    counts = [min(1, count) for count in wanted]
    while sum(counts) < left and counts != list(wanted):
        needy = min((i for i in range(len(wanted)) if counts[i] < wanted[i]), key=lambda i: (counts[i], i))
        counts[needy] += 1
    return counts


def _damage(knob: Knob, count: int, measure: Measure) -> tuple[float, ...]:
    """The strongest value and others evenly between are measured; the rest lie on the line of the logarithms."""
    last = len(knob.values) - 1
    if last == 0:
        return (0.0,)
    positions = np.unique(np.linspace(last, 1, count + 1 if count == 1 else count).round().astype(int)[:count])
    measured = np.array([max(measure(Plan({knob.name: knob.values[i]})), 1e-9) for i in positions])
    x = np.array([_strength(knob, i) for i in range(last + 1)])
    logs = np.interp(x, x[positions], np.log(measured))
    below = x < x[positions[0]]
    # Milder than the mildest that was measured: as the square of what is cut.
    logs[below] = np.log(measured[0]) + 2 * np.log(np.maximum(x[below], 1e-9) / x[positions[0]])
    damage = np.exp(logs)
    damage[0] = 0.0
    return tuple(damage.tolist())


def _strength(knob: Knob, i: int) -> float:
    """Of what a value cuts off, as a share; of other knobs their rank."""
    if knob.kind == "keep":
        return 1 - float(knob.kept[i].mean())
    return i / (len(knob.values) - 1)
