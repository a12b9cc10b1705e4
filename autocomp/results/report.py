"""A front as one HTML file that needs no other file: its plots, its plans, and each plan's network."""

from __future__ import annotations

import base64
import gzip
import html as markup
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from autocomp.problem.metrics import shown, shown_change

from .details import FrontDetails
from .front_protocol import Front
from .front_table import description, explanations
from .growth import FAILURES, ROUNDS, rounds
from .html_table import table_html
from .layers import LayerTables
from .plots import figure, history
from .point import Point
from .wording import share

CLASSES = 10  # that lose most, in a table


def html(front: Front) -> str:
    """A complete page; it contains plotly's script, packed, so that it opens without a connection."""
    return Template(_shipped("report.html")).substitute(
        title=markup.escape(description(front)),
        style=_shipped("report.css"),
        script=_shipped("report.js"),
        plotly=_packed_plotly(),
        cards=_cards(front),
        notes="".join(f'<p class="note">{markup.escape(note)}</p>' for note in front.notes),
        plot=_json(figure(front)),
        history=_json(history(front)),
        layers=_safe(json.dumps(_layers(front))),
        table=table_html(front),
        explanations="".join(f"<li>{markup.escape(line)}</li>" for line in explanations(front)),
        settings=_settings(front),
        rounds=_rounds(front),
        failures=_failures(front),
        details=_safe(json.dumps(_details(front))),
        classes=_classes(front),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _shipped(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _packed_plotly() -> str:
    """A third of the script's size; every browser since 2023 unpacks it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode("utf-8"), 9, mtime=0)).decode("ascii")


def _json(plot: Figure) -> str:
    return _safe(str(plot.to_json()))


def _safe(text: str) -> str:
    """JSON that cannot end the element in which it stands."""
    return text.replace("<", "\\u003c")


def _layers(front: Front) -> dict[str, Any]:
    """What the page draws of networks; empty where the front knows no layers."""
    tables = front.layers
    if tables is None:
        return {}
    drawn = {point.plan.key: point for point in (front.float_point, *front, *front.tuned) if point.plan in tables}
    return {
        "operators": [
            [one.name, one.kind, list(one.fused), list(one.inputs), one.channels, one.why_whole]
            for one in tables.operators
        ],
        "float": front.float_point.plan.key,
        "points": [_drawn(point, tables, front.details) for point in drawn.values()],
        "knee": front.knee.plan.key,
    }


def _drawn(point: Point, tables: LayerTables, details: FrontDetails | None) -> dict[str, Any]:
    found = tables.plans[point.plan.key]
    nats = [None if details is None else details.nats(point.plan, one.name) for one in tables.operators]
    parts = [tables.share(row, point.plan) for row in found]
    return {
        "key": point.plan.key,
        "name": point.name,
        "summary": point.summary(),
        "plan": dict(point.plan),
        "rows": [
            [
                row.channels,
                row.format,
                list(row.primitives),
                _short(row.latency_ms),
                _short(part),
                round(row.bytes),
                row.bound,
                None if own is None else _short(own),
            ]
            for row, part, own in zip(found, parts, nats, strict=True)
        ],
    }


def _details(front: Front) -> dict[str, Any]:
    """Histograms and signal to noise, for the page to draw; empty where the front knows none."""
    found = front.details
    if found is None:
        return {}
    return {
        "tensors": [asdict(one) for one in found.tensors],
        "losses": None if found.losses is None else dict(found.losses.layers),
        "knee": front.knee.name,
    }


def _classes(front: Front) -> str:
    """A table of the classes that lose most under the knee; empty without labels of classes."""
    losses = None if front.details is None else front.details.losses
    if losses is None or not losses.classes:
        return ""
    worst = sorted(losses.classes, key=lambda one: one.of_plan - one.of_float)[:CLASSES]
    rows = "".join(
        f"<tr><td>{one.label}</td><td>{one.samples:,}</td><td>{one.of_float:.1%}</td><td>{one.of_plan:.1%}</td>"
        f"<td>{100 * (one.of_plan - one.of_float):+.1f}</td></tr>"
        for one in worst
    )
    head = "".join(f"<th>{title}</th>" for title in ("class", "samples", "float", "the knee", "points"))
    return f"<table><tr>{head}</tr>{rows}</table>"


def _rounds(front: Front) -> str:
    """What each round of proposals added; empty where the front does not know."""
    found, before, rows = rounds(front), 0.0, []
    for number, one in enumerate(found, 1):
        gain = one.hypervolume - before if number > 1 else one.hypervolume
        rows.append(
            f"<tr><td>{number}</td><td>{one.plans:,}</td><td>{one.hypervolume:.4f}</td><td>{gain:+.4f}</td>"
            f"<td>{one.kept}</td></tr>"
        )
        before = one.hypervolume
    heads = ("round", "plans by then", "hypervolume", "added", "of its plans on the front")
    head = "".join(f"<th>{title}</th>" for title in heads)
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>' if rows else ""


def _failures(front: Front) -> str:
    """Of fronts of this version: also that there were none."""
    found = front.settings.get(FAILURES)
    if not isinstance(found, Mapping):
        return ""
    if not found:
        return "<p>No evaluation failed.</p>"
    rows = "".join(f"<li>{count} of them: {markup.escape(str(reason))}</li>" for reason, count in found.items())
    return f"<p>Evaluations that failed:</p><ul>{rows}</ul>"


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _cards(front: Front) -> str:
    """The main figures, at the top of the page."""
    knee = front.knee
    cards = [
        ("points on the front" if front.feasible else "nearest plans", str(len(front))),
        ("plans evaluated", f"{len(front.evaluated):,}"),
        (
            f"{front.float_point.metric} of the float network",
            shown(front.float_point.accuracy, front.float_point.scale),
        ),
        ("hypervolume", f"{front.hypervolume():.3f}"),
        ("budget", str(front.budget) or "none"),
    ]
    if not knee.is_float:
        parts = [f"{name} {share(knee.ratio(name))}" for name in front.objectives]
        change = shown_change(knee.accuracy_change, knee.scale) + ("" if knee.scale else " points")
        cards.insert(4, ("the knee", f"{change} at {', '.join(parts)}"))
    card = "<div><b>{}</b><span>{}</span></div>"
    return "".join(card.format(markup.escape(value), markup.escape(name)) for name, value in cards)


def _settings(front: Front) -> str:
    entries = {"device": front.device, "budget": str(front.budget) or "none", "objectives": ", ".join(front.objectives)}
    entries |= {str(name): str(value) for name, value in front.settings.items() if name not in (ROUNDS, FAILURES)}
    return "".join(f"<dt>{markup.escape(name)}</dt><dd>{markup.escape(value)}</dd>" for name, value in entries.items())
