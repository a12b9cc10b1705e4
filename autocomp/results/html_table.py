"""The table of a front for a report or a notebook, in the columns of the terminal's."""

from __future__ import annotations

import html as markup
from collections.abc import Collection, Sequence

from .front_protocol import Front
from .front_table import LINES, columns, rows, selected
from .point import Point


def table_html(front: Front) -> str:
    """A table element; points that are not among the shown ones are in a further one, which opens on demand."""
    if len(front) <= LINES:
        return _rows_html(front, front)
    every = f"<details><summary>all {len(front)} points of the front</summary>{_rows_html(front, front)}</details>"
    return _rows_html(front, selected(front, LINES)) + every


def _rows_html(front: Front, members: Collection[Point]) -> str:
    points = [front.float_point, *(point for point in members if not point.is_float)]
    head = "".join(
        f"<th{'' if column.number else ' class=text'}>{markup.escape(column.title)}<small>{column.unit}</small></th>"
        for column in columns(front)
    )
    body = "".join(_row_html(front, point, cells) for point, cells in zip(points, rows(front, points), strict=True))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row_html(front: Front, point: Point, cells: Sequence[str]) -> str:
    """The full plan is the tooltip of its short form. A row can be chosen, to see its network."""
    first, *numbers = (markup.escape(cell) for cell in cells)
    kind = "float" if point.is_float else "knee" if point == front.knee else ""
    tag = '<span class="tag">knee</span>' if kind == "knee" else ""
    plan = f'<td class="text" title="{markup.escape(str(point.plan))}">{first}{tag}</td>'
    chosen = f'tabindex="0" data-plan="{point.plan.key}"'
    return f'<tr class="{kind}" {chosen}>{plan}{"".join(f"<td>{cell}</td>" for cell in numbers)}</tr>'
