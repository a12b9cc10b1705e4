"""Fits a chip's rates to measured latencies: robust, in logarithms, with a prior at the start values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from autocomp.hardware_models.device_model import Device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.rates import PRECISIONS, Demand, Rates
from autocomp.hardware_models.roofline import work
from autocomp.search_spaces import Workload

PULL = 0.15  # residual of a constant that doubles (1: an error of 100 %): holds constants that no row determines
ROBUST = 0.1  # errors above 10 % count linearly


@dataclass(frozen=True)
class Observation:
    """A measured inference: the demand of each of its operators, and the seconds of all together."""

    group: str  # network or shape; a group is left out as a whole
    demand: Demand
    seconds: float
    fixed: bool = True  # whether the seconds include the fixed time of an inference


def observe(device: Device, workload: Workload, seconds: float, group: str) -> Observation:
    """The observation of a workload of one plan."""
    program = device.program(workload.graph)
    lowered = LoweredNetwork(device, program, workload)
    demands = [work(lowered, position).demand for position in range(len(program.operators))]
    return Observation(group, joined(demands), seconds)


def joined(demands: Sequence[Demand]) -> Demand:
    matrix = {name: np.concatenate([demand.matrix[name] for demand in demands]) for name in PRECISIONS}
    works = [demand.runtime for demand in demands]
    runtime = type(works[0])(**{field.name: _concatenated(works, field.name) for field in fields(works[0])})
    others = [field.name for field in fields(Demand) if field.name not in ("matrix", "runtime")]
    return Demand(matrix=matrix, runtime=runtime, **{name: _concatenated(demands, name) for name in others})


def _concatenated(parts: Sequence[Any], name: str) -> np.ndarray:
    return np.concatenate([getattr(part, name) for part in parts])


@dataclass(frozen=True)
class Measured:
    """Observations in joint arrays, so that a fit needs only a few array operations."""

    demand: Demand
    starts: np.ndarray
    seconds: np.ndarray
    fixed: np.ndarray

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> Measured:
        lengths = [len(one.demand.traffic) for one in observations]
        starts = np.cumsum([0, *lengths[:-1]])
        seconds, fixed = (np.array([getattr(o, name) for o in observations]) for name in ("seconds", "fixed"))
        return cls(joined([o.demand for o in observations]), starts, seconds, fixed)

    def predicted(self, rates: Rates) -> np.ndarray:
        """(observations,) seconds."""
        return np.add.reduceat(rates.seconds(self.demand).total, self.starts) + rates.inference_s * self.fixed


def changed(rates: Rates, factors: Mapping[str, float]) -> Rates:
    """Constants times factors, by name: ``"dram_bytes_per_s"``, ``"macs_per_s.int8"``."""
    known = rates.constants()
    new: dict[str, Any] = {}
    for name, factor in factors.items():
        attribute, _, key = name.partition(".")
        old = new.get(attribute, known[attribute])
        new[attribute] = {**old, key: old[key] * factor} if key else old * factor
    return rates.with_constants(new)


def fit(
    rates: Rates, observations: Sequence[Observation], free: Sequence[str], most: Mapping[str, float] | None = None
) -> Rates:
    """The rates, with the constants named in ``free`` fitted from their present values.

    most: constants -> the largest factor by which each may grow, which a specification limits.
    """
    from scipy.optimize import least_squares

    measured = Measured.of(observations)

    def residuals(steps: np.ndarray) -> np.ndarray:
        guess = changed(rates, dict(zip(free, np.exp(steps), strict=True)))
        return np.concatenate([np.log(measured.predicted(guess) / measured.seconds), PULL * steps])

    bounds = (-np.inf, np.log([(most or {}).get(name, np.inf) for name in free]))
    found = least_squares(
        residuals, np.zeros(len(free)), bounds=bounds, loss="soft_l1", f_scale=ROBUST, diff_step=1e-3, max_nfev=60
    )
    return changed(rates, dict(zip(free, np.exp(found.x), strict=True)))


def left_out(
    rates: Rates, observations: Sequence[Observation], free: Sequence[str], most: Mapping[str, float] | None = None
) -> np.ndarray:
    """(observations,) relative errors, each of a fit that used no observation of the same group."""
    errors = np.empty(len(observations))
    for group in {one.group for one in observations}:
        fitted = fit(rates, [one for one in observations if one.group != group], free, most)
        held = [i for i, one in enumerate(observations) if one.group == group]
        some = Measured.of([observations[i] for i in held])
        errors[held] = some.predicted(fitted) / some.seconds - 1
    return errors
