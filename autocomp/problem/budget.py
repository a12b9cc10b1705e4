"""The budget: bounds on costs and accuracy, absolute or relative to the float network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from statistics import NormalDist
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from autocomp.errors import BudgetError
from autocomp.rules import Rule

from .metrics import METRICS, OF_A_CONTEXT, rounded_up

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost, LatencyErrors

ACCURACY = "accuracy"
DEFAULT_OBJECTIVES = ("latency", "size")
LEAST_CONFIDENCE, MOST_CONFIDENCE = Decimal("0.5"), Decimal("0.95")  # as hardware_models/uncertainty.py has them
MOST_OF_ACCURACY = Decimal("0.999")
_NAMES = (*METRICS, ACCURACY)
NEEDS_CONTEXT = "{} is a cost of generating and needs the tokens that a further one attends to: give context=4096"
LEAST = 1e-12  # accuracy: what a metric where lower is better has at its worst, 0, is never enough
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class Errors:
    """Standard errors of n accuracies, each (n,); NaN where they are not known.

    change: of the difference to the float network's on the same samples; accuracy: of the accuracy itself.
    """

    change: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, change: float | None, accuracy: float | None) -> Errors:
        """Of one accuracy."""
        known = [np.array([np.nan if error is None else error]) for error in (change, accuracy)]
        return cls(*known)


@dataclass(frozen=True)
class Bound:
    """One bound: an upper bound on a cost, or a lower bound on the accuracy; the value itself is allowed.

    value: of a cost in the unit of Cost, or, if ``relative``, as a share of the float network's cost; of the accuracy a
        share of 1, or, if ``relative``, the share that may be lost.
    confidence: the probability, in (0, 1), with which a measured latency meets the bound, or the accuracy on other
        samples of the same kind; None bounds the prediction, or the estimate, itself.
    margin: with that confidence the measured latency on the device is less than so many times the prediction;
        :meth:`Budget.on` sets it.
    of: a user's metric where lower is better, bounded from above: value is in its own unit, or, where ``relative``,
        the share by which it may exceed the float network's. scale: see Measurement; :meth:`Budget.scaled` sets it.
    """

    metric: str
    value: float
    relative: bool = False
    confidence: float | None = None
    margin: float | None = field(default=None, compare=False)
    of: str = ""
    scale: float | None = field(default=None, compare=False)

    def limit(self, float_cost: Cost, float_accuracy: float | None) -> float:
        """The limit of the predicted cost, or of the accuracy, as an absolute value of its metric."""
        if self.of and not self.relative:
            return max(1 - self.value / self._known_scale, LEAST)
        if not self.relative:
            certain = self.confidence is None or self.metric == ACCURACY
            return self.value if certain else self.value / self._known_margin
        if self.metric != ACCURACY:
            return self.value * float(getattr(float_cost, METRICS[self.metric].attribute))
        if float_accuracy is None:
            raise ValueError(f"{self} is relative to the float network's accuracy, which is not known")
        if self.of:
            return max(1 - (1 + self.value) * (1 - float_accuracy), LEAST)
        return float_accuracy - self.value

    def needed(self, errors: Errors) -> np.ndarray:
        """(n,): by how much an estimated accuracy must exceed the limit for the confidence: the one-sided normal
        quantile times its standard error. Infinite where that is not known."""
        if self.confidence is None:
            return np.zeros(len(errors.change))
        own = errors.change if self.relative else errors.accuracy
        quantile = NormalDist().inv_cdf(self.confidence)
        return np.where(np.isnan(own), np.inf if quantile > 0 else 0.0, quantile * own)

    def __str__(self) -> str:
        confidence = "" if self.confidence is None else f"@{_plain(Decimal(repr(self.confidence)) * 100)}%"
        return self._without_confidence() + confidence

    def _without_confidence(self) -> str:
        exact = Decimal(repr(self.value))
        if self.of:
            return f"{self.of}<+{_plain(exact * 100)}%" if self.relative else f"{self.of}<{_plain(exact)}"
        if self.metric == ACCURACY:
            sign = "" if not self.relative else "-" if self.value >= 0 else "+"
            return f"accuracy>{sign}{_plain(abs(exact) * 100)}%"
        if self.relative:
            return f"{self.metric}<{_plain(exact * 100)}%"
        metric = METRICS[self.metric]
        unit = metric.unit_for(self.value)
        return f"{self.metric}<{_plain(exact / metric.scale(unit))}{unit}"

    @property
    def _known_scale(self) -> float:
        if self.scale is None:
            raise ValueError(f"{self} needs the scale of the metric: Budget.scaled(scale) sets it")
        return self.scale

    @property
    def _known_margin(self) -> float:
        if self.margin is None:
            raise ValueError(f"{self} needs the errors of a device's predictions: Budget.on(errors, device) sets them")
        return self.margin


BOUNDS = Rule(
    "a tuple of bounds: Budget.parse reads text",
    lambda v: isinstance(v, tuple) and all(isinstance(bound, Bound) for bound in v),
)


@dataclass(frozen=True)
class Budget:
    """Bounds that must all hold.

    >>> budget = Budget.parse("latency < 5 ms and accuracy >= -1%")
    >>> str(budget)
    'latency<5ms, accuracy>-1%'
    >>> budget.metrics
    ('latency',)
    """

    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        BOUNDS.check("bounds", self.bounds)

    @classmethod
    def parse(cls, text: str | Budget | None, lower: str = "") -> Budget:
        """Read ``"latency<5ms, accuracy>-1%"``; bounds are joined by commas or ``and``; None means no bounds.

        Costs (latency, memory, size, energy, macs, params, bops, weight_bytes, tpot, cache) take ``<`` or ``<=``,
        which mean the same, and a unit or ``%`` of the float network's cost. ``accuracy>-1%`` allows one percentage
        point less than the float network, ``accuracy>90%`` and ``accuracy>0.9`` are absolute. ``latency<5ms@90%``
        requires that nine of ten networks with such a prediction measure less than 5 ms, ``accuracy>-1%@95%`` that the
        accuracy on other samples is so high with this probability. A mistake raises ValueError, which marks the
        position.

        lower: the name of a metric where lower is better, which takes ``<`` in place of the accuracy: ``wer<0.1``, or
        ``wer<+5%`` for at most 5 % more than the float network's.
        """
        if text is None:
            return cls()
        if isinstance(text, Budget):
            return text
        if not isinstance(text, str):
            raise TypeError(f"a budget must be text, a Budget or None, but got {type(text).__name__}")
        return cls(tuple(_Reader(text, lower).bounds()))

    def scaled(self, scale: float) -> Budget:
        """The same bounds, those on a metric where lower is better with its scale."""
        return Budget(tuple(replace(bound, scale=scale) if bound.of else bound for bound in self.bounds))

    def on(self, errors: LatencyErrors | None, device: str) -> Budget:
        """The same bounds; the errors of the device's predictions give a margin to those with a confidence.

        ValueError where a bound has a confidence and the device's errors are not known.
        """
        if not any(bound.confidence and bound.metric != ACCURACY for bound in self.bounds):
            return self
        if errors is None:
            raise ValueError(f"{self} needs the errors of predicted latencies, but none were measured for {device}")
        margins = [b.confidence and errors.margin(b.confidence) if b.metric != ACCURACY else None for b in self.bounds]
        return Budget(tuple(replace(b, margin=m) for b, m in zip(self.bounds, margins, strict=True)))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The bounded costs, each once."""
        return tuple(dict.fromkeys(bound.metric for bound in self.bounds if bound.metric != ACCURACY))

    @property
    def bounds_accuracy(self) -> bool:
        return any(bound.metric == ACCURACY for bound in self.bounds)

    def resolve(self, float_cost: Cost, float_accuracy: float | None) -> Budget:
        """The same budget with absolute bounds only."""
        return Budget(tuple(Bound(b.metric, b.limit(float_cost, float_accuracy)) for b in self.bounds))

    def violations(
        self,
        cost: Cost,
        accuracy: ArrayLike | None,
        float_cost: Cost,
        float_accuracy: float | None,
        errors: Errors | None = None,
    ) -> np.ndarray:
        """(n, bounds): 0 or less where the bound holds.

        For a cost it is the excess as a share of the limit; for the accuracy it is the missing accuracy, as a share of
        1. An accuracy that is not known yet (None) violates nothing. Rounded to 12 places: a plan exactly at the limit
        meets it. errors: of the accuracy, for bounds on it with a confidence; without them it counts as exact.
        """
        n = np.size(cost.latency_ms)
        result = np.zeros((n, len(self.bounds)))
        for column, bound in zip(result.T, self.bounds, strict=True):
            if bound.metric != ACCURACY:
                if bound.metric in OF_A_CONTEXT and not getattr(float_cost, METRICS[bound.metric].attribute):
                    raise ValueError(NEEDS_CONTEXT.format(bound.metric))
                value = np.asarray(getattr(cost, METRICS[bound.metric].attribute), np.float64)
                limit = bound.limit(float_cost, None)
                # The float network's cost is 0: a share of it cannot be a limit.
                column[:] = value / limit - 1 if limit > 0 else value
            elif accuracy is not None:
                column[:] = bound.limit(float_cost, float_accuracy) - np.asarray(accuracy, np.float64)
                column += 0.0 if errors is None else bound.needed(errors)
        return result.round(12)

    def violation(
        self,
        cost: Cost,
        accuracy: ArrayLike | None,
        float_cost: Cost,
        float_accuracy: float | None,
        errors: Errors | None = None,
    ) -> np.ndarray:
        """(n,): the largest of :meth:`violations`, 0 where there are no bounds."""
        each = self.violations(cost, accuracy, float_cost, float_accuracy, errors)
        return each.max(axis=1) if self.bounds else np.zeros(len(each))

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))

    def __bool__(self) -> bool:
        return bool(self.bounds)


