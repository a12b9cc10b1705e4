"""A front as a table for the terminal and, in the same columns, for the report."""

from __future__ import annotations

import io
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autocomp.problem.metrics import METRICS, decimals
from autocomp.problem.metrics import shown as shown_accuracy

from .front_protocol import Front
from .point import Point
from .wording import share

LINES = 20
KNEE = "◆"
MOST_CUTS = 4  # that the line on cuts that do not pay names
SHARES = ("accuracy", "agreement")  # metrics that are shares of independent samples


@dataclass(frozen=True)
class Column:
    """title and unit are the header; numbers are aligned to the right."""

    title: str
    unit: str = ""
    number: bool = True


def columns(front: Front) -> list[Column]:
    lower = front.float_point.scale > 0
    units = ("lower is better", "") if lower else ("%", "points")
    found = [Column("plan", number=False), Column(front.float_point.metric, units[0]), Column("change", units[1])]
    if _file_accuracies(front):
        found.insert(2, Column("measured", units[0]))
    for name in front.metrics:
        unit = _unit(front, name) or "count"
        found += [Column(name, unit), Column("ratio")]
        if _measured(front, name):
            found.append(Column("measured", unit))
    return found


def rows(front: Front, shown: Sequence[Point]) -> Iterator[list[str]]:
    """The cells of the points, in the order of :func:`columns`."""
    places = {name: decimals(_scaled(front, name, point.value(name)) for point in shown) for name in front.metrics}
    for point in shown:
        cells = [
            point.name,
            shown_accuracy(point.accuracy, point.scale).removesuffix(" %"),
            "" if point.is_float else point.change,
        ]
        if _file_accuracies(front):
            found = point.measured.get("accuracy")
            cells.insert(2, "" if found is None else shown_accuracy(found, point.scale).removesuffix(" %"))
        for name in front.metrics:
            cells.append(f"{_scaled(front, name, point.value(name)):,.{places[name]}f}")
            cells.append("" if point.is_float else share(point.ratio(name)))
            if _measured(front, name):
                value = point.measured.get(METRICS[name].attribute)
                cells.append("" if value is None else f"{_scaled(front, name, value):,.{places[name]}f}")
        yield cells


def _unit(front: Front, name: str) -> str:
    """One unit for the whole column: the one that fits the float network's value."""
    return METRICS[name].unit_for(front.float_point.value(name))


def _scaled(front: Front, name: str, value: float) -> float:
    return value / float(METRICS[name].scale(_unit(front, name)))


def _measured(front: Front, name: str) -> bool:
    return any(METRICS[name].attribute in point.measured for point in (*front, front.float_point))


def _file_accuracies(front: Front) -> bool:
    return any("accuracy" in point.measured for point in (*front, front.float_point))


def selected(front: Front, count: int) -> list[Point]:
    """At most ``count`` points at even distances; the ends, the knee and the most accurate are always among them."""
    if count < 4:
        raise ValueError(f"rows must be at least 4 (the ends, the knee, the most accurate), but got rows={count}")
    if len(front) <= count:
        return list(front)
    last = len(front) - 1
    accuracies = [point.accuracy for point in front]
    chosen = {0, last, list(front).index(front.knee), int(np.argmax(accuracies))}
    for i in np.linspace(0, last, count).round():
        if len(chosen) < count:
            chosen.add(int(i))
    return [front[i] for i in sorted(chosen)]


def description(front: Front) -> str:
    """One line on the device, the budget and the number of points."""
    budget = f", budget {front.budget}" if front.budget else ""
    tuned = f", {len(front.tuned)} fine-tuned" if front.tuned else ""
    return f"{front.device}{budget}: {len(front)} points from {len(front.evaluated)} evaluations{tuned}"


