"""The metrics that a budget may name: their units, and how their values are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

_TIME = {"us": "0.001", "ms": "1", "s": "1000"}
_BYTES = {"B": "1e-6", "KB": "1e-3", "MB": "1", "GB": "1e3"}
_BINARY = {"KiB": "0.001024", "MiB": "1.048576", "GiB": "1073.741824"}
_SMALL_BYTES = {"B": "1", "KB": "1e3", "MB": "1e6", "GB": "1e9"}
_SMALL_BINARY = {"KiB": "1024", "MiB": "1048576", "GiB": "1073741824"}
_COUNT = {"": "1", "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12"}
_ENERGY = {"uJ": "0.001", "mJ": "1", "J": "1000"}


@dataclass(frozen=True)
class Metric:
    """A cost that a hardware model predicts.

    attribute: its name in Cost, which contains the unit of stored values.
    units: the size of each unit in that unit, rising; values are written in these units.
    read: further units that a budget may use.
    """

    name: str
    attribute: str
    units: Mapping[str, str]
    read: Mapping[str, str]

    def scale(self, unit: str) -> Decimal:
        return Decimal(self.units.get(unit) or self.read[unit])

    @property
    def known_units(self) -> tuple[str, ...]:
        return (*self.units, *self.read)

    def unit_for(self, value: float) -> str:
        """The largest unit in which the value is at least 1."""
        fitting = [unit for unit in self.units if abs(value) >= float(self.scale(unit))]
        return fitting[-1] if fitting else next(iter(self.units))

    def format(self, value: float) -> str:
        """Three significant digits and a unit.

        >>> METRICS["latency"].format(0.0312)
        '31.2 us'
        """
        unit = self.unit_for(value)
        return f"{significant(value / float(self.scale(unit)))} {unit}".rstrip()


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("latency", "latency_ms", _TIME, {}),
        Metric("memory", "memory_mb", _BYTES, _BINARY),
        Metric("size", "size_mb", _BYTES, _BINARY),
        Metric("energy", "energy_mj", _ENERGY, {}),
        Metric("macs", "macs", _COUNT, {"K": "1e3"}),
        Metric("params", "params", _COUNT, {"K": "1e3"}),
        Metric("bops", "bops", _COUNT, {"K": "1e3"}),
        Metric("weight_bytes", "weight_bytes", _SMALL_BYTES, _SMALL_BINARY),
        Metric("tpot", "tpot_ms", _TIME, {}),
        Metric("cache", "cache_mb", _BYTES, _BINARY),
    )
}


OF_A_CONTEXT = ("tpot", "cache")  # costs of a language model that generates


def shown(accuracy: float, scale: float = 0.0) -> str:
    """An accuracy in per cent; or the value of a metric where lower is better, see Measurement.

    >>> shown(0.912), shown(0.75, 0.4)
    ('91.2 %', '0.1')
    """
    return f"{100 * accuracy:.1f} %" if not scale else f"{significant(scale * (1 - accuracy)) or 0}"


def shown_change(change: float, scale: float = 0.0) -> str:
    """The change of an accuracy in points, signed; or of the value of a metric where lower is better."""
    text = f"{100 * change:+.1f}" if not scale else f"{-scale * change:+.2g}"
    return "0.0" if text in ("+0.0", "-0.0", "+0", "-0") else text


def shown_width(width: float, scale: float = 0.0) -> str:
    """Half an interval of a change, in the unit and the digits of :func:`shown_change`; without a sign."""
    return f"{100 * width:.1f}" if not scale else f"{scale * width:.2g}"


def decimals(values: Iterable[float], digits: int = 3) -> int:
    """Decimal places with which a column's typical value has ``digits`` significant digits."""
    logs = sorted(math.floor(math.log10(abs(value))) for value in values if value and math.isfinite(value))
    return min(6, max(0, digits - 1 - logs[len(logs) // 2])) if logs else 0


def significant(value: float, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, without powers of ten, with commas between thousands.

    >>> significant(0.98765), significant(1234.5)
    ('0.988', '1,234')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}"


def rounded_up(value: float, digits: int = 3) -> float:
    """The smallest number with ``digits`` significant digits that is not below the value."""
    if value <= 0 or not math.isfinite(value):
        return value
    exact = Decimal(repr(value))
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return float((exact / step).to_integral_value(ROUND_CEILING) * step)