def objectives(budget: Budget) -> tuple[str, ...]:
    """The costs that a search minimises: those that the budget names; latency and size where it names none."""
    return budget.metrics or DEFAULT_OBJECTIVES


def check_context(metrics: Iterable[str], context: int | None, cache_bits: int | None) -> None:
    """ValueError for a cost of generating, or bits of a cache, without a context."""
    if context is None:
        for name in metrics:
            if name in OF_A_CONTEXT:
                raise ValueError(NEEDS_CONTEXT.format(name))
        if cache_bits is not None:
            raise ValueError(f"cache_bits={cache_bits} counts the cache of a context: give context=4096, too")


def check_reachable(budget: Budget, costs: Cost, float_cost: Cost, device: str) -> None:
    """BudgetError when a bound on a cost is below all of ``costs``, which are those of plans that span the search
    space.

    For each such bound the error names the nearest value that a plan reaches, rounded up, so that it can be used as a
    bound.
    """
    missed = []
    for bound in budget.bounds:
        if bound.metric == ACCURACY:
            continue
        metric = METRICS[bound.metric]
        nearest = float(np.min(getattr(costs, metric.attribute)))
        if nearest > bound.limit(float_cost, None):
            missed.append(_unreachable(bound, nearest, float(getattr(float_cost, metric.attribute)), device))
    if missed:
        raise BudgetError("; ".join(missed))


