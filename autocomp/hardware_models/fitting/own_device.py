"""Fits a device to a user's own measurements of operator shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autocomp.hardware_models.device_file import rates_data
from autocomp.hardware_models.device_model import Device
from autocomp.hardware_models.measurements.shapes import MeasuredShape, rows_data
from autocomp.hardware_models.rates import Rates, constant_fields
from autocomp.hardware_models.uncertainty import LatencyErrors

from .fit import Measured, Observation, changed, fit, observe

FOLDS = 5  # parts of the shapes, each left out once; all formats of a shape are in one part
FEWEST = 8  # least number of rows for a fit
NOT_FITTED = ("cache_bytes", "overlapped")


def calibrated(device: Device, rows: Sequence[MeasuredShape], about: Mapping[str, Any]) -> Device:
    """The device with rates fitted to measured rows, which become its table.

    about: entries of the file that replace the device's own: ``name``, ``specification``, ``measured``. ValueError for
        fewer than FEWEST rows with a latency.
    """
    known = [row for row in rows if row.latency_ms is not None]
    if len(known) < FEWEST:
        raise ValueError(f"a fit needs at least {FEWEST} measured shapes, but got {len(known)}")
    bare = _with_rates(device, device.rates, about)
    errors = _left_out(bare, known)
    found = _with_rates(bare, _fitted(bare, known), about)
    fact = {
        "data": f"{len(known)} operator shapes measured on the device",
        "mean_error": float(np.abs(errors).mean()),
        "errors": LatencyErrors.of(errors).as_dict(),
    }
    return _with_rows({**found.data, "fit": fact}, known)


def _with_rows(data: Mapping[str, Any], rows: Sequence[MeasuredShape]) -> Device:
    measured = {**data.get("measured", {}), "rows": rows_data(rows)}
    return Device.parse({**data, "measured": measured}, data["name"])


def _with_rates(device: Device, rates: Rates, about: Mapping[str, Any]) -> Device:
    data = {key: value for key, value in device.data.items() if key not in ("fit", "measured", "like")}
    source = "fitted to the measurements named under [fit]"
    whole = {**data, **about, "rates": {"source": source, **rates_data(rates)}}
    return Device.parse(whole, device.name)


def _fitted(device: Device, rows: Sequence[MeasuredShape]) -> Rates:
    observations = _observed(device, rows)
    measured = Measured.of(observations)
    scale = float(np.exp(np.median(np.log(measured.seconds / measured.predicted(device.rates)))))
    return fit(_slowed(device.rates, scale), observations, _free(device.rates))


def _observed(device: Device, rows: Sequence[MeasuredShape]) -> list[Observation]:
    return [
        replace(observe(device, row.shape.workload(), row.latency_ms / 1e3, row.shape.name), fixed=row.fixed)
        for row in rows
        if row.latency_ms is not None
    ]


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


def _left_out(device: Device, rows: Sequence[MeasuredShape]) -> np.ndarray:
    """(rows,) relative errors of the model with its table, for rows that neither the fit nor the table used."""
    groups = {name: i for i, name in enumerate(dict.fromkeys(map(_group, rows)))}
    fold = np.random.default_rng(0).permutation(len(groups)) % FOLDS
    errors = np.empty(len(rows))
    for left in range(FOLDS):
        held = np.array([fold[groups[_group(row)]] == left for row in rows])
        seen = [row for row, out in zip(rows, held, strict=True) if not out]
        known = _with_rows(_with_rates(device, _fitted(device, seen), {}).data, seen)
        errors[held] = [predicted(known, row) / (row.latency_ms or np.nan) - 1 for row in np.array(rows)[held]]
    return errors


def _group(row: MeasuredShape) -> str:
    return replace(row.shape, format="float").name


def predicted(device: Device, row: MeasuredShape) -> float:
    """Milliseconds that the device predicts for a row."""
    latency = float(device.costs(row.shape.workload()).latency_ms[0])
    return latency if row.fixed else latency - device.rates.inference_s * 1e3
