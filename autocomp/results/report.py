"""A front as one HTML file that needs no other file: its plots, its plans, and each plan's network."""

from __future__ import annotations

import base64
import gzip
import html as markup
import json
from datetime import datetime, timezone
from functools import cache
from importlib import resources
from string import Template
from typing import Any

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from autocomp.problem.metrics import shown, shown_change

from .front_protocol import Front
from .front_table import description, explanations
from .html_table import table_html
from .layers import LayerTables
from .plots import figure, history
from .point import Point, share


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
        "points": [_drawn(point, tables) for point in drawn.values()],
        "knee": front.knee.plan.key,
    }


def _drawn(point: Point, tables: LayerTables) -> dict[str, Any]:
    found = tables.plans[point.plan.key]
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
            ]
            for row, part in zip(found, parts, strict=True)
        ],
    }


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
    entries |= {str(name): str(value) for name, value in front.settings.items()}
    return "".join(f"<dt>{markup.escape(name)}</dt><dd>{markup.escape(value)}</dd>" for name, value in entries.items())
