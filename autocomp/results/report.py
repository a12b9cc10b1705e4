"""A front as a plot, and as one HTML file that needs no other file."""

from __future__ import annotations

import html as markup
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from importlib import resources
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autocomp.problem.budget import ACCURACY
from autocomp.problem.metrics import METRICS, shown, shown_change
from autocomp.problem.pareto import staircase

from .front_protocol import Front
from .front_table import LINES, columns, description, explanations, rows, selected
from .point import Point, share

# Okabe and Ito's palette, which people with any common colour blindness can tell apart.
BLUE, VERMILLION, GREEN, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#8a8f98", "#c4c8cf"
INK = "#24292f"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def figure(front: Front) -> go.Figure:
    """Accuracy over each objective, one panel each: the front, other evaluated plans, the budget."""
    panels = len(front.objectives)
    plot = make_subplots(rows=1, cols=panels, shared_yaxes=True, horizontal_spacing=0.03)
    named: set[str | None] = {None}
    for panel, name in enumerate(front.objectives, 1):
        for trace in _traces(front, name):
            trace.showlegend = trace.name not in named
            named.add(trace.name)
            plot.add_trace(trace, row=1, col=panel)
        _budget_line(plot, front, name, panel)
        unit = f" [{_unit(front, name)}]" if _unit(front, name) else ""
        plot.update_xaxes(title_text=f"{name}{unit}, predicted", range=_x_range(front, name), col=panel)
    unit = ", lower is better" if front.float_point.scale else " [%]"
    plot.update_yaxes(title_text=f"{front.float_point.metric}{unit}", col=1)
    plot.update_yaxes(range=_y_range(front))
    plot.update_xaxes(**_AXIS)
    plot.update_yaxes(**_AXIS)
    plot.update_layout(
        template="none", height=460, margin={"l": 64, "r": 16, "t": 40, "b": 56},
        font={"family": FONT, "size": 13, "color": INK}, paper_bgcolor="white", plot_bgcolor="white",
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 12, "color": INK}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    )  # fmt: skip
    return plot


_AXIS: dict[str, Any] = {
    "gridcolor": "#eceff2",
    "linecolor": "#b6bcc4",
    "showline": True,
    "ticks": "outside",
    "tickcolor": "#b6bcc4",
    "zeroline": False,
    "title_standoff": 10,
}


def _traces(front: Front, name: str) -> list[go.Scatter]:
    """The traces from the lowest layer to the top one."""
    on_front = set(map(id, front))
    others = [point for point in front.evaluated if id(point) not in on_front and not point.is_float]
    shown = [point for point in front if not point.is_float]
    dot = {"color": GREY, "size": 6, "opacity": 0.55}
    cross = {"color": PALE, "size": 6, "symbol": "x-thin", "line": {"color": PALE, "width": 1.5}}
    traces = [
        _markers(front, name, [point for point in others if point.feasible], "evaluated", dot),
        _markers(front, name, [point for point in others if not point.feasible], "evaluated, over budget", cross),
        _line(front, name),
    ]
    label = "Pareto front" if front.feasible else "nearest to the budget"
    traces.append(
        _markers(front, name, shown, label, {"color": BLUE, "size": 9, "line": {"color": "white", "width": 1}})
    )
    traces.append(_measured(front, name))
    if not front.knee.is_float:
        ring = {"color": "rgba(0,0,0,0)", "size": 16, "line": {"color": GREEN, "width": 2.5}}
        traces.append(_markers(front, name, [front.knee], "knee", ring))
    star = {"color": VERMILLION, "size": 14, "symbol": "star", "line": {"color": "white", "width": 1}}
    traces.append(_markers(front, name, [front.float_point], "float network", star))
    return [trace for trace in traces if len(trace.x)]


