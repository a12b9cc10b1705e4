"""Tables of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autocomp.estimates import in_format
from autocomp.hardware_models.runtimes.registry import others_of, title_of
from autocomp.problem.metrics import METRICS, OF_A_CONTEXT, significant
from autocomp.search_spaces import Format

WIDEST = 140

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost, Device, LatencyErrors, OperatorCost
    from autocomp.hardware_models.runtimes.base import Runtime
    from autocomp.search_spaces import Workload


def show(table: Table) -> None:
    """Print the table completely, up to 140 columns wide, even in a narrower terminal: a figure that is cut off is
    useless."""
    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    Console(width=max(console.width, needed)).print(table)


def device_table(chips: Sequence[Device], aliases: Mapping[str, str]) -> Table:
    """Throughputs and bandwidth are the rates of the cost model, which are below the chip's peak."""
    table = Table(caption_justify="left")
    for name in ("device", "float TFLOPS", "int8 TOPS", "memory GB", "GB/s"):
        table.add_column(name, justify="left" if name == "device" else "right", no_wrap=name == "device")
    for name in ("runtime", "executes", "stores", "figures", "from"):
        table.add_column(name)
    sources = list(dict.fromkeys(map(rates_source, chips)))
    for chip in chips:
        others = [alias for alias, name in aliases.items() if name == chip.name]
        formats = [f for f in chip.distinct_formats() if f != Format()]
        table.add_row(
            " = ".join((chip.name, *others)),
            f"fp{chip.float_bits} {_tera(chip, 'float')}",
            _tera(chip, "int8"),
            _optional(chip.data["specification"].get("memory_gb")),
            significant(chip.rates.dram_bytes_per_s / 1e9),
            " ".join((title_of(chip.data), *(f":{other}" for other in others_of(chip.data)))),
            " ".join(str(f) for f in formats if chip.executes(f)),
            " ".join(str(f) for f in formats if not chip.executes(f)),
            figures(chip),
            f"{1 + sources.index(rates_source(chip))}",
        )
    notes = ["Sustained throughput and bandwidth, with which costs are computed; a multiply-add is two operations."]
    table.caption = escape("\n".join(notes + [f"{i}  {source}" for i, source in enumerate(sources, 1)]))
    return table


def device_as_dict(chip: Device) -> dict[str, object]:
    """What :func:`device_table` shows of a device, in units of Cost."""
    return {
        "name": chip.name,
        "runtime": title_of(chip.data),
        "other_runtimes": list(others_of(chip.data)),
        "float_bits": chip.float_bits,
        "file": chip.form,
        "formats": [str(some) for some in chip.distinct_formats()],
        "executes": [str(some) for some in chip.distinct_formats() if chip.executes(some)],
        "macs_per_s": dict(chip.rates.macs_per_s),
        "bytes_per_s": chip.rates.dram_bytes_per_s,
        "memory_gb": chip.data["specification"].get("memory_gb"),
        "figures": figures(chip),
        "source": rates_source(chip),
    }


def figures(chip: Device) -> str:
    """Where the rates come from, in a word: measured on this machine, fitted to measurements that others published, or
    assumed."""
    if "measured" in chip.data:
        return "measured"
    return "fitted" if "mean_error" in chip.data.get("fit", {}) else "assumed"


def runtime_table(chips: Sequence[Device]) -> Table:
    """One row for each runtime of these devices: which files it takes, and what it runs in integers."""
    table = Table(caption_justify="left")
    for name in ("runtime", "on", "takes", "in integers"):
        table.add_column(name)
    devices: dict[tuple[str, Runtime], list[str]] = {}
    for chip in chips:
        family = chip.name.partition("-")[0]
        found = {title_of(chip.data): chip.runtime, **{f":{name}": one for name, one in others_of(chip.data).items()}}
        for key in found.items():
            names = devices.setdefault(key, [])
            names += [family] if family not in names else []
    for (title, runtime), names in devices.items():
        integers = "nothing" if runtime.floats_alone else runtime.integers
        table.add_row(title, " ".join(names), " ".join(f".{form}" for form in runtime.reads), integers)
    table.caption = escape(
        "Behind a device's name: ascend-310p3:mindspore. The first runtime of a device needs no name."
    )
    return table


def rates_source(chip: Device) -> str:
    """The source of the cost model's constants; of a fit the data and the error on networks left out."""
    fit = chip.data.get("fit", {})
    if "mean_error" not in fit:
        return str(chip.data["rates"].get("source", "not named"))
    return f"fitted to {fit['data']}; mean error {fit['mean_error']:.0%} on what was left out"


