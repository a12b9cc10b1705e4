"""Files for deployment: written, loaded again, compared with the network in memory, and only then moved to their
place."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.primitives.tracing.mindir import REFUSED, copy_network, first_line, of_tensors_alone
from autocomp.primitives.tracing.platform import (
    execution_mode,
    load_mindspore,
    plain_place,
    syntax_level,
    to_arrays,
    to_tensors,
)
from autocomp.process.bounded_files import plain_mode

from .mindir_file import compact
from .onnx_writer import REWRITES

Arrays = tuple[np.ndarray, ...]
FORMATS, WEIGHTS = (".mindir", ".onnx"), ".safetensors"

EXACT = 1e-4  # relative, without rounded activations
HALF_STEP = 2e-3  # where float16 is computed with
ROUNDED = 0.05  # with them: two roundings of one number may fall on different sides of a half, a step apart
MOVED, MARGIN = 1e-4, 2.0  # by which inputs are moved, in standard deviations; what the outputs may then differ, times


def export_format(path: str | os.PathLike[str]) -> str:
    """The path's suffix; ValueError for an unknown one."""
    ending = pathlib.Path(path).suffix.lower()
    if ending not in (*FORMATS, WEIGHTS):
        known = f"{', '.join(FORMATS)} or {WEIGHTS}"
        raise ValueError(f"an export's path must end in {known}, but got {os.fspath(path)!r}")
    return ending


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """A path to write to, in the same folder; it is moved to ``path`` when the body succeeds, otherwise removed."""
    target = pathlib.Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".autocomp-") as folder:
            draft = pathlib.Path(folder) / f"draft{target.suffix}"
            yield draft
            os.chmod(draft, plain_mode())
            os.replace(draft, target)
    except OSError as error:
        raise type(error)(error.errno, f"{target} cannot be written: {error.strerror}") from error


def export_mindir(net: Any, inputs: Arrays, path: pathlib.Path) -> None:
    """Writes ``net`` in evaluation mode, for inputs of these shapes; None among its outputs is left out."""
    twin = copy_network(net).set_train(False)
    with plain_place() as place, execution_mode(graph=True), syntax_level():
        try:
            _write_mindir(twin, inputs, place)
        except Exception as error:  # MindSpore's compiler lets errors of every kind through
            raise ExportError(f"MindSpore cannot export this network to MindIR: {first_line(error)}") from error
        path.write_bytes(compact(place.read_bytes()))


def _write_mindir(net: Any, inputs: Arrays, place: pathlib.Path) -> None:
    write = partial(load_mindspore().export, file_name=str(place), file_format="MINDIR")
    try:
        write(net, *to_tensors(inputs))
    except Exception as error:
        if REFUSED not in str(error):
            raise
        write(of_tensors_alone(net), *to_tensors(inputs))


def run_mindir(path: pathlib.Path, inputs: Arrays) -> Arrays:
    ms = load_mindspore()
    with plain_place() as place, execution_mode(graph=True):
        shutil.copyfile(path, place)
        return to_arrays(ms.nn.GraphCell(ms.load(str(place)))(*to_tensors(inputs)))


def run_onnx(model: pathlib.Path | bytes, inputs: Arrays) -> Arrays:
    """model: a file, or its bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    as_it_is = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": REWRITES}
    session = onnxruntime.InferenceSession(model if isinstance(model, bytes) else str(model), options, **as_it_is)
    feed = {spec.name: array for spec, array in zip(session.get_inputs(), inputs, strict=True)}
    return tuple(session.run(None, feed))


def compare(run: Callable[[pathlib.Path, Arrays], Arrays], path: pathlib.Path, inputs: Arrays, expected: Arrays,
            tolerance: float, again: Callable[[Arrays], Arrays] | None = None) -> float:  # fmt: skip
    """The error of the file's outputs, relative in the 2-norm; ExportError where it is above the tolerance.

    again: runs the network in memory where layers round their inputs. A deep network carries one rounding on the other
        side of a half to all that follow: its outputs may differ as far as they do when its inputs move a little.
    """
    try:
        found = run(path, inputs)
    except Exception as error:  # any error of the runtime for a file that it cannot load
        raise ExportError(f"the exported {path.suffix} file cannot be loaded again: {first_line(error)}") from error
    if len(found) != len(expected):
        raise ExportError(f"the exported file gives {len(found)} outputs, but the network {len(expected)}")
    errors = [norm_error(a, b) for a, b in zip(found, expected, strict=True)]
    worst = float(np.max(errors, initial=0.0))  # NaN is the largest
    tolerance = max(tolerance, *(_resolution(array, tolerance) for array in expected))
    if again is not None and tolerance < worst < 1:
        tolerance = max(tolerance, MARGIN * _moves(again, inputs, expected))
    if not worst <= tolerance:
        where = f" as its output {int(np.argmax(errors))}" if len(errors) > 1 else ""
        raise ExportError(
            f"the exported {path.suffix} file computes something else than the network in memory{where}: "
            f"relative error {worst:.2g}, but at most {tolerance:.2g} is right"
        )
    return worst


def _moves(run: Callable[[Arrays], Arrays], inputs: Arrays, expected: Arrays) -> float:
    """How far the outputs move, relative, when float inputs move by ``MOVED``."""
    rng = np.random.default_rng(0)
    moved = tuple(
        (x + MOVED * x.std() * rng.standard_normal(x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x
        for x in inputs
    )
    return max(norm_error(a, b) for a, b in zip(run(moved), expected, strict=True))


def _resolution(array: np.ndarray, tolerance: float) -> float:
    """The error that two right results of this type may have: a step of float16; of classes and masks those that lie
    on the border of two."""
    if array.dtype == np.float16:
        return HALF_STEP
    return 0.0 if array.dtype.kind == "f" else max(0.01, 2 * tolerance)


def norm_error(found: np.ndarray, expected: np.ndarray) -> float:
    """|found - expected| / |expected| in the 2-norm; of integers the share that differs."""
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind != "f":
        return float(np.mean(found != expected)) if expected.size else 0.0
    found, expected = found.astype(np.float32, copy=False), expected.astype(np.float32, copy=False)
    return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-12))
