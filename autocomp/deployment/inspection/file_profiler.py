"""Measures any ONNX file node by node on this processor: time, memory, and what its tensors hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from autocomp.deployment.file_forms import runnable
from autocomp.errors import ExportError
from autocomp.evaluators.engines import Arrays
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.tracer import example_inputs
from autocomp.problem.data import Data, as_truths
from autocomp.process.bounded_files import check_file
from autocomp.results.network_profile import LayerProfile, NetworkProfile
from autocomp.search_spaces import Plan

from .layer_times import MULTIPLY, kernel_times, times_by
from .tensor_statistics import statistics

MOST_BYTES = 2_000_000_000  # of a file, which protobuf can hold
MOST_ELEMENTS = 1e8  # of tensors that are held
HERE = "this processor (onnxruntime)"
SIZES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
         "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8,
         "tensor(int8)": np.int8}  # fmt: skip


def profile_file(path: str | os.PathLike[str], data: Any, inputs: Any, samples: int, seed: int = 0) -> NetworkProfile:
    """Each node of the file, in the order of execution.

    data, inputs: as of :func:`autocomp.profile`; without either, noise in the shape that the file says.

    ValueError: it is no ONNX file that onnxruntime runs, or does not take these inputs.
    """
    model = _read(Path(path))
    one, many = _inputs(model, Path(path), data, inputs, samples, seed)
    _name_nodes(model)
    tensors = _tensors(model, Path(path), one)
    most = max(1, int(MOST_ELEMENTS / max(1, sum(array.size for array in tensors.values()) / len(one[0]))))
    count = len(one[0]) if _fixed_batch(_session(model, Path(path)).get_inputs()) else len(many[0][:most])
    seen = tensors if count == len(one[0]) else _tensors(model, Path(path), tuple(array[:count] for array in many))
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    owner = {node.name: node.name for node in nodes}
    times = times_by(kernel_times(model.SerializeToString(), one), owner, _fused(nodes))
    memory, total = _memory(model, tensors, one), sum(times.values()) or 1.0
    found = [
        LayerProfile(
            node.name,
            node.op_type,
            _format(model, node),
            **statistics(seen.get(node.output[0])),
            memory_mb=memory[node.name],
            measured_ms=times.get(node.name),
            share=times.get(node.name, 0.0) / total,
        )
        for node in nodes
    ]
    return NetworkProfile(Plan(), HERE, tuple(found), count)


def _fused(nodes: Sequence[Any]) -> dict[str, str]:
    """Node -> the node with weights before it, into which it may be fused."""
    writer: dict[str, Any] = {name: node for node in nodes for name in node.output}
    found: dict[str, str] = {}
    for node in nodes:
        before = [writer[name].name for name in node.input if name in writer]
        own = any(word in node.op_type for word in MULTIPLY)
        above = node.name if own else next((found[name] for name in reversed(before) if name in found), None)
        if above is not None:
            found[node.name] = above
    return found


def _read(path: Path) -> Any:
    """What onnxruntime runs of the file: of one for an Ascend the same integers in standard operators."""
    check_file(path, MOST_BYTES)
    try:
        source = runnable(path)
        model = onnx.load(path) if isinstance(source, str) else onnx.load_from_string(source)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's own
        raise ValueError(f"{path} must be a whole ONNX file, but it cannot be read: {first_line(error)}") from error
    return model


def _name_nodes(model: Any) -> None:
    """Each node gets a name of its own, by which times are told apart."""
    counts = Counter(node.name for node in model.graph.node)
    for i, node in enumerate(model.graph.node):
        if not node.name or counts[node.name] > 1:
            node.name = f"{node.op_type}.{i}"


def _inputs(model: Any, path: Path, data: Any, inputs: Any, samples: int, seed: int) -> tuple[Arrays, Arrays]:
    """Of one inference, and those on which tensors are read."""
    session = _session(model, path)
    given = Data.coerce(data).evaluation
    if given is not None:
        arrays = as_truths(tuple(x[:samples] for x in given.x))
    elif inputs is not None:
        arrays = example_inputs(inputs)
    else:
        rng = np.random.default_rng(seed)
        arrays = tuple(rng.standard_normal([_size(d) for d in one.shape]) for one in session.get_inputs())
    wanted = session.get_inputs()
    if len(wanted) != len(arrays):
        raise ValueError(f"{path} takes {len(wanted)} inputs, but got {len(arrays)}")
    typed = tuple(np.asarray(x).astype(SIZES.get(w.type, np.float32)) for x, w in zip(arrays, wanted, strict=True))
    fixed = _fixed_batch(wanted)
    if given is None and inputs is not None:
        return typed, typed
    batch = fixed or 1
    return tuple(x[:batch] for x in typed), typed if fixed is None else tuple(x[:batch] for x in typed)


def _fixed_batch(inputs: Sequence[Any]) -> int | None:
    """The first axis of a file's inputs, where it has one size alone."""
    return next((one.shape[0] for one in inputs if one.shape and isinstance(one.shape[0], int)), None)


