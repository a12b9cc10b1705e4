"""Read profilers' files as one latency of the model that they ran.

Read are the formats of NVIDIA's trtexec (``--exportTimes``, ``--exportProfile``, its log), of Ascend's msprof
(``op_summary`` CSV) and of MindSpore Lite's benchmark (its log); docs/guide/devices.md names where they are described.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.process.bounded_files import TEXT_BYTES, check_file, parse_json

KNOWN = "trtexec (--exportTimes, --exportProfile, log), msprof (op_summary CSV) or MindSpore Lite's benchmark (log)"
LINE = 2000  # characters of a log's line that are looked at
NUMBER = r"([0-9]{1,15}(?:\.[0-9]{0,30})?(?:e[+-]?\d{1,3})?) ms"
LOGS = (("GPU Compute Time:", rf"median = {NUMBER}"), ("", rf"AvgRunTime = {NUMBER}"))  # in one line
OPERATOR, MICROSECONDS = "Op Name", "Task Duration(us)"


@dataclass(frozen=True)
class Profile:
    """latency_ms: of one inference. fixed: whether of the whole of it, rather than a sum over its operators."""

    latency_ms: float
    fixed: bool


def read_profile(path: Path) -> Profile:
    """ValueError for a file that is none of KNOWN."""
    check_file(path, TEXT_BYTES)
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        found = _json(text) if path.suffix == ".json" else _summary(text) if path.suffix == ".csv" else None
        found = found or _log(text)
    except (ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"a profile must be of {KNOWN}, but {path} cannot be read: {error}") from error
    if found is None or not found.latency_ms > 0:
        raise ValueError(f"a profile must be of {KNOWN}, but {path} is none with a latency above 0")
    return found


def _json(text: str) -> Profile | None:
    try:
        entries = parse_json(text, "a profile")
    except ValueError:
        return None
    rows: list[dict[str, Any]] = [row for row in entries if isinstance(row, dict)] if isinstance(entries, list) else []
    times = [_number(row["computeMs"]) for row in rows if "computeMs" in row]
    if times:
        return Profile(float(np.median(times)), fixed=True)
    layers = [_number(row.get("medianMs", row["averageMs"])) for row in rows if "averageMs" in row]
    return Profile(sum(layers), fixed=False) if layers else None


def _summary(text: str) -> Profile | None:
    """Inferences repeat the operators' names: each operator counts with its mean."""
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or OPERATOR not in rows[0] or MICROSECONDS not in rows[0]:
        return None
    taken: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        taken[row[OPERATOR]].append(_number(row[MICROSECONDS]))
    return Profile(sum(float(np.mean(times)) for times in taken.values()) / 1e3, fixed=False)


def _log(text: str) -> Profile | None:
    for line in text.splitlines():
        for start, pattern in LOGS:
            _, found, rest = line.partition(start) if start else ("", " ", line)
            match = re.search(pattern, rest[:LINE]) if found else None
            if match is not None:
                return Profile(_number(match[1]), fixed=True)
    return None


def _number(value: Any) -> float:
    """ValueError for what is no finite time."""
    found = float(value)
    if not 0 <= found < float("inf"):
        raise ValueError(f"a time must be finite and 0 or more, but got {value!r}")
    return found


def named(paths: Sequence[Path]) -> dict[str, Profile]:
    """By the file's name up to its first dot: that of the model which was run."""
    return {path.name.partition(".")[0]: read_profile(path) for path in paths}
