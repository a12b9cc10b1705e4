"""Fronts, points and files as tables and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from autocomp.problem.metrics import METRICS
from autocomp.results.front import ParetoSet
from autocomp.results.front_table import description
from autocomp.results.layers import LayerTables
from autocomp.results.point import ExportReport, Point
from autocomp.results.prediction import Prediction


def point_of(front: ParetoSet, text: str) -> Point:
    """A point by its number on the front, as ``float`` or ``knee``, or by bounds that it meets."""
    if text == "float":
        return front.float_point
    if text == "knee":
        return front.knee
    if not text.lstrip("-").isdigit():
        return front.pick(text)
    if not 0 <= int(text) < len(front):
        raise ValueError(f"a point's number must be from 0 to {len(front) - 1}, but got {text}")
    return front[int(text)]


def front_as_dict(front: ParetoSet) -> dict[str, Any]:
    return {
        "description": description(front),
        "device": front.device,
        "budget": str(front.budget),
        "objectives": list(front.objectives),
        "feasible": front.feasible,
        "hypervolume": front.hypervolume(),
        "notes": list(front.notes),
        "settings": {str(name): str(value) for name, value in front.settings.items()},
        "float": point_as_dict(front, front.float_point, layers=False),
        "points": [{"number": i, **point_as_dict(front, point, layers=False)} for i, point in enumerate(front)],
    }


def point_as_dict(front: ParetoSet, point: Point, layers: bool = True) -> dict[str, Any]:
    interval = point.change_interval
    found: dict[str, Any] = {
        "name": point.name,
        "plan": dict(point.plan),
        "primitives": list(point.primitives),
        "metric": point.metric,
        "accuracy": point.accuracy,
        "change": point.accuracy_change,
        "change_interval": None if interval is None else list(interval),
        "samples": point.samples,
        "fidelity": point.fidelity,
        "tuned": point.tuned,
        "cost": {name: point.value(name) for name in METRICS},
        "ratio": {name: point.ratio(name) for name in METRICS},
        "measured": point.measured,
        "files": {form: report_as_dict(report) for form, report in point.files.items()},
    }
    tables = front.layers if layers else None
    if tables is not None and point.plan in tables:
        found["layers"] = [
            {"name": one.name, "kind": one.kind, **asdict(row), "share": tables.share(row, point.plan)}
            for one, row, _ in tables.rows(point.plan)
        ]
    return found


def resolved_as_dict(front: ParetoSet, found: Point | Prediction, report: ExportReport | None) -> dict[str, Any]:
    """A point where the plan was evaluated, else a prediction; and the file that was written."""
    shown = point_as_dict(front, found) if isinstance(found, Point) else _prediction_as_dict(found)
    evaluated = isinstance(found, Point)
    return {"evaluated": evaluated, **shown, "file": None if report is None else report_as_dict(report)}


def _prediction_as_dict(found: Prediction) -> dict[str, Any]:
    return {
        "plan": dict(found.plan),
        "metric": found.reference.metric,
        "accuracy": found.accuracy,
        "low": found.low,
        "high": found.high,
        "change": found.accuracy_change,
        "cost": {name: found.value(name) for name in METRICS},
        "ratio": {name: found.ratio(name) for name in METRICS},
    }


def report_as_dict(report: ExportReport) -> dict[str, Any]:
    return {**asdict(report), "path": str(report.path), "commands": list(report.commands)}


def layer_table(tables: LayerTables, point: Point) -> Table:
    table = Table()
    for title in ("operator", "format", "by"):
        table.add_column(title)
    for title in ("channels", "latency [ms]", "of float", "share", "bound"):
        table.add_column(title, justify="right")
    for one, row, before in tables.rows(point.plan):
        channels = "" if not one.channels else f"{row.channels}"
        channels += f" of {one.channels}" if row.channels < one.channels else ""
        ratio = f"{row.latency_ms / before.latency_ms:.0%}" if before.latency_ms else ""
        share = f"{tables.share(row, point.plan):.1%}"
        by = ", ".join(row.primitives)
        table.add_row(one.name, row.format or one.kind, by, channels, f"{row.latency_ms:.3g}", ratio, share, row.bound)
    return table