def _size(dimension: Any) -> int:
    return dimension if isinstance(dimension, int) and dimension > 0 else 1


def _session(model: Any, path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors are not RuntimeErrors
        raise ValueError(f"onnxruntime must be able to run {path}, but it cannot: {first_line(error)}") from error


def _taken(session: Any) -> list[tuple[Any, ...]]:
    """The shapes of the file's inputs; free sizes bear names."""
    return [tuple(given.shape) for given in session.get_inputs()]


def _tensors(model: Any, path: Path, inputs: Arrays) -> Mapping[str, np.ndarray]:
    """Name -> the tensor, of every output of every node."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    known = {value.name for value in tapped.graph.output}
    names = [name for node in tapped.graph.node for name in node.output if name and name not in known]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _session(tapped, path)
    feed = {given.name: np.ascontiguousarray(x) for given, x in zip(session.get_inputs(), inputs, strict=True)}
    try:
        found = session.run(None, feed)
    except Exception as error:  # onnxruntime's errors are not RuntimeErrors
        shapes, taken = (" and ".join(map(str, some)) for some in ([x.shape for x in inputs], _taken(session)))
        raise ExportError(
            f"{path} does not take inputs of shape {shapes}, but of {taken}: {first_line(error)}"
        ) from error
    return {
        out.name: array
        for out, array in zip(session.get_outputs(), found, strict=True)
        if isinstance(array, np.ndarray)
    }


def _memory(model: Any, tensors: Mapping[str, np.ndarray], inputs: Arrays) -> dict[str, float]:
    """Node -> MB while it runs, as the file says: weights, and the tensors that are still read."""
    graph, last = model.graph, {}
    for i, node in enumerate(graph.node):
        last.update(dict.fromkeys(node.input, i))
    last.update({value.name: len(graph.node) for value in graph.output})
    weights = sum(onnx.numpy_helper.to_array(one).nbytes for one in graph.initializer)
    live = {value.name: x.nbytes for value, x in zip(_fed(graph), inputs, strict=True)}
    found = {}
    for i, node in enumerate(graph.node):
        live.update({name: tensors[name].nbytes for name in node.output if name in tensors})
        found[node.name] = (weights + sum(live.values())) / 1e6
        live = {name: size for name, size in live.items() if last.get(name, -1) > i}
    return found


def _fed(graph: Any) -> list[Any]:
    stored = {one.name for one in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _format(model: Any, node: Any) -> str:
    """The type of the node's weights, empty where it has none."""
    stored = {one.name: one.data_type for one in model.graph.initializer if len(one.dims) > 1}
    types = [onnx.TensorProto.DataType.Name(stored[name]).lower() for name in node.input if name in stored]
    return types[0] if types else ""
