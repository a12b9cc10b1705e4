"""Tables of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from autocomp.search_spaces import Format

from .metrics import METRICS, significant

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost, Device, OperatorCost


def device_table(chips: Sequence[Device], aliases: Mapping[str, str]) -> Table:
    """Throughputs and bandwidth are those that the cost model computes with, below the chip's peak."""
    table = Table(caption_justify="left")
    for name in ("device", "float TFLOPS", "int8 TOPS", "memory GB", "GB/s"):
        table.add_column(name, justify="left" if name == "device" else "right", no_wrap=name == "device")
    for name in ("executes", "stores", "from"):
        table.add_column(name)
    sources = list(dict.fromkeys(map(rates_source, chips)))
    for chip in chips:
        others = [alias for alias, name in aliases.items() if name == chip.name]
        formats = [f for f in chip.formats if f != Format()]
        table.add_row(
            " = ".join((chip.name, *others)),
            f"fp{chip.float_bits} {_tera(chip, 'float')}",
            _tera(chip, "int8"),
            _optional(chip.data["specification"].get("memory_gb")),
            significant(chip.rates.dram_bytes_per_s / 1e9),
            " ".join(str(f) for f in formats if chip.executes(f)),
            " ".join(str(f) for f in formats if not chip.executes(f)),
            f"{1 + sources.index(rates_source(chip))}",
        )
    notes = ["Sustained throughput and bandwidth, with which costs are computed; a multiply-add is two operations."]
    table.caption = escape("\n".join(notes + [f"{i}  {source}" for i, source in enumerate(sources, 1)]))
    return table


def rates_source(chip: Device) -> str:
    """Where the constants of the cost model come from; of a fit the data and the error on networks left out."""
    fit = chip.data.get("fit", {})
    if "mean_error" not in fit:
        return str(chip.data["rates"]["source"])
    return f"fitted to {fit['data']}; mean error {fit['mean_error']:.0%} on what was left out"


def _tera(chip: Device, precision: str) -> str:
    rate = chip.rates.macs_per_s.get(precision)
    return "-" if rate is None else significant(2 * rate / 1e12)


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def cost_table(cost: Cost) -> Table:
    table = Table(show_header=False)
    for metric in METRICS.values():
        table.add_row(metric.name, metric.format(float(getattr(cost, metric.attribute))))
    return table


def operator_table(rows: Sequence[OperatorCost]) -> Table:
    """One row for each operator as the device runs it, with what is fused into it."""
    table = Table()
    for name in ("operator", "kind", "fused", "latency", "share", "bound by", "moved", "MACs"):
        table.add_column(name, justify="right" if name in ("latency", "share", "moved", "MACs") else "left")
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
    return table