def _unreachable(bound: Bound, nearest: float, of_float: float, device: str) -> str:
    """``latency<1ms cannot be reached on cpu: the nearest is 2.31 ms (57.7 % of the float network's 4.00 ms)``."""
    metric = METRICS[bound.metric]
    absolute, share = metric.format(rounded_up(nearest)), f"{rounded_up(100 * nearest / of_float):.3g} %"
    whole = f"of the float network's {metric.format(of_float)}"
    if bound.margin is not None:
        surely = metric.format(rounded_up(nearest * bound.margin))
        return f"{bound} cannot be reached on {device}: the nearest is {surely}, of which {absolute} are predicted"
    value = f"{share} {whole}, {absolute}" if bound.relative else f"{absolute} ({share} {whole})"
    return f"{bound} cannot be reached on {device}: the nearest is {value}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


class _Reader:
    """Reads the text of one budget from left to right; ``at`` is its position."""

    def __init__(self, text: str, lower: str = "") -> None:
        self.text, self.lower = text, lower
        self.at = 0

    def bounds(self) -> Iterator[Bound]:
        self._space()
        while self.at < len(self.text):
            yield self._bound()
            self._space()
            if self.at == len(self.text):
                return
            if not self._take(r",|and\b"):
                self._fail("a comma, 'and' or the end")
            self._space()
            if self.at == len(self.text):
                self._fail(f"another bound ({', '.join(_NAMES)})")

    def _bound(self) -> Bound:
        start = self.at
        written = self._take(r"[A-Za-z_]\w*")
        name = written.lower()
        if self.lower and name in (self.lower.lower(), "metric"):
            return self._lower_bound()
        if self.lower and name == ACCURACY:
            self.at = start
            self._fail(f"{self.lower}<0.1 or {self.lower}<+5%", f" (lower is better of {self.lower})")
        if name not in _NAMES:
            self.at = start
            own = " (a metric of your own is bounded as accuracy)" if name and self._bounded_from_below() else ""
            self._fail(f"one of {', '.join(_NAMES)}", own)
        self._space()
        signs = (">", ">=") if name == ACCURACY else ("<", "<=")
        sign_at = self.at
        if self._take(r"[<>=!]+") not in signs:
            self.at = sign_at
            side = "below" if name == ACCURACY else "above"
            self._fail(" or ".join(signs), f" ({name} is bounded from {side})")
        self._space()
        return self._accuracy() if name == ACCURACY else self._cost(name)

    def _lower_bound(self) -> Bound:
        """A bound on a metric where lower is better."""
        self._space()
        sign_at = self.at
        if self._take(r"[<>=!]+") not in ("<", "<="):
            self.at = sign_at
            self._fail("< or <=", f" (lower is better of {self.lower}: it is bounded from above)")
        self._space()
        start = self.at
        relative = bool(self._take(r"\+\s*"))
        number = self._number()
        percent = bool(self._take(r"\s*%"))
        if relative and not percent:
            self._fail("%", " (of the float network's value)")
        value = self._positive(number / 100 if percent else number, start)
        return Bound(ACCURACY, value, relative, self._confidence(ACCURACY), of=self.lower)

    def _bounded_from_below(self) -> bool:
        """Whether the sign of a lower bound, as for an accuracy, follows the name."""
        return re.match(r"\s*\w+\s*>", self.text[self.at :]) is not None

    def _cost(self, name: str) -> Bound:
        start = self.at
        number = self._number()
        self._space()
        if self._take("%"):
            if self._take(r"\s*@"):
                self._fail("no confidence", " (a share of the float network's cost has none: both are predictions)")
            return Bound(name, self._positive(number / 100, start), relative=True)
        metric = METRICS[name]
        unit_at = self.at
        unit = self._take(r"[A-Za-z]+")
        if unit == "and":
            self.at, unit = unit_at, ""
        if unit not in metric.known_units:
            self.at = unit_at
            named = ", ".join(unit for unit in metric.known_units if unit)
            self._fail(f"a unit ({named}, or % of the float network's)")
        return Bound(name, self._positive(number * metric.scale(unit), start), confidence=self._confidence(name))

    def _confidence(self, name: str) -> float | None:
        start = self.at
        self._space()
        if not self._take("@"):
            self.at = start
            return None
        if name not in ("latency", ACCURACY):
            self.at = start
            self._fail("no confidence", " (of costs errors of predictions are known of the latency only)")
        self._space()
        start = self.at
        number = self._number()
        self._space()
        share = number / 100 if self._take("%") else number
        most = MOST_CONFIDENCE if name == "latency" else MOST_OF_ACCURACY
        if not LEAST_CONFIDENCE <= share <= most:
            self.at = start
            self._fail(f"a confidence from {LEAST_CONFIDENCE:.0%} to {_plain(most * 100)}%")
        return float(share)

    def _accuracy(self) -> Bound:
        start = self.at
        sign = self._take(r"[-+]")
        number = self._number()
        self._space()
        share = number / 100 if self._take("%") else number
        if share > 1:
            self.at = start
            self._fail("at most 100% or 1")
        value = float(-share if sign == "+" and share else share)
        return Bound(ACCURACY, value, bool(sign), self._confidence(ACCURACY))

    def _number(self) -> Decimal:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            self._fail("a number")
        self.at = match.end()
        return Decimal(match[0])

    def _positive(self, number: Decimal, start: int) -> float:
        value = float(number)
        if not 0 < value < float("inf"):
            self.at = start
            self._fail("a number above 0 and not too large to hold")
        return value

    def _space(self) -> None:
        self._take(r"\s+")

    def _take(self, pattern: str) -> str:
        match = re.compile(pattern).match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match[0]

    def _fail(self, expected: str, reason: str = "") -> NoReturn:
        rest = self.text[self.at :].split(",")[0].strip()
        got = f"got {rest!r}" if rest else "it ends there" if self.at >= len(self.text) else "got ','"
        line = re.sub(r"\s", " ", self.text)
        raise ValueError(f"the budget must have {expected} here{reason}, but {got}\n  {line}\n  {' ' * self.at}^")
