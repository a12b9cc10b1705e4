"""How far the hardware models are from published measurements, and how quick they are.

    python benchmarks/hardware.py

The networks are built in MindSpore and traced (some minutes at first, then kept in the temporary folder).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from scipy.stats import spearmanr

from autocomp.hardware_models import Device, LatencyErrors, device
from autocomp.hardware_models.device_file import derived
from autocomp.hardware_models.fitting.fit import Measured, Observation, fit, left_out
from autocomp.search_spaces import Knob, SearchSpace
from benchmarks import float32_operators as float32
from benchmarks import published
from benchmarks.processor import processor
from examples import calibrate_devices as calibrated

CHIPS = {
    "Tesla T4": float32.Chip(40, 8.1e12 / 2, 320e9, 70),
    "Tesla V100-PCIE-32GB": float32.Chip(80, 14.1e12 / 2, 900e9, 250),
    "NVIDIA A100-PCIE-40GB": float32.Chip(108, 19.5e12 / 2, 1555e9, 250),
}
Row = tuple[str, float, str, str]  # what, value, unit, goal


def percent(errors: np.ndarray) -> float:
    return float(np.abs(errors).mean() * 100)


def rank(observations: list[Observation], errors: np.ndarray) -> float:
    measured = np.array([one.seconds for one in observations])
    return float(spearmanr(measured * (1 + errors), measured)[0])


def near(errors: np.ndarray) -> float:
    return float((np.abs(errors) < 0.2).mean() * 100)


def coverage(errors: np.ndarray, groups: Sequence[str], confidence: float = 0.9) -> float:
    """The share of rows that measure below what ``latency<X@90%`` allows, with margins from all other families."""
    held = np.empty(len(errors), bool)
    for group in set(groups):
        own = np.array([other == group for other in groups])
        held[own] = 1 / (1 + errors[own]) <= LatencyErrors.of(errors[~own]).margin(confidence)
    return float(held.mean() * 100)


def ascend() -> list[Row]:
    chip = device("ascend")
    networks, bert = published.ascend_networks(chip), published.ascend_bert(chip)
    start, free = calibrated.guess(chip), calibrated.ASCEND
    errors = left_out(start, networks + bert, free, calibrated.MOST)
    groups = [one.group for one in networks + bert]
    return [
        ("310P3, all rows, families left out, mean error", percent(errors), "%", "12"),
        ("310P3, all rows, share within 20 %", near(errors), "%", "85"),
        ("310P3, all rows, Spearman", rank(networks + bert, errors), "", "0.985"),
        ("310P3, measured below latency<X@90%", coverage(errors, groups), "%", "85 to 95"),
        *[(f"310P3, {kind} left out, mean error", value, "%", "") for kind, value in by_family(groups, errors)],
        ("BERT-large, BERT-base alone in the fit, mean error", *bert_large(chip, bert)),
        ("310P3, YOLOX-s with a faster sigmoid, device file, mean error", other_settings(chip), "%", ""),
        *[row for name in calibrated.OWN_ROWS for row in relative(name)],
        ("310P3 ResNet-50 in int8, device file, mean error", int8_error(chip), "%", "25"),
    ]


def bert_large(chip: Device, bert: list[Observation]) -> tuple[float, str, str]:
    fitted = fit(calibrated.guess(chip), bert, calibrated.ASCEND, calibrated.MOST)
    measured = Measured.of(published.ascend_bert(chip, "large"))
    return percent(measured.predicted(fitted) / measured.seconds - 1), "%", "8"


def other_settings(chip: Device) -> float:
    """Rows of networks that were compiled with a less exact, faster sigmoid, as no other row was."""
    measured = Measured.of(published.ascend_networks(chip, chosen=published.FASTER_SIGMOID))
    return percent(measured.predicted(chip.rates) / measured.seconds - 1)


def by_family(groups: Sequence[str], errors: np.ndarray) -> list[tuple[str, float]]:
    return [(kind, percent(errors[np.array(groups) == kind])) for kind in sorted(set(groups))]


def relative(name: str) -> list[Row]:
    """A chip that takes the 310P3's rates and has a few rows of its own."""
    chip, measured = device(name), device("ascend")
    specified = measured.data["specification"], chip.data["specification"]
    rates = calibrated.executed(derived(measured.rates, *specified), chip)
    rows = published.ascend_networks(chip, calibrated.OWN_ROWS[name])
    most = {"window_share": 1 / rates.window_share}
    errors = left_out(rates, rows, calibrated.RELATIVE, most)
    return [(f"{name}, families left out, mean error", percent(errors), "%", "20")]


def int8_error(chip: Device) -> float:
    measured = Measured.of(published.ascend_networks(chip, "Ascend310P3", "int8"))
    return percent(measured.predicted(chip.rates) / measured.seconds - 1)


def h100() -> list[Row]:
    chip = device("nvidia-h100")
    rows = published.h100_networks(chip)
    errors = left_out(calibrated.guess(chip), rows, calibrated.H100, calibrated.MOST)
    batches = np.array([batch for name, batch, _ in published.h100_rows() if "@" not in name])
    found: list[Row] = [
        (f"H100 batch {batch}, families left out, mean error", percent(errors[batches == batch]), "%", "20")
        for batch in (1, 8, 64)
    ]
    found.append(("H100, Spearman", rank(rows, errors), "", "0.95"))
    found.append(("H100, measured below latency<X@90%", coverage(errors, [r.group for r in rows]), "%", "85 to 95"))
    return found + pruned(chip)


