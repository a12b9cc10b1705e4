"""Writes a front to a file and reads it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autocomp.evaluators import Measurement
from autocomp.hardware_models import Cost, LatencyErrors
from autocomp.problem.metrics import METRICS
from autocomp.problem.record import Record
from autocomp.process.bounded_files import parse_json, plain_mode, read_text
from autocomp.search_spaces import Plan

from .details import FILE as DETAILS
from .details import FrontDetails
from .front_protocol import Front, SavedFront
from .layers import FILE as LAYERS
from .layers import LayerTables
from .point import ExportReport, Point

FILE = "front.json"
SCHEMA = 1


@dataclass(frozen=True)
class MeasuredFiles:
    """Of one point: measured costs by name, and written files by form."""

    costs: dict[str, float] = field(default_factory=dict)
    files: dict[str, ExportReport] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredFront:
    """The contents of a front's file.

    tuned, joined: records of plans whose networks were fine-tuned, and of plans at lower resolutions. measured,
        measured_tuned, measured_joined: measured costs of each plan, by its key.
    resolver: data to solve for other budgets, where it is known. timed: see :class:`Timed`.
    """

    device: str
    budget: str
    objectives: tuple[str, ...]
    settings: dict[str, Any]
    notes: tuple[str, ...]
    records: tuple[Record, ...]
    measured: dict[str, MeasuredFiles]
    errors: LatencyErrors | None = None
    resolver: dict[str, Any] | None = None
    tuned: tuple[Record, ...] = ()
    measured_tuned: dict[str, MeasuredFiles] = field(default_factory=dict)
    joined: tuple[Record, ...] = ()
    measured_joined: dict[str, MeasuredFiles] = field(default_factory=dict)
    chance: float | None = None
    timed: dict[str, list[float]] = field(default_factory=dict)

    def tell(self, front: Front) -> None:
        """Give the front's points what was measured of them."""
        found_for = (
            (front.evaluated, self.measured),
            (front.tuned, self.measured_tuned),
            (front.joined, self.measured_joined),
        )
        for points, measured in found_for:
            for point in points:
                found = measured.get(point.plan.key, MeasuredFiles())
                point.measured.update(found.costs)
                point.files.update(found.files)


def to_json(front: Front) -> str:
    value = {
        "schema": SCHEMA,
        "device": front.device,
        "budget": str(front.budget),
        "objectives": front.objectives,
        "reference": front.reference,
        "hypervolume": front.hypervolume(),
        "settings": front.settings,
        "notes": front.remarks,
        "chance": front.chance,
        "timed": front.timed.measured,
        "errors": front.errors and front.errors.as_dict(),
        "records": [_record(point) for point in front.evaluated],
        "tuned": [_record(point) for point in front.tuned],
        "joined": [_record(point) for point in front.joined],
        "resolver": None if front.resolver is None else front.resolver.stored(),
    }
    return json.dumps(value, indent=1, default=str) + "\n"


def _record(point: Point) -> dict[str, Any]:
    return {
        "plan": dict(point.plan),
        "vector": point.vector,
        "accuracy": point.accuracy if point.observed is None else point.observed,
        "expected": point.accuracy,
        "change_error": point.change_error,
        "accuracy_error": point.accuracy_error,
        "divergence": point.divergence,
        "metric": point.metric,
        "samples": point.samples,
        "fidelity": point.fidelity,
        "seed": point.seed,
        "seconds": point.seconds,
        "violation": point.violation,
        "scale": point.scale,
        "cost": {m.attribute: float(getattr(point.cost, m.attribute)) for m in METRICS.values()},
        "measured": point.measured,
        "files": {form: asdict(report) for form, report in point.files.items()},
    }


def save(front: SavedFront, folder: Path) -> None:
    """Write what :func:`read` reads, and what stands beside it."""
    write_text(folder / FILE, to_json(front))
    tables: tuple[tuple[str, LayerTables | FrontDetails | None], ...] = (
        (LAYERS, front.layers),
        (DETAILS, front.details),
    )
    for name, found in tables:
        if found is not None:
            write_text(folder / name, found.to_json())
    if front.deployer is not None:
        front.deployer.store(folder, [point.plan for point in front])
    for point in front.tuned:
        if point.deployer is not None:
            point.deployer.store(folder, [point.plan])


def read(folder: Path) -> StoredFront:
    """ValueError for a file that is not a front's, or of another schema; FileNotFoundError where there is no file."""
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"a saved front is a folder with {FILE}, but {folder} has none")
    try:
        value = parse_json(read_text(path), "it")
        schema = value["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a front as ParetoSet.save writes it, but it cannot be read: {error}"
        ) from error
    if schema != SCHEMA:
        raise ValueError(f"{path} must have schema {SCHEMA}, but got {schema}: save it again with this version")
    try:
        return _stored(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} must be what ParetoSet.save writes, but it lacks {error}") from error


def _stored(value: dict[str, Any]) -> StoredFront:
    return StoredFront(
        device=value["device"],
        budget=value["budget"],
        objectives=tuple(value["objectives"]),
        settings=value["settings"],
        notes=tuple(value["notes"]),
        records=tuple(_read_record(record) for record in value["records"]),
        measured=_measured(value["records"]),
        tuned=tuple(_read_record(record) for record in value.get("tuned", ())),
        measured_tuned=_measured(value.get("tuned", ())),
        joined=tuple(_read_record(record) for record in value.get("joined", ())),
        measured_joined=_measured(value.get("joined", ())),
        resolver=value.get("resolver"),
        chance=value.get("chance"),
        timed=value.get("timed", {}),
        errors=LatencyErrors.parse(value["errors"]) if value.get("errors") else None,
    )


def _measured(records: Iterable[dict[str, Any]]) -> dict[str, MeasuredFiles]:
    return {Plan(record["plan"]).key: MeasuredFiles(record["measured"], _files(record)) for record in records}


def _files(record: dict[str, Any]) -> dict[str, ExportReport]:
    """Fronts of earlier versions have none."""
    files = record.get("files", {})
    return {form: _file(form, report) for form, report in files.items()}


def _file(form: str, value: dict[str, Any]) -> ExportReport:
    size, error = float(value["size_mb"]), float(value["max_relative_error"])
    latency, predicted = (None if value[n] is None else float(value[n]) for n in ("latency_ms", "predicted_mb"))
    accuracy = value.get("accuracy")  # earlier versions have none
    return ExportReport(
        Path(value["path"]), form.partition(",")[0], size, error, latency, predicted, bool(value["of_cost"]),
        value.get("form", ""), tuple(value.get("commands", ())),
        None if accuracy is None else float(accuracy), int(value.get("samples", 0)), float(value.get("scale", 0.0)),
    )  # fmt: skip


def _read_record(value: dict[str, Any]) -> Record:
    names = ("accuracy", "metric", "samples", "seconds", "seed", "fidelity")
    later: dict[str, Any] = {
        name: value.get(name) for name in ("change_error", "accuracy_error", "divergence")
    }  # not in older fronts
    measurement = Measurement(**{name: value[name] for name in names}, scale=value.get("scale", 0.0), **later)
    return Record(Plan(value["plan"]), tuple(value["vector"]), measurement, Cost(**value["cost"]), value["violation"])


def write_text(path: Path, text: str) -> Path:
    """Writes the file completely or not at all; OSError says in one sentence what could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            os.fchmod(handle, plain_mode())
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OSError(f"{path} must be writable, but it is not: {error.strerror or error}") from error
    return path
