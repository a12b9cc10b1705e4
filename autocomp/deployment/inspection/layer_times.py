"""The time of each layer on this processor, as onnxruntime measures it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from autocomp.evaluators.engines import Arrays
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.search_spaces import NetworkGraph

RUNS, WARM = 20, 3
MULTIPLY = ("Conv", "Gemm", "MatMul")  # in the names of operators with weights
KERNEL = "_kernel_time"  # how the names of the events of kernels end


@dataclass(frozen=True)
class KernelTime:
    """One kernel, in the order of execution: the median of several runs. name: of the node that it was made from, with
    onnxruntime's additions where nodes were fused."""

    name: str
    op: str
    ms: float


def kernel_times(model: bytes, inputs: Arrays, threads: int = 1) -> list[KernelTime]:
    """model: serialized ONNX. inputs: of one inference."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "times")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {given.name: np.ascontiguousarray(x) for given, x in zip(session.get_inputs(), inputs, strict=True)}
        for _ in range(WARM + RUNS):
            session.run(None, feed)
        return _medians(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def _medians(events: Iterable[Mapping[str, Any]]) -> list[KernelTime]:
    kernels = [one for one in events if one.get("cat") == "Node" and str(one["name"]).endswith(KERNEL)]
    found: dict[tuple[str, str], list[float]] = {}
    for one in kernels:
        found.setdefault((one["name"], str(one["args"].get("node_index"))), []).append(one["dur"] / 1e3)
    ops = {(one["name"], str(one["args"].get("node_index"))): str(one["args"].get("op_name", "")) for one in kernels}
    return [KernelTime(key[0].removesuffix(KERNEL), ops[key], median(times[-RUNS:])) for key, times in found.items()]


def node_of(kernel: str, names: Sequence[str]) -> str | None:
    """The node whose name the kernel's begins with, the longest of several; None for a kernel that was inserted."""
    fitting = [name for name in names if kernel.startswith(name) and not kernel[len(name) :][:1].isalnum()]
    return max(fitting, key=len, default=None)


def times_by(
    kernels: Iterable[KernelTime], owner: Mapping[str, str], fused: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Owner -> milliseconds. owner: of each node by its name. A kernel that was inserted, such as a change of layout,
    counts with the next kernel that has an owner.

    fused: the owner of a kernel that multiplies and has the name of this node, which was fused into it.
    """
    found: dict[str, float] = {}
    waiting, last = 0.0, None
    names = list(owner)
    for kernel in kernels:
        node = node_of(kernel.name, names)
        if node is None:
            waiting += kernel.ms
            continue
        multiplies = fused is not None and any(word in kernel.op for word in MULTIPLY)
        last = fused.get(node, owner[node]) if fused is not None and multiplies else owner[node]
        found[last] = found.get(last, 0.0) + kernel.ms + waiting
        waiting = 0.0
    if last is not None:
        found[last] += waiting
    return found


def layer_times(
    graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, inputs: Arrays, threads: int = 1
) -> dict[str, float]:
    """Layer -> milliseconds of one inference of the deployed file. Operators without weights count with the layer that
    they read first; layers in the place of one count as that one."""
    own = compressed.graph or graph
    style = Style(integer_weights=True, fast_groups=True)
    model = onnx_network(graph, parameters, compressed, style).SerializeToString()
    return times_by(kernel_times(model, inputs, threads), owners(own))


def owners(graph: NetworkGraph) -> dict[str, str]:
    """Node's name -> the layer with which its time counts."""
    found: dict[str, str] = {}
    above: list[str | None] = []
    for node in graph.nodes:
        layer = node.attributes.replaces or node.layer if node.weight_shape is not None else None
        before = next((above[i] for i in node.inputs if i < len(above) and above[i] is not None), None)
        above.append(layer or before)
        if above[-1] is not None:
            found[node.name] = above[-1]
    return found
