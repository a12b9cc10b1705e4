"""MindIR files for MindSpore on an Ascend: dense layers in its operators in integers, the rest as everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.ascend import MINDSPORE
from autocomp.primitives.cells.integer_dense import with_integer_dense
from autocomp.primitives.export.files import compare, export_mindir, written_whole
from autocomp.primitives.tracing.platform import forward, load_mindspore, plain_place
from autocomp.results.point import DEPLOYABLE, ExportReport

Arrays = tuple[np.ndarray, ...]


def takes_integers(device: Device | None, ending: str, form: str | None) -> bool:
    """Whether a file of this ending is written for MindSpore's kernels in integers."""
    return device is not None and device.runtime is MINDSPORE and ending == ".mindir" and form is None


def write_integers(
    net: Any,
    inputs: Arrays,
    path: str | os.PathLike[str],
    evaluated: Callable[[Arrays], Arrays],
    tolerance: float,
    weight_only: tuple[int, ...] = (),
) -> ExportReport | None:
    """Write the file; None where no layer is in integers.

    A CPU has no kernel of these operators: the same numbers are compared in operators that it has, and the file is
    loaded and its operators are counted.

    evaluated: the network in memory. weight_only: bits of weights for which the chip has a kernel that takes inputs in
        floats.
    """
    twin, count = with_integer_dense(net, weight_only=weight_only)
    if not count:
        return None
    simulated, _ = with_integer_dense(net, simulated=True, weight_only=weight_only)
    with written_whole(path) as draft:
        export_mindir(twin, inputs, draft)
        _check_loads(draft, count)
        error = compare(
            lambda _, arrays: forward(simulated, arrays), draft, inputs, evaluated(inputs), tolerance, evaluated
        )
        size = draft.stat().st_size
    return ExportReport(Path(path), "mindir", size / 1e6, error, form=DEPLOYABLE)


def integer_operators(path: Path) -> int:
    """How many dense layers of a MindIR file are in integers."""
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    kinds = {f"REF::{primitive.name}": primitive.op_type for primitive in model.primitives}
    return sum("QuantBatchMatmul" in kinds.get(node.op_type, node.op_type) for node in model.graph.node)


def _check_loads(draft: Path, count: int) -> None:
    ms = load_mindspore()
    with plain_place() as place:
        place.write_bytes(draft.read_bytes())
        ms.load(str(place))
    found = integer_operators(draft)
    if found != count:
        raise ExportError(f"{count} dense layers are in integers, but the exported .mindir file has {found}")