def _markers(front: Front, name: str, members: Sequence[Point], label: str, marker: dict[str, Any]) -> go.Scatter:
    return go.Scatter(
        x=_values(front, name, members),
        y=[_y(point) for point in members],
        mode="markers",
        name=label,
        legendgroup=label,
        marker=marker,
        text=[_hover(front, point) for point in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _y(point: Point) -> float:
    return point.score if point.scale else 100 * point.accuracy


def _line(front: Front, name: str) -> go.Scatter:
    """Steps along the points that are best in this panel: the accuracy that is reached at each cost."""
    x = np.array(_values(front, name, front))
    y = np.array([_y(point) for point in front])
    best = staircase(x, np.array([point.accuracy for point in front]))
    line = {"color": BLUE, "width": 1.5, "shape": "hv"}
    return go.Scatter(
        x=x[best], y=y[best], mode="lines", line=line, opacity=0.6, hoverinfo="skip", legendgroup="Pareto front"
    )


def _measured(front: Front, name: str) -> go.Scatter:
    """Markers for points whose cost was measured."""
    attribute = METRICS[name].attribute
    known = [point for point in (*front, front.float_point) if attribute in point.measured]
    scale = float(METRICS[name].scale(_unit(front, name)))
    marker = {"color": "rgba(0,0,0,0)", "size": 10, "symbol": "diamond", "line": {"color": INK, "width": 1.5}}
    trace = _markers(front, name, known, "measured", marker)
    trace.x = [point.measured[attribute] / scale for point in known]
    return trace


def _hover(front: Front, point: Point) -> str:
    unit = "" if point.scale else " points"
    change = "" if point.is_float else f" ({point.change}{unit})"
    accuracy = shown(point.accuracy, point.scale)
    found = point.measured.get("accuracy")
    change += "" if found is None else f", measured {shown(found, point.scale)}"
    lines = [f"<b>{markup.escape(point.name)}</b>", f"{point.metric} {accuracy}{change}"]
    for name in front.metrics:
        metric = METRICS[name]
        ratio = "" if point.is_float else f" ({share(point.ratio(name))} of float)"
        measured = point.measured.get(metric.attribute)
        seen = "" if measured is None else f", measured {metric.format(measured)}"
        if name == "size" and measured is not None:
            seen += "".join(f" ({report.path.name})" for report in point.files.values() if report.of_cost)
        lines.append(f"{name} {metric.format(point.value(name))}{ratio}{seen}")
    lines += [markup.escape(str(report)) for report in point.files.values() if not report.of_cost]
    if not point.feasible:
        lines.append("<i>over budget</i>")
    return "<br>".join(lines)


def _unit(front: Front, name: str) -> str:
    return METRICS[name].unit_for(front.float_point.value(name))


def _values(front: Front, name: str, members: Iterable[Point]) -> list[float]:
    scale = float(METRICS[name].scale(_unit(front, name)))
    return [point.value(name) / scale for point in members]


def _limits(front: Front, metric: str) -> list[float]:
    return [bound.value for bound in front.limits.bounds if bound.metric == metric]


def _budget_line(plot: go.Figure, front: Front, name: str, panel: int) -> None:
    line = {"color": INK, "width": 1, "dash": "dot"}
    scale = float(METRICS[name].scale(_unit(front, name)))
    for limit in _limits(front, name):
        text = {"text": f"{name}<{METRICS[name].format(limit)}", "font": {"size": 11}, "textangle": -90}
        plot.add_vline(
            limit / scale, line=line, row=1, col=panel,
            annotation={**text, "x": limit / scale, "xanchor": "left", "y": 0.02, "yanchor": "bottom"},
        )  # fmt: skip
    for limit in _limits(front, ACCURACY):
        own, scale = front.float_point, front.float_point.scale
        bound = f"{own.metric}<{shown(limit, scale)}" if scale else f"{ACCURACY}>{shown(limit)}"
        named = {"text": bound, "font": {"size": 11}, "xanchor": "left", "x": 0.005}
        label = {"annotation": named, "annotation_position": "bottom left"} if panel == 1 else {}
        plot.add_hline(scale * (1 - limit) if scale else 100 * limit, line=line, row=1, col=panel, **label)


def _x_range(front: Front, name: str) -> list[float]:
    """The range of the front, the float network and the budget; other points are seen after zooming out."""
    scale = float(METRICS[name].scale(_unit(front, name)))
    seen = [*_values(front, name, [*front, front.float_point]), *(limit / scale for limit in _limits(front, name))]
    return _padded(min(seen), min(max(seen), 1.5 * _values(front, name, [front.float_point])[0]))


def _y_range(front: Front) -> list[float]:
    """The best above."""
    seen = [point.accuracy for point in (*front, front.float_point)] + _limits(front, ACCURACY)
    scale = front.float_point.scale
    if scale:
        return _padded(scale * (1 - min(seen)), scale * (1 - max(seen)))
    return _padded(100 * min(seen), 100 * max(seen), least=1.0)


def _padded(low: float, high: float, least: float = 0.0) -> list[float]:
    room = max(0.07 * abs(high - low), least / 2, 1e-9) * (1 if low <= high else -1)
    return [low - room, high + room]


def html(front: Front) -> str:
    """A complete page; it contains plotly's script, so that it opens without a connection."""
    config = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
    template = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=markup.escape(description(front)),
        cards=_cards(front),
        notes="".join(f'<p class="note">{markup.escape(note)}</p>' for note in front.notes),
        plot=figure(front).to_html(full_html=False, include_plotlyjs=True, config=config),
        table=_table(front),
        explanations="".join(f"<li>{markup.escape(line)}</li>" for line in explanations(front)),
        settings=_settings(front),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


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


def _table(front: Front) -> str:
    if len(front) <= LINES:
        return _rows(front, front)
    every = f"<details><summary>all {len(front)} points of the front</summary>{_rows(front, front)}</details>"
    return _rows(front, selected(front, LINES)) + every


def _rows(front: Front, members: Collection[Point]) -> str:
    shown = [front.float_point, *(point for point in members if not point.is_float)]
    head = "".join(
        f"<th{'' if column.number else ' class=text'}>{markup.escape(column.title)}<small>{column.unit}</small></th>"
        for column in columns(front)
    )
    body = "".join(_row(front, point, cells) for point, cells in zip(shown, rows(front, shown), strict=True))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(front: Front, point: Point, cells: Sequence[str]) -> str:
    """The full plan is the tooltip of its short form."""
    first, *numbers = (markup.escape(cell) for cell in cells)
    kind = "float" if point.is_float else "knee" if point == front.knee else ""
    tag = '<span class="tag">knee</span>' if kind == "knee" else ""
    plan = f'<td class="text" title="{markup.escape(str(point.plan))}">{first}{tag}</td>'
    return f'<tr class="{kind}">{plan}{"".join(f"<td>{cell}</td>" for cell in numbers)}</tr>'


def _settings(front: Front) -> str:
    entries = {"device": front.device, "budget": str(front.budget) or "none", "objectives": ", ".join(front.objectives)}
    entries |= {str(name): str(value) for name, value in front.settings.items()}
    return "".join(f"<dt>{markup.escape(name)}</dt><dd>{markup.escape(value)}</dd>" for name, value in entries.items())
