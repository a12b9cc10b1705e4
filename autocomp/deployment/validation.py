"""Holds a file for an Ascend to the rules that its tools document."""

from __future__ import annotations

import os
from pathlib import Path

import onnx

from autocomp.primitives.export.ascend.checking import AscendReport, checked_model
from autocomp.problem.arguments import check


def validate_ascend(path: str | os.PathLike[str]) -> AscendReport:
    """Check an ONNX file for an Ascend against the documented rules: that for atc, with AscendQuant and AscendDequant,
    or that for ``amct_onnx.convert_qat_model``, with QuantizeLinear and DequantizeLinear.

    >>> report = autocomp.validate_ascend("net.onnx")
    >>> report.valid, report.form, len(report.layers)
    (True, 'deployable', 8)
    >>> print(report)                            # every rule with its source, and what was not checked

    No Ascend is needed, and none is asked: atc may refuse what the rules allow.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is no ONNX file.
    """
    check("validate_ascend", path=path)
    file = Path(path)
    if file.suffix.lower() != ".onnx":
        raise ValueError(f"a file for an Ascend must end in .onnx, but got {os.fspath(path)!r}")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        model = onnx.load_from_string(file.read_bytes())
    except Exception as error:  # protobuf has errors of its own
        raise ValueError(f"{file} must be an ONNX file, but it cannot be read: {error}") from error
    if not model.graph.node:
        raise ValueError(f"{file} must be an ONNX file, but it holds no operators")
    return checked_model(model, file)
