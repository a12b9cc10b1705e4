"""Fits the device files to the published measurements and writes their [rates] and [fit]: run it again after a change.

    python examples/calibrate_devices.py

Chips without measurements get the efficiencies of their measured relative, applied to their specification.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autocomp.hardware_models import Device, LatencyErrors, device, devices
from autocomp.hardware_models.device_file import derived, rates_data, section
from autocomp.hardware_models.fitting.fit import Observation, fit, left_out
from autocomp.hardware_models.rates import Rates
from benchmarks import published

FOLDER = ROOT / "autocomp" / "hardware_models" / "devices"
ASCEND = (
    *("macs_per_s.float", "dram_bytes_per_s", "cache_bytes_per_s", "operator_s.float", "inference_s"),
    *("transcendental_operations", "softmax_layernorm_operations", "vector_per_s", "window_share"),
    "transposed_bytes_per_s",
)
H100 = (
    *("macs_per_s.float", "cache_bytes_per_s", "dram_bytes_per_s", "operator_s.float", "inference_s"),
    *("grouped_macs_per_s", "vector_per_s"),
)
OF_T4 = ("nvidia-v100", "nvidia-xavier")  # chips of its generations; later ones are as efficient as the H100
RELATIVE = ("dram_bytes_per_s", "window_share", "inference_s")
OWN_ROWS = {"ascend-310b1": "Ascend310B1", "ascend-310": "Ascend310"}  # relatives with a few rows of their own
T4 = (
    *("macs_per_s.float", "macs_per_s.int8", "cache_bytes_per_s", "operator_s.float", "operator_s.int8"),
    *("inference_s", "grouped_macs_per_s", "vector_per_s"),
)
WIDER = 1.5  # errors of chips that take a relative's rates, relative to those of that chip
OF_PEAK = 0.8  # the share of what a specification promises with which a fit starts
MOST = dict.fromkeys(("macs_per_s.float", "macs_per_s.int8"), 1 / OF_PEAK) | {
    "dram_bytes_per_s": 1 / OF_PEAK
}  # no fit goes beyond the promise


def guess(chip: Device) -> Rates:
    """Where a fit starts: a share of what the specification promises, the rest in round numbers."""
    spec = chip.data["specification"]
    peaks = {"float": spec["fp16_tflops"], "int8": spec.get("int8_tops"), "int4": spec.get("int4_tops")}
    bandwidth = spec["memory_gb_per_s"] * 1e9
    ascend = chip.rates.overlapped
    if chip.name == "nvidia-h100":
        return fast(chip, {name: OF_PEAK * peaks[name] * 0.5e12 for name in chip.rates.macs_per_s}, bandwidth)
    return replace(
        chip.rates,
        macs_per_s={name: OF_PEAK * peaks[name] * 0.5e12 for name in chip.rates.macs_per_s},
        grouped_macs_per_s=1e12,
        cache_bytes=spec["l2_mb"] * 1e6,
        cache_bytes_per_s=2 * bandwidth if ascend else bandwidth / 2,
        dram_bytes_per_s=(0.8 if ascend else 0.9) * bandwidth,
        vector_per_s=5e11 if ascend else 1e12,
        transcendental_operations=10.0 if ascend else 20.0,
        softmax_layernorm_operations=5.0 if ascend else 10.0,
        operator_s=dict.fromkeys(chip.rates.macs_per_s, 2e-6),
        inference_s=1e-4 if ascend else 1e-5,
        window_share=0.8 if ascend else 1.0,
        transposed_bytes_per_s=bandwidth / 5 if ascend else float("inf"),
    )


def fast(chip: Device, macs_per_s: dict[str, float], bandwidth: float) -> Rates:
    """Where the fit of a chip with a fast cache starts, whose graph of operators is launched at once."""
    return replace(
        chip.rates,
        macs_per_s=macs_per_s,
        grouped_macs_per_s=8e12,
        cache_bytes_per_s=4e12,
        dram_bytes_per_s=OF_PEAK * bandwidth,
        vector_per_s=3e13,
        operator_s=dict.fromkeys(macs_per_s, 3e-6),
        inference_s=5e-5,
    )


def executed(rates: Rates, chip: Device) -> Rates:
    """Of the precisions that the chip executes; int4, where its relative has none, as efficient as int8."""
    spec, names = chip.data["specification"], chip.rates.macs_per_s
    macs, launch = dict(rates.macs_per_s), {"int4": rates.operator_s["int8"], **rates.operator_s}
    if "int4" in names and "int4" not in macs:
        macs["int4"] = macs["int8"] * spec["int4_tops"] / spec["int8_tops"]
    return replace(rates, macs_per_s={n: macs[n] for n in names}, operator_s={n: launch[n] for n in names})


def completed(fitted: Rates, chip: Device) -> Rates:
    """Precisions that no row measures, at the efficiency of the nearest that one does."""
    spec = chip.data["specification"]
    macs, launch = dict(fitted.macs_per_s), dict(fitted.operator_s)
    if chip.name in ("ascend-310p3", "nvidia-h100"):
        macs["int8"] = macs["float"] * spec["int8_tops"] / spec["fp16_tflops"]
        launch["int8"] = launch["float"]
    if "int4" in macs:
        macs["int4"] = macs["int8"] * spec["int4_tops"] / spec["int8_tops"]
        launch["int4"] = launch["int8"]
    return replace(fitted, macs_per_s=macs, operator_s=launch)


def write(chip: Device, rates: Rates, source: str, measured: Mapping[str, object]) -> None:
    """Replaces all between [rates] and [energy_pj]."""
    file = FOLDER / f"{chip.name}.toml"
    before, _, rest = file.read_text().partition("[rates]\n")
    after = rest[rest.index("[energy_pj]") :]
    values = {"source": source, **rates_data(rates)}
    file.write_text(f"{before}[rates]\n{section(values)}\n\n[fit]\n{section(measured)}\n\n{after}")


def calibrate(name: str, observations: list[Observation], free: tuple[str, ...], data: str) -> None:
    chip = device(name)
    errors = left_out(guess(chip), observations, free, MOST)
    fitted = completed(fit(guess(chip), observations, free, MOST), chip)
    known = report(chip, errors)
    fact = {"data": data, "mean_error": float(np.abs(errors).mean()), "errors": known.as_dict()}
    write(chip, fitted, "fitted to the published measurements named under [fit]", fact)
    for other in map(device, relatives(chip.name)):
        take_over(other, chip, fitted, known)


def relatives(name: str) -> list[str]:
    """The chips without a fit of their own that take the efficiencies of the named one."""
    if name.startswith("ascend"):
        return [other for other in devices() if other.startswith("ascend") and other != name]
    others = [other for other in devices() if other.startswith("nvidia") and other not in ("nvidia-t4", "nvidia-h100")]
    return [other for other in others if (other in OF_T4) == (name == "nvidia-t4")]


def report(chip: Device, errors: np.ndarray) -> LatencyErrors:
    known = LatencyErrors.of(errors)
    low, high = known.values[0], known.values[-1]
    mean, near = np.abs(errors).mean(), (np.abs(errors) < 0.2).mean()
    print(f"{chip.name}: {len(errors)} rows, families left out: {mean:.1%}, {near:.0%} within 20 %")
    print(f"{'':{len(chip.name)}}  90 % in {low:+.0%} {high:+.0%}")
    return known


def take_over(other: Device, chip: Device, fitted: Rates, known: LatencyErrors) -> None:
    """A relative of a measured chip: its efficiencies, and what rows of its own say of the memory."""
    rates = executed(derived(fitted, chip.data["specification"], other.data["specification"]), other)
    wider = known.widened(WIDER)
    fact: dict[str, object] = {
        "data": f"none on this chip; errors are those of {chip.name}, {WIDER:g} times as wide",
        "errors": wider.as_dict(),
    }
    source = f"efficiencies fitted on {chip.name} applied to this chip's specification; not measured on this chip"
    rows = published.ascend_networks(other, OWN_ROWS[other.name]) if other.name in OWN_ROWS else []
    if rows:
        most = {"window_share": 1 / rates.window_share}
        errors = left_out(rates, rows, RELATIVE, most)
        fact = {
            "data": f"{len(rows)} latencies: Ascend/ModelZoo-PyTorch, rows in benchmarks/measurements",
            "mean_error": float(np.abs(errors).mean()),
            "errors": report(other, errors).widened(WIDER).as_dict(),
        }
        source = f"efficiencies of {chip.name}; memory and fixed times fitted to the measurements named under [fit]"
        rates = executed(fit(rates, rows, RELATIVE, most), other)
    write(other, rates, source, fact)


if __name__ == "__main__":
    ascend, t4 = device("ascend"), device("gpu")
    calibrate(
        "ascend",
        published.ascend_networks(ascend) + published.ascend_bert(ascend),
        ASCEND,
        "latencies of 25 networks by two builders and of BERT-base, fp16: Ascend/ModelZoo-PyTorch, rows in "
        "benchmarks/measurements",
    )
    h100 = device("nvidia-h100")
    calibrate(
        "nvidia-h100",
        published.h100_networks(h100),
        H100,
        "10 networks at batch 1, 8 and 64 in fp16 under PyTorch 2.11: rows in benchmarks/measurements",
    )
    calibrate(
        "gpu",
        published.t4_networks(t4, "fp16") + published.t4_networks(t4, "int8"),
        T4,
        "35 networks at batch 1 in fp16 and int8: openppl-public/ppl.nn, rows in benchmarks/measurements",
    )
