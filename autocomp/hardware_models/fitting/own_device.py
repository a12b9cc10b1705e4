"""Fits a device to a user's own measurements of operator shapes and networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autocomp.hardware_models.device_file import rates_data
from autocomp.hardware_models.device_model import Device
from autocomp.hardware_models.measurements.shapes import MeasuredShape, rows_data
from autocomp.hardware_models.rates import Rates, constant_fields
from autocomp.hardware_models.uncertainty import LatencyErrors
from autocomp.search_spaces import Workload

from .fit import Measured, Observation, changed, fit, observe

FOLDS = 5  # parts of what was measured, each left out once; all formats of a shape are in one part
FEWEST = 8  # least number of shapes for a fit without networks
NOT_FITTED = ("cache_bytes", "overlapped")


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network whose latency was measured. workload: of one plan. latency_ms: of one inference of its batch."""

    name: str
    workload: Workload
    latency_ms: float


Row = MeasuredShape | MeasuredNetwork


def calibrated(
    device: Device,
    rows: Sequence[MeasuredShape],
    about: Mapping[str, Any],
    networks: Sequence[MeasuredNetwork] = (),
) -> Device:
    """The device with rates fitted to measured rows, which become its table, and to whole networks.

    All networks together count as much as all shapes, since networks are what the device will be asked for.

    about: entries of the file that replace the device's own: ``name``, ``specification``, ``measured``. ValueError for
        fewer than FEWEST rows with a latency and no network.
    """
    known = [row for row in rows if row.latency_ms is not None]
    if len(known) < FEWEST and not networks:
        raise ValueError(f"a fit needs at least {FEWEST} measured shapes or a network, but got {len(known)} shapes")
    bare = _with_rates(device, device.rates, about)
    errors = _left_out(bare, [*known, *networks])
    found = _with_rates(bare, fitted_rates(bare, [*known, *networks]), about)
    fact: dict[str, Any] = {"data": f"{_counted(len(known), len(networks))} measured on the device"}
    if errors is not None:
        fact |= {"mean_error": float(np.abs(errors).mean()), "errors": LatencyErrors.of(errors).as_dict()}
    return _with_rows({**found.data, "fit": fact}, known)


def _counted(shapes: int, networks: int) -> str:
    counts = ((shapes, "operator shape"), (networks, "network"))
    return " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)


def _with_rows(data: Mapping[str, Any], rows: Sequence[MeasuredShape]) -> Device:
    measured = {**data.get("measured", {}), "rows": rows_data(rows)}
    return Device.parse({**data, "measured": measured}, data["name"])


def _with_rates(device: Device, rates: Rates, about: Mapping[str, Any]) -> Device:
    data = {key: value for key, value in device.data.items() if key not in ("fit", "measured", "like")}
    source = "fitted to the measurements named under [fit]"
    whole = {**data, **about, "rates": {"source": source, **rates_data(rates)}}
    return Device.parse(whole, device.name)


def fitted_rates(device: Device, rows: Sequence[Row]) -> Rates:
    """The rates that explain the rows best, beginning with the device's own, all scaled by one factor."""
    observations = _observed(device, rows)
    measured = Measured.of(observations)
    scale = float(np.exp(np.median(np.log(measured.seconds / measured.predicted(device.rates)))))
    return fit(_slowed(device.rates, scale), observations, _free(device.rates))


def _observed(device: Device, rows: Sequence[Row]) -> list[Observation]:
    """Each network as often as all networks count as much as all shapes."""
    shapes = sum(isinstance(row, MeasuredShape) for row in rows)
    often = max(1, round(shapes / max(len(rows) - shapes, 1)))
    return [
        replace(observe(device, _workload(row), row.latency_ms / 1e3, _group(row)), fixed=_fixed(row))
        for row in rows
        if row.latency_ms is not None
        for _ in range(1 if isinstance(row, MeasuredShape) else often)
    ]


def _workload(row: Row) -> Workload:
    return row.shape.workload() if isinstance(row, MeasuredShape) else row.workload


def _fixed(row: Row) -> bool:
    """Whether the latency includes the fixed time of an inference."""
    return row.fixed if isinstance(row, MeasuredShape) else True


def _slowed(rates: Rates, factor: float) -> Rates:
    """The rates of a machine that takes ``factor`` times as long for everything."""
    times = ("operator_s", "inference_s")
    relative = ("transcendental_operations", "softmax_layernorm_operations", "grouped_share", "window_share")
    names = {name: name.partition(".")[0] for name in _free(rates)}
    factors = {name: factor if first in times else 1 / factor for name, first in names.items() if first not in relative}
    return changed(rates, factors)


def _free(rates: Rates) -> list[str]:
    """The names of all constants above 0 that are fitted."""
    names, values = [], rates.constants()
    for name, field in constant_fields(type(rates.runtime)).items():
        value = values[name]
        if isinstance(value, Mapping):
            names += [f"{name}.{key}" for key in value]
        elif name not in NOT_FITTED and math.isfinite(value) and value > 0 and value != field.default:
            names.append(name)
    return names


def _left_out(device: Device, rows: Sequence[Row]) -> np.ndarray | None:
    """(rows,) relative errors of the model with its table, for rows that neither the fit nor the table used.

    None where all rows are of one group, of which nothing can be left out.
    """
    groups = {name: i for i, name in enumerate(dict.fromkeys(map(_group, rows)))}
    if len(groups) < 2:
        return None
    fold = np.random.default_rng(0).permutation(len(groups)) % FOLDS
    errors = np.empty(len(rows))
    for left in range(min(FOLDS, len(groups))):
        held = np.array([fold[groups[_group(row)]] == left for row in rows])
        seen = [row for row, out in zip(rows, held, strict=True) if not out]
        shapes = [row for row in seen if isinstance(row, MeasuredShape)]
        known = _with_rows(_with_rates(device, fitted_rates(device, seen), {}).data, shapes)
        for i in np.flatnonzero(held):
            errors[i] = predicted(known, rows[i]) / (rows[i].latency_ms or np.nan) - 1
    return errors


def _group(row: Row) -> str:
    return replace(row.shape, format="float").name if isinstance(row, MeasuredShape) else row.name


def predicted(device: Device, row: Row) -> float:
    """Milliseconds that the device predicts for a row."""
    latency = float(device.costs(_workload(row)).latency_ms[0])
    return latency if _fixed(row) else latency - device.rates.inference_s * 1e3
