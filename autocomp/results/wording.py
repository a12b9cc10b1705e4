"""Plans and numbers in words, as tables, points and reports show them."""

from __future__ import annotations

from collections import Counter

from autocomp.problem.metrics import shown, shown_change, significant
from autocomp.search_spaces import RESOLUTION, Plan, Value, lower_resolution, split_value


def short(plan: Plan) -> str:
    """How often each choice occurs, the most frequent first; for keep ratios their range.

    >>> short(Plan({"format/a": "w8a8", "format/b": "w8a8", "keep/a": 0.5, "keep/b": 0.75}))
    'w8a8 x2, keep 0.5-0.75 x2'
    """
    if not plan:
        return "float network"
    ratios = sorted(float(split_value(value)[0]) for name, value in plan.items() if name.startswith("keep/"))
    lower = lower_resolution(plan)
    others = ((name, value) for name, value in plan.items() if not name.startswith("keep/") and name != RESOLUTION)
    counts = Counter(_choice(name, value) for name, value in others)
    parts = [] if lower is None else [f"resolution {lower}"]
    parts += [f"{choice} x{n}" for choice, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    if ratios:
        low, high = f"{ratios[0]:.2g}", f"{ratios[-1]:.2g}"
        parts.append(f"keep {low if low == high else f'{low}-{high}'} x{len(ratios)}")
    return ", ".join(parts)


def _choice(name: str, value: Value) -> str:
    kind = name.partition("/")[0]
    if kind in ("structure", "activation"):
        return str(split_value(value)[0])
    if kind == "skip":
        return kind
    return str(value) if kind == "format" else f"{kind} {value}"


def percent(accuracy: float) -> str:
    return shown(accuracy)


def points(change: float) -> str:
    """Percentage points, with a sign.

    >>> points(-0.0123), points(0.0)
    ('-1.2', '0.0')
    """
    return shown_change(change)


def share(ratio: float) -> str:
    return f"{100 * ratio:.0f} %" if ratio >= 0.1 else f"{significant(100 * ratio, 2)} %"
