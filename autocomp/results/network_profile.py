"""A network layer by layer under a plan: what it costs, what its tensors hold, and how much noise rounding adds."""

from __future__ import annotations

import html as markup
import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autocomp.problem.metrics import METRICS
from autocomp.search_spaces import Plan

from .details import ClassProfile
from .stored import write_text

WIDTH = 180
HARDEST = 3  # classes that a table names


@dataclass(frozen=True)
class LayerProfile:
    """One layer.

    low, high, mean, deviation, zeros: of its output in the float network; zeros is a share.
    alone_db: signal to noise of its own output, where only the choices that begin here are made: its bits, the channels
        of its group. output_db: of the network's first output then: the lowest is where the plan loses most.
    accumulated_db: of its output under the whole plan, channels that are cut left out. None without a choice, or where
        the output cannot be read; infinite without noise.
    latency_ms, share: predicted, and of the network's latency under the plan; of a file the share is of the measured
        time. bound: ``compute memory launch``.
    memory_mb: of weights and live tensors while it runs.
    measured_ms: on this processor, with the operators without weights behind it; None for another device, and where it
        is computed with another node of a file.
    """

    name: str
    kind: str
    format: str
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None
    zeros: float | None = None
    alone_db: float | None = None
    output_db: float | None = None
    accumulated_db: float | None = None
    latency_ms: float = 0.0
    share: float = 0.0
    bound: str = ""
    memory_mb: float | None = None
    measured_ms: float | None = None


@dataclass(frozen=True)
class NetworkProfile:
    """layers: in execution order. samples: on which tensors were read. output_db: of the network's first output under
    the whole plan. classes: on all evaluation samples, where they have labels of classes."""

    plan: Plan
    device: str
    layers: tuple[LayerProfile, ...]
    samples: int
    output_db: float | None = None
    classes: tuple[ClassProfile, ...] = ()

    @property
    def worst(self) -> tuple[LayerProfile, ...]:
        """The layers that the plan compresses, the one that costs the network's output most first."""
        known = [layer for layer in self.layers if layer.output_db is not None]
        return tuple(sorted(known, key=lambda layer: _number(layer.output_db)))

    @property
    def hardest(self) -> tuple[ClassProfile, ...]:
        """The classes, the one of which the plan's network gets the fewest right first."""
        return tuple(sorted(self.classes, key=lambda one: (one.of_plan, one.of_float)))

    def table(self) -> Table:
        found = Table(caption=self._caption, caption_justify="left")
        for title in ("layer", "format"):
            found.add_column(title)
        for title in self._titles:
            found.add_column(title, justify="right")
        for layer in self.layers:
            found.add_row(layer.name, layer.format or layer.kind, *self._cells(layer))
        return found

    @cached_property
    def _titles(self) -> tuple[str, ...]:
        """Of the columns in which something is known."""
        rows = [_cells(layer) for layer in self.layers]
        return tuple(title for title in (rows[0] if rows else ()) if any(row[title] for row in rows))

    def _cells(self, layer: LayerProfile) -> list[str]:
        cells = _cells(layer)
        return [cells[title] for title in self._titles]

    @property
    def measured_ms(self) -> float | None:
        """Of all layers; None where nothing was measured."""
        known = [layer.measured_ms for layer in self.layers if layer.measured_ms is not None]
        return sum(known) if known else None

    @property
    def peak_mb(self) -> float | None:
        known = [layer.memory_mb for layer in self.layers if layer.memory_mb is not None]
        return max(known, default=None)

    @property
    def _caption(self) -> str:
        noise = " and signal to noise, in dB," if self.worst else ""
        count = "1 sample" if self.samples == 1 else f"{self.samples} samples"
        lines = [f"tensors{noise} on {count}; {self._timed}"]
        if self.peak_mb is not None:
            largest = max(self.layers, key=lambda layer: layer.memory_mb or 0.0)
            lines.append(f"most memory, {METRICS['memory'].format(self.peak_mb)}, while {largest.name} runs")
        if self.worst:
            first = self.worst[0]
            lines.append(f"the network's output loses most by {first.name} ({first.format}): {_db(first.output_db)} dB")
        lines += [
            f"class {one.label}: {one.of_float:.1%} of {one.samples} right, {one.of_plan:.1%} under the plan"
            for one in self.hardest[:HARDEST]
        ]
        return "\n".join(lines)

    @property
    def _timed(self) -> str:
        total = self.measured_ms
        measured = "" if total is None else f"{METRICS['latency'].format(total)} measured on this processor"
        predicted = f"latency predicted for {self.device}" if any(layer.latency_ms for layer in self.layers) else ""
        return ", ".join(text for text in (predicted, measured) if text) or f"on {self.device}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: infinite is None, as unknown is."""
        rows = [{name: _finite(value) for name, value in asdict(layer).items()} for layer in self.layers]
        return {
            "plan": dict(self.plan),
            "device": self.device,
            "samples": self.samples,
            "output_db": _finite(self.output_db),
            "measured_ms": self.measured_ms,
            "peak_mb": self.peak_mb,
            "worst": [layer.name for layer in self.worst],
            "layers": rows,
            "classes": [asdict(one) for one in self.classes],
        }

    def report(self, path: str | Path) -> Path:
        """Write one HTML file that needs no other file."""
        style = resources.files(__package__).joinpath("report.css").read_text(encoding="utf-8")
        return write_text(
            Path(path), _PAGE.format(style=style, rows="".join(self._rows()), caption=self._html_caption())
        )

    def _html_caption(self) -> str:
        return "".join(f"<p>{markup.escape(line)}</p>" for line in self._caption.splitlines())

    def _rows(self) -> Iterator[str]:
        head = "".join(f"<th>{title}</th>" for title in self._titles)
        yield f'<tr><th class="text">layer</th><th class="text">format</th>{head}</tr>'
        worst = {layer.name for layer in self.worst[:3]}
        for layer in self.layers:
            cells = "".join(f"<td>{markup.escape(cell)}</td>" for cell in self._cells(layer))
            name, kind = markup.escape(layer.name), ' class="chosen"' if layer.name in worst else ""
            texts = "".join(f'<td class="text">{text}</td>' for text in (name, layer.format or layer.kind))
            yield f"<tr{kind}>{texts}{cells}</tr>"

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_jupyter=False)
        console.print(self.table())
        return str(console.file.getvalue()).rstrip()  # type: ignore[attr-defined]


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Network profile</title><style>{style}</style></head>
<body><main><h1>Network profile</h1>
<section>{caption}<div class="scroll"><table>{rows}</table></div></section></main></body>
</html>
"""


def _cells(layer: LayerProfile) -> dict[str, str]:
    """By the titles of the columns."""
    return {
        "output from": _short(layer.low),
        "to": _short(layer.high),
        "mean": _short(layer.mean),
        "deviation": _short(layer.deviation),
        "zeros": "" if layer.zeros is None else f"{layer.zeros:.0%}",
        "alone": _db(layer.alone_db),
        "at the output": _db(layer.output_db),
        "accumulated": _db(layer.accumulated_db),
        "ms": _short(layer.latency_ms or None),
        "measured": _short(layer.measured_ms),
        "share": f"{layer.share:.1%}" if layer.share else "",
        "MB": _short(layer.memory_mb),
    }


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _db(value: float | None) -> str:
    return "" if value is None else "exact" if math.isinf(value) else f"{value:.1f}"


def _number(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