def _tera(chip: Device, precision: str) -> str:
    rate = chip.rates.macs_per_s.get(precision)
    return "-" if rate is None else significant(2 * rate / 1e12)


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def cost_table(cost: Cost, errors: LatencyErrors | None = None) -> Table:
    """errors: of the device's predicted latencies, which give the interval next to the latency."""
    table = Table(show_header=False)
    for metric in METRICS.values():
        value = float(getattr(cost, metric.attribute))
        if metric.name in OF_A_CONTEXT and not value:
            continue
        between = f"{_interval(value, errors)} in 9 of 10 networks" if metric.name == "latency" and errors else ""
        table.add_row(metric.name, metric.format(value), *([between] if errors else []))
    return table


def _interval(latency_ms: float, errors: LatencyErrors | None) -> str:
    if errors is None:
        return "not known"
    low, high = map(METRICS["latency"].format, errors.range(latency_ms))
    return f"{low} to {high}"


def operator_table(rows: Sequence[OperatorCost], cost: Cost, inference_ms: float) -> Table:
    """One row for each operator as the device runs it, with the operators fused into it; ``inference_ms``: fixed time
    of an inference."""
    table = Table(show_footer=True)
    total = float(cost.latency_ms)
    footers = {
        "latency": METRICS["latency"].format(total),
        "share": "100.0%",
        "moved": METRICS["size"].format(sum(row.bytes for row in rows) / 1e6),
        "MACs": METRICS["macs"].format(sum(row.macs for row in rows)),
    }
    for name in ("operator", "kind", "fused", "latency", "share", "bound by", "moved", "MACs"):
        table.add_column(name, footers.get(name, ""), justify="right" if name in footers else "left")
    for row in rows:
        table.add_row(
            row.name,
            row.kind,
            " ".join(row.fused),
            METRICS["latency"].format(row.latency_ms),
            f"{row.share:.1%}",
            row.bound,
            METRICS["size"].format(row.bytes / 1e6),
            METRICS["macs"].format(row.macs) if row.macs else "",
        )
    table.add_row("fixed", "", "", METRICS["latency"].format(inference_ms), f"{inference_ms / total:.1%}")
    return table


INTEGERS = Format(8, 8)


def comparison_table(rows: Sequence[tuple[Device, Workload]]) -> Table:
    """One row for each device, the fastest first; each with the network in one format."""
    table = Table(caption_justify="left")
    names = (
        "device",
        "latency",
        "in 9 of 10 networks",
        "w8a8",
        "memory",
        "energy",
        "compute",
        "memory",
        "launch",
        "from",
    )
    for name in names:
        table.add_column(name, justify="left" if name == "device" else "right", no_wrap=name == "device")
    found = [(chip, workload, chip.costs(workload)[0]) for chip, workload in rows]
    found.sort(key=lambda row: row[2].latency_ms)
    sources = list(dict.fromkeys(rates_source(chip) for chip, *_ in found))
    for chip, workload, cost in found:
        latency = float(cost.latency_ms)
        table.add_row(
            chip.name,
            METRICS["latency"].format(latency),
            _interval(latency, chip.errors),
            _in_integers(chip, workload, latency),
            METRICS["memory"].format(float(cost.memory_mb)),
            METRICS["energy"].format(float(cost.energy_mj)),
            *(f"{share:.0%}" for share in _bounds(chip, workload, latency)),
            f"{1 + sources.index(rates_source(chip))}",
        )
    notes = [
        "Predicted. w8a8: latency with every layer in 8-bit integers, as a share. compute, memory, launch: share of "
        "the latency in operators bound by it; launch includes fixed times.",
        *(f"{i}  {source}" for i, source in enumerate(sources, 1)),
    ]
    table.caption = escape("\n".join(notes))
    return table


def _in_integers(chip: Device, workload: Workload, latency_ms: float) -> str:
    if INTEGERS not in chip.formats or not chip.executes(INTEGERS):
        return "-"
    return f"{float(chip.costs(in_format(workload, INTEGERS)).latency_ms[0]) / latency_ms:.0%}"


def _bounds(chip: Device, workload: Workload, latency_ms: float) -> list[float]:
    found = dict.fromkeys(("compute", "memory", "launch"), 0.0)
    for row in chip.cost_table(workload):
        found[row.bound] += row.latency_ms / latency_ms
    found["launch"] += chip.rates.inference_s * 1e3 / latency_ms
    return list(found.values())
