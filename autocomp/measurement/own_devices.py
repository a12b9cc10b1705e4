"""A user's own device: a table of operator shapes, measured here or by the device's profiler, and the device fitted to
it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from autocomp.hardware_models import Device
from autocomp.hardware_models import device as find_device
from autocomp.hardware_models.device_file import device_text
from autocomp.hardware_models.fitting.own_device import MeasuredNetwork, calibrated
from autocomp.hardware_models.fitting.profiles import named
from autocomp.hardware_models.fitting.standard_shapes import standard_shapes
from autocomp.hardware_models.measurements.shapes import MeasuredShape, OperatorShape, read_table, table_text
from autocomp.results.stored import write_text
from autocomp.search_spaces import Format

from .operator_models import fixed_batch, operator_model
from .processor import TEMPLATE, threads_of
from .profiling import Report, measure

INTEGERS = Format(8, 8)
RESULTS = (".json", ".csv", ".log", ".txt")
PRODUCTS = ("conv", "dense", "matmul")
COMPUTED, MOST_ELEMENTS = 3.0, 5e7  # least latency of a large shape, in fixed times; most elements of its tensors
WIDE, LONG_MS = 512, 20.0  # channels of the shapes that take long, and how long


def beginning(device: str, threads: int) -> tuple[str, int]:
    """The device to start the fit from, and the number of threads: ``cpu:4`` is the onnxruntime template with four
    threads."""
    own = threads_of(device)
    return (device, threads) if own is None else (str(TEMPLATE), threads if own == 1 else own)


def table_rows(device: str | Path | Device, path: Path) -> list[MeasuredShape]:
    """The rows of the table or, where there is no table yet, the standard shapes in the formats that the device
    executes."""
    if path.suffix != ".csv":
        raise ValueError(f"a table's path must end in .csv, but got {path}")
    chip = find_device(device)
    if path.is_file():
        return read_table(path)
    formats = ["float"] + ["w8a8"] * chip.executes(INTEGERS)
    shapes = standard_shapes(formats)
    return [MeasuredShape(shape) for shape in (*shapes, *_enlarged(chip, shapes))]


def _enlarged(chip: Device, shapes: Sequence[OperatorShape]) -> list[OperatorShape]:
    """Matrix products that the chip only launches as they are, in batches in which it computes: without them a fast
    chip's rates are not seen. And a few that take long, for a device that is many times as fast as the one it is like.
    """
    products = [one for one in shapes if one.kind in PRODUCTS]
    large = [_larger(one, lambda found: _launched(chip, found)) for one in products]
    widest = [one for one in products if one.channels_in == one.channels_out == WIDE and one.groups == 1]
    long = [_larger(one, lambda found: _milliseconds(chip, found) < LONG_MS) for one in widest]
    return [one for one in dict.fromkeys((*large, *long)) if one not in shapes]


def _larger(shape: OperatorShape, small: Callable[[OperatorShape], bool]) -> OperatorShape:
    """The shape in a batch in which it is no longer small, as far as its tensors allow."""
    while small(shape) and 4 * _elements(shape) <= MOST_ELEMENTS:
        shape = replace(shape, batch=shape.batch * 4)
    return shape


def _elements(shape: OperatorShape) -> int:
    """Of the larger one of its input and its output."""
    return shape.batch * shape.height * shape.width * max(shape.channels_in, shape.channels_out)


def _launched(chip: Device, shape: OperatorShape) -> bool:
    rows = len(chip.program(shape.graph()).operators)
    fixed = chip.rates.operator_s["float"] * 1e3 * rows + chip.rates.inference_s * 1e3
    return _milliseconds(chip, shape) - chip.rates.inference_s * 1e3 < COMPUTED * fixed


def _milliseconds(chip: Device, shape: OperatorShape) -> float:
    return float(chip.costs(shape.workload()).latency_ms[0])


def write_models(rows: Iterable[MeasuredShape], folder: Path, device: str | Path | Device) -> int:
    """An ONNX model for each shape, with its name and its batch, in the form that the device's runtime takes."""
    folder.mkdir(parents=True, exist_ok=True)
    chip = find_device(device)
    form = (chip.symmetric_inputs, chip.runtime.quantizes_tensors)
    shapes = list(dict.fromkeys(row.shape for row in rows))
    for shape in shapes:
        (folder / f"{shape.name}.onnx").write_bytes(fixed_batch(operator_model(shape, *form), shape.batch))
    return len(shapes)


def with_results(rows: Sequence[MeasuredShape], paths: Sequence[Path]) -> list[MeasuredShape]:
    """The rows with the latencies of profilers' outputs, which are named after shapes; of a folder all files are read.
    ValueError for a name of no row's shape."""
    found = named([file for path in paths for file in _files(path)])
    unknown = sorted(set(found) - {row.shape.name for row in rows})
    if unknown:
        raise ValueError(f"a result must be named after a shape of the table, but got {', '.join(unknown)}")
    return [
        replace(row, latency_ms=found[row.shape.name].latency_ms, fixed=found[row.shape.name].fixed)
        if row.shape.name in found
        else row
        for row in rows
    ]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in RESULTS)
    if not files:
        raise ValueError(f"a folder of results must hold {', '.join(RESULTS)} files, but {path} holds none")
    return files


def measured(rows: Sequence[MeasuredShape], threads: int = 1, report: Report | None = None) -> list[MeasuredShape]:
    """Rows without a latency are measured by onnxruntime on this processor."""
    missing = [row.shape for row in rows if row.latency_ms is None]
    found = {row.shape: row for row in measure(missing, threads, report)} if missing else {}
    return [found.get(row.shape, row) if row.latency_ms is None else row for row in rows]


def store_table(rows: Iterable[MeasuredShape], path: Path, device: str) -> Path:
    """The table names its device. A device file in the table's folder is named without a path, so that both can be
    moved."""
    file = Path(device)
    same_folder = file.suffix == ".toml" and file.resolve().parent == path.resolve().parent
    named_so = file.name if same_folder else str(file.resolve()) if file.suffix == ".toml" else device
    return write_text(path, table_text(rows, named_so))


def fit(
    rows: Sequence[MeasuredShape],
    device: str | Path | Device,
    table: Path,
    path: Path,
    networks: Sequence[MeasuredNetwork] = (),
) -> Device:
    """Fits the device to the rows, and to whole networks, and stores it; its file names the table."""
    if path.suffix != ".toml":
        raise ValueError(f"a device file's path must end in .toml, but got {path}")
    relative = os.path.relpath(table.resolve(), path.resolve().parent)
    about = {"name": path.stem, "aliases": [], "measured": {"table": relative}}
    found = calibrated(find_device(device), rows, about, networks)
    write_text(path, device_text(found.data))
    return find_device(path)
