"""Runs a file that was exported, on the runtime that its form is for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.errors import ExportError
from autocomp.primitives.export.files import FORMATS
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import execution_mode, load_mindspore, plain_place, to_arrays, to_tensors
from autocomp.problem.arguments import check

from .file_forms import runnable
from .generation import generate

Arrays = tuple[np.ndarray, ...]
NUMPY = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64", "tensor(bool)": "bool"}
ELSEWHERE = {  # files that it does not run: why, and what does
    ".safetensors": "holds weights alone: autocomp.rebuild(net, path) makes the network of them",
    ".ms": "is read by MindSpore Lite, which is no part of this environment: mindspore_lite.Model runs it",
    ".om": "is read by an Ascend device, through ACL: it runs nowhere else",
}


@dataclass(frozen=True)
class DeployedInput:
    """An input of a deployed network. shape: None for an axis of any size. dtype: NumPy's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class DeployedNetwork:
    """A loaded file. inputs: what it takes, in order."""

    path: Path
    inputs: tuple[DeployedInput, ...]
    _run: Callable[[Arrays], Arrays] = field(repr=False)

    def run(self, *inputs: Any) -> Arrays:
        """The outputs, an array each.

        inputs: an array for each input, in the file's order; numbers are converted to the type that the file takes.

        ValueError: another number of inputs, or a shape that the file does not take.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(f"{self.path} takes {len(self.inputs)} inputs, but got {len(inputs)}")
        arrays = tuple(_checked(array, expected) for array, expected in zip(inputs, self.inputs, strict=True))
        return self._run(arrays)

    def generate(self, tokens: Any, count: int, prefill: DeployedNetwork | None = None) -> np.ndarray:
        """A language model's next tokens, (n, count), each the most likely one after all before it.

        >>> step = autocomp.load_deployed("step.onnx")
        >>> step.generate(prompt, 32)                           # prompt: (n, length) integers

        The file has one of two forms. Without a cache it takes tokens (n, length) and gives logits (n, length, words):
        all tokens run again for each new one. With a cache it takes tokens (n, s), their position (n, 1), which counts
        the tokens before them, and the parts of the cache, (n, ..., context, ...) each, zeros at first; it gives the
        logits (n, s, words) and for each part what the tokens add, (n, ..., s, ...), or the whole part. Places of the
        cache from the position on hold anything and must not count.

        Args:
            tokens: (n, length) integers, as many in each row.
            count: how many more.
            prefill: the same network for more tokens in a run, with the same cache: it runs the given tokens.

        Raises:
            ValueError: the file has another form, or no room for so many tokens.
        """
        return generate(self, tokens, count, prefill)


def load_deployed(path: str | os.PathLike[str], threads: int = 1) -> DeployedNetwork:
    """An exported file, ready to run: ``.onnx`` by onnxruntime, ``.mindir`` by MindSpore. A file for an Ascend is
    evaluated in the same integers by onnxruntime.

    >>> network = autocomp.load_deployed("net.onnx")
    >>> (scores,) = network.run(images)                     # (n, 3, 224, 224) float32

    Args:
        path: as it was given to ``point.export``.
        threads: of onnxruntime.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is neither. ExportError: it cannot be loaded.
    """
    check("load_deployed", path=path, threads=threads)
    file = Path(path)
    if file.suffix.lower() in ELSEWHERE:
        raise ValueError(f"{os.fspath(path)} {ELSEWHERE[file.suffix.lower()]}")
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"a deployed file's path must end in {' or '.join(FORMATS)}, but got {os.fspath(path)!r}")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        return _onnx(file, threads) if file.suffix.lower() == ".onnx" else _mindir(file)
    except Exception as error:  # runtimes let errors of every kind through
        raise ExportError(f"{file} cannot be loaded: {first_line(error)}") from error


def _onnx(file: Path, threads: int) -> DeployedNetwork:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(runnable(file), options, providers=["CPUExecutionProvider"])
    inputs = tuple(
        DeployedInput(
            spec.name,
            tuple(size if isinstance(size, int) else None for size in spec.shape),
            NUMPY.get(spec.type, spec.type.removeprefix("tensor(").removesuffix(")")),
        )
        for spec in session.get_inputs()
    )

    def run(arrays: Arrays) -> Arrays:
        return tuple(session.run(None, {one.name: array for one, array in zip(inputs, arrays, strict=True)}))

    return DeployedNetwork(file, inputs, run)


def _mindir(file: Path) -> DeployedNetwork:
    ms = load_mindspore()
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    kinds = mind_ir_pb2.TensorProto.DataType
    inputs = tuple(
        DeployedInput(spec.name, tuple(spec.tensor[0].dims), _numpy_name(kinds.Name(spec.tensor[0].data_type)))
        for spec in model.graph.input
    )
    with plain_place() as place:
        shutil.copyfile(file, place)
        cell = ms.nn.GraphCell(ms.load(str(place)))

    def run(arrays: Arrays) -> Arrays:
        with execution_mode(graph=True):
            return to_arrays(cell(*to_tensors(arrays)))

    return DeployedNetwork(file, inputs, run)


def _numpy_name(kind: str) -> str:
    """MindIR's ``FLOAT`` as ``float32``; its other names are NumPy's in capitals."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(kind, kind.lower())


def _checked(array: Any, expected: DeployedInput) -> np.ndarray:
    found = np.asarray(array.asnumpy() if hasattr(array, "asnumpy") else array)
    fits = len(found.shape) == len(expected.shape) and all(
        size is None or size == given for size, given in zip(expected.shape, found.shape, strict=True)
    )
    if found.dtype.kind not in "fiub" or not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected.shape)
        raise ValueError(
            f"input {expected.name} must be an array of numbers of shape ({wanted}), but got {found.dtype.name} "
            f"{found.shape}"
        )
    return np.ascontiguousarray(found.astype(expected.dtype, copy=False))