def explanations(front: Front) -> list[str]:
    """Explains the numbers: the samples of the accuracy with its confidence interval, and the source of the costs."""
    kinds = {point.fidelity: point for point in (front.float_point, *front, *front.tuned)}
    texts = [f"{kind or 'samples'}{_interval(point)}" for kind, point in kinds.items()]
    meanings = {
        "agreement": " (share of answers that are the float network's)",
        "fidelity": " (1 less noise to signal in the outputs)",
    }
    meaning = meanings.get(front.float_point.metric, "")
    parts = {point.fidelity for point in front.evaluated if point.samples < front.float_point.samples}
    rest = f"; other plans on {', '.join(sorted(parts))}" if parts else ""
    lines = [f"{front.float_point.metric}{meaning} measured on {', '.join(texts)}{rest}"]
    if any(point.change_error for point in front):
        lines.append("change: to the float network, as expected on other samples, ± half its 95 % interval")
    measured = any(_measured(front, name) for name in front.metrics)
    read = f"; measured: size of the {_form(front)} file, latency on the device" if measured else ""
    if _file_accuracies(front):
        lines[0] += f"; measured: {front.float_point.metric} of the .onnx file, run by onnxruntime"
    return [*lines, f"costs predicted for {front.device}, ratio: to the float network{read}", *unpaid_cuts(front)]


def unpaid_cuts(front: Front) -> list[str]:
    """A line on the cuts of channels that make the front's plans no faster, if there are any."""
    tables = front.layers
    found = {} if tables is None else {p.plan.key: tables.unpaid.get(p.plan.key, ()) for p in front}
    counts = Counter(cut for cuts in found.values() for cut in cuts)
    if not counts:
        return []
    named = [f"{cut} (in {count} of {len(found)} plans)" for cut, count in counts.most_common(MOST_CUTS)]
    rest = f" and {len(counts) - MOST_CUTS} more" if len(counts) > MOST_CUTS else ""
    return [f"no faster on {front.device}, whatever else it saves: {', '.join(named)}{rest}; see point.unpaid_cuts"]


def _form(front: Front) -> str:
    """Of the files whose sizes are shown, which is the form that the costs are predicted for."""
    files = (report for point in (*front, front.float_point) for report in point.files.values() if report.of_cost)
    return next((f".{report.format}" for report in files), "exported")


def _interval(point: Point) -> str:
    """Half the 95 % confidence interval, for a share of independent samples, at the float network's accuracy."""
    if point.samples < 1 or point.metric not in SHARES:
        return ""
    of_float = (point.reference or point).accuracy
    if not 0 < of_float < 1:
        return ""
    return f" (±{196 * math.sqrt(of_float * (1 - of_float) / point.samples):.1f} points at 95 % confidence)"


def table(front: Front, count: int) -> Table:
    shown = selected(front, count)
    result = Table(
        title=description(front), title_justify="left", title_style="bold",
        caption_justify="left", caption_style="dim", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    result.add_column("")
    for column in columns(front):
        header = Text(column.title, style="bold")
        header.append(f"\n{column.unit}", style="dim")
        if column.number:
            result.add_column(header, justify="right", no_wrap=True)
        else:
            result.add_column(header, min_width=20, overflow="fold")
    lines = [front.float_point, *(point for point in shown if not point.is_float)]
    for point, cells in zip(lines, rows(front, lines), strict=True):
        mark = KNEE if point == front.knee else ""
        result.add_row(Text(mark, style="green"), *map(Text, cells), style="dim" if point.is_float else None)
        if point.is_float:
            result.add_section()
    caption = Text("\n".join([*explanations(front), f"{KNEE} the knee of the front, which pick() gives"]))
    if len(shown) < len(front):
        caption.append(f"\n{len(shown)} of {len(front)} points are shown; front.table(rows={len(front)}) has all")
    for note in front.notes:
        caption.append(f"\nnote: {note}", style="not dim yellow")
    result.caption = caption
    return result


def render(value: Table) -> str:
    """The table as plain text, as wide as the terminal, or 120 columns where there is none."""
    width = max(100, shutil.get_terminal_size((120, 24)).columns)
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    console.print(value)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