def a100() -> list[Row]:
    """NVIDIA's documentation has these latencies of TensorRT 8.4; nothing was fitted to them."""
    chip = device("nvidia-a100")
    measured = Measured.of(published.a100_networks(chip))
    errors = measured.predicted(chip.rates) / measured.seconds - 1
    return [("A100 int8 under TensorRT 8.4, five networks at batch 1, mean error", percent(errors), "%", "25")]


def pruned(chip: Device) -> list[Row]:
    """ResNet-50 with fewer channels, relative to the whole network."""
    measured = {(name, batch): milliseconds for name, batch, milliseconds in published.h100_rows() if "@" in name}
    ratios = []
    for (name, batch), milliseconds in measured.items():
        whole, part = published.widths("1,1"), published.widths(name.partition("@")[2])
        predicted = [float(chip.costs(published.uniform(some, batch)).latency_ms[0]) for some in (part, whole)]
        aligned = not name.endswith(("0.9,0.9", "0.9531"))
        ratios.append((aligned, milliseconds / measured["resnet50@1,1", batch], predicted[0] / predicted[1]))
    cuts = np.array([(real, told) for aligned, real, told in ratios if aligned and real != 1])
    others = np.array([(real, told) for aligned, real, told in ratios if not aligned])
    slower = float(((cuts[:, 0] > 1) & (cuts[:, 1] < 0.95)).sum())
    return [
        (
            "H100, pruned to whole ResNet-50, aligned widths, mean error",
            percent(cuts[:, 1] / cuts[:, 0] - 1),
            "%",
            "10",
        ),
        ("H100, pruned to whole ResNet-50, odd widths, mean error", percent(others[:, 1] / others[:, 0] - 1), "%", ""),
        ("H100, aligned cuts predicted below 0.95 and measured above 1", slower, "cuts", "0"),
    ]


def t4() -> list[Row]:
    chip = device("gpu")
    half, quarter = published.t4_networks(chip, "fp16"), published.t4_networks(chip, "int8")
    errors = left_out(calibrated.guess(chip), half + quarter, calibrated.T4, calibrated.MOST)
    float_errors, int_errors = errors[: len(half)], errors[len(half) :]
    return [
        ("T4 fp16 networks, families left out, mean error", percent(float_errors), "%", "15"),
        ("T4 int8 networks, families left out, mean error", percent(int_errors), "%", ""),
        ("T4 ratio int8/fp16, mean error", percent((1 + int_errors) / (1 + float_errors) - 1), "%", "10"),
        ("T4 fp16 networks, Spearman", rank(half, float_errors), "", ""),
    ]


def operators() -> list[Row]:
    if not published.SHARED.is_dir():
        return []
    linear, conv = (published.SHARED / f"nvidia_{kind}_fp32.csv" for kind in ("linear", "conv"))
    matmuls = {name: float32.Matmuls.of(chip, published.columns(linear, name)) for name, chip in CHIPS.items()}
    with_convolutions = {name: chip for name, chip in CHIPS.items() if "A100" not in name}
    convolutions = {
        name: float32.Convolutions.of(chip, published.columns(conv, name)) for name, chip in with_convolutions.items()
    }
    found: list[Row] = []
    kinds: list[tuple[str, Mapping[str, float32.Table], str]]
    kinds = [("convolutions", convolutions, "15"), ("matmuls", matmuls, "7")]
    for what, tables, goal in kinds:
        for name, (alone, near) in float32.held_out(tables).items():
            found.append((f"fp32 {what} on {name}, half held out", alone * 100, "%", goal))
            found.append((f"fp32 {what} on {name}, with the other half as its table", near * 100, "%", goal))
    for name, table in matmuls.items():
        found.append(
            (f"fp32 matmuls on {name}, scatter of rows of nearly the same sizes", float32.scatter(table) * 100, "%", "")
        )
    for name, error in float32.zero_shot(matmuls).items():
        found.append((f"fp32 matmuls on {name}, fitted on the two others", error * 100, "%", "22"))
    return found


def million() -> list[Row]:
    graph = published.graph("resnet50")
    formats = ("float", "w8", "w8a8", "w4", "w4a8")
    knobs = [Knob(f"format/{layer}", "rtn", (layer,), formats) for layer in graph.layers]
    for group in graph.channel_groups:
        ratios = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
        knobs.append(Knob(f"keep/{group.name}", "prune", (), ratios, group, np.arange(group.units), 16))
    space = SearchSpace(graph, tuple(knobs))
    plans = space.random(np.random.default_rng(0), 1_000_000)
    chip = device("ascend")
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        costs = chip.costs(space.workload(plans, 8))
        seconds.append(time.perf_counter() - began)
    some = np.random.default_rng(1).integers(0, len(plans), 100)
    differ = sum(chip.costs(space.workload(plans[i], 8))[0] != costs[i] for i in some)
    return [
        (f"a million plans of ResNet-50 ({len(knobs)} knobs) costed, best of three", min(seconds), "s", "3"),
        ("of 100 of them, costed one by one, differ", float(differ), "plans", "0"),
    ]


def error_as_shipped() -> Row:
    """Of the device file itself, on the rows that it was fitted to: catches a file that is out of date."""
    chip = device("ascend")
    measured = Measured.of(published.ascend_networks(chip))
    return (
        "310P3 networks, device file as shipped, mean error",
        percent(measured.predicted(chip.rates) / measured.seconds - 1),
        "%",
        "",
    )


def main() -> None:
    table = [*ascend(), error_as_shipped(), *h100(), *a100(), *t4(), *operators(), *million(), *processor()]
    for what, value, unit, goal in table:
        print(f"{what:72s} {value:8.4g} {unit:6s} {'goal ' + goal if goal else ''}")
    print(f"ascend_families_left_out_error: {table[0][1]:.2f} %")


if __name__ == "__main__":
    main()
