"""A front, and how it grew, as plots."""

from __future__ import annotations

import html as markup
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autocomp.problem.budget import ACCURACY
from autocomp.problem.metrics import METRICS, shown
from autocomp.problem.pareto import staircase

from .details import UniformPlan
from .front_protocol import Front
from .growth import Round, rounds, volumes
from .point import INTERVAL, Point
from .wording import share

# Okabe and Ito's palette, which people with any common colour blindness can tell apart.
FAINT = "rgba(0, 114, 178, 0.25)"  # of intervals: a front may have a hundred
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
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}
    plot.update_layout(**_layout(height=460, legend=legend))
    return plot


def history(front: Front, steps: int = 60) -> go.Figure:
    """The hypervolume that the plans which had been evaluated by then dominate, over the number of evaluations.

    steps: at most so many numbers are computed.
    """
    count = len(front.evaluated)
    counts = np.unique(np.linspace(1, count, min(steps, count)).round().astype(int))
    line = {"color": BLUE, "width": 2, "shape": "hv"}
    plot = go.Figure(go.Scatter(x=counts, y=volumes(front, counts), mode="lines", line=line, name="hypervolume"))
    made = rounds(front)
    if made:
        plot.add_trace(_rounds(made))
    plot.update_xaxes(title_text="evaluated plans", **_AXIS)
    plot.update_yaxes(title_text="hypervolume", rangemode="tozero", **_AXIS)
    return plot.update_layout(**_layout(height=320, showlegend=False))


def _rounds(made: Sequence[Round]) -> go.Scatter:
    texts = [f"<b>round {i}</b><br>{one.kept} of its plans are on the front" for i, one in enumerate(made, 1)]
    marker = {"color": [GREEN if one.kept else PALE for one in made], "size": 9, "line": {"color": "white", "width": 1}}
    return go.Scatter(
        x=[one.plans for one in made],
        y=[one.hypervolume for one in made],
        mode="markers",
        marker=marker,
        text=texts,
        name="end of a round",
        hovertemplate="%{text}<br>hypervolume %{y:.4f}<extra></extra>",
    )


def _layout(**settings: Any) -> dict[str, Any]:
    font = {"family": FONT, "size": 13, "color": INK}
    hover = {"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 12, "color": INK}}
    colours = {"paper_bgcolor": "white", "plot_bgcolor": "white", "template": "none"}
    return {"margin": {"l": 64, "r": 16, "t": 40, "b": 56}, "font": font, "hoverlabel": hover, **colours, **settings}


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
    _add_intervals(traces[-1], shown)
    traces.append(_uniform(front, name))
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
        customdata=[point.plan.key for point in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _add_intervals(trace: go.Scatter, members: Sequence[Point]) -> None:
    """Bars for the 95 % intervals of the change, where they are known."""
    errors = [point.change_error for point in members]
    if not members or any(error is None for error in errors):
        return
    unit = members[0].scale or 100.0
    widths = [INTERVAL * unit * float(error or 0) for error in errors]
    trace.error_y = {"type": "data", "array": widths, "color": FAINT, "thickness": 1, "width": 0}


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


def _uniform(front: Front, name: str) -> go.Scatter:
    """Squares for the same format in all layers, which a front must beat."""
    details, metric, own = front.details, METRICS[name], front.float_point
    known = () if details is None else details.uniform
    scale = float(metric.scale(_unit(front, name)))
    return go.Scatter(
        x=[one.cost[metric.attribute] / scale for one in known],
        y=[own.scale * (1 - one.accuracy) if own.scale else 100 * one.accuracy for one in known],
        mode="markers",
        name="same format everywhere",
        legendgroup="uniform",
        marker={"color": GREY, "size": 9, "symbol": "square-open", "line": {"width": 2}},
        text=[_hover_uniform(front, one) for one in known],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover_uniform(front: Front, one: UniformPlan) -> str:
    own = front.float_point
    lines = [f"<b>{markup.escape(one.name)} in all layers</b>"]
    lines.append(f"{own.metric} {shown(one.accuracy, own.scale)}, measured on {one.samples:,} samples")
    for name in front.metrics:
        value = one.cost[METRICS[name].attribute]
        ratio = share(value / own.value(name)) if own.value(name) else ""
        lines.append(f"{name} {METRICS[name].format(value)} ({ratio} of float), predicted")
    return "<br>".join(lines)


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
