"""Operator shapes as ONNX models, in the form of exported files."""

from __future__ import annotations

import numpy as np
import onnx

from autocomp.hardware_models.measurements.shapes import OperatorShape
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.search_spaces import WEIGHTED, NetworkGraph, Workload

SCALE = 0.05  # of rounded activations; outputs of a ReLU have no negative levels


def operator_model(shape: OperatorShape, symmetric: bool = False, quantizes_tensors: bool = True) -> bytes:
    """A serialized ONNX model with random weights; the batch is free, as in exported files.

    symmetric: inputs are rounded symmetrically around zero. quantizes_tensors: tensors between layers are rounded, too.
    """
    ranges = _ranges(shape, symmetric)
    tensors = _tensors(shape, ranges) if quantizes_tensors else {}
    fast_groups = quantizes_tensors and not symmetric  # the files that onnxruntime runs
    return workload_model(shape.workload(), _parameters(shape.graph()), ranges, tensors, fast_groups)


def fixed_batch(model: bytes, batch: int) -> bytes:
    """The same model for one batch only: a device's compiler reads a free batch as 1."""
    found = onnx.load_from_string(model)
    for value in (*found.graph.input, *found.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    data: bytes = found.SerializeToString()
    return data


def workload_model(
    workload: Workload,
    parameters: dict[str, np.ndarray],
    ranges: dict[tuple[str, int], ActivationQuantizer],
    tensors: dict[int, ActivationQuantizer],
    fast_groups: bool = True,
) -> bytes:
    """The serialized ONNX model of a workload of one plan, with that plan's formats and pruned channels.

    tensors: node -> quantizer of its output, where layers in integers write or read it. fast_groups: see ``Style``.
    """
    compressor = PlanCompressor(workload.space, parameters, ranges, tensors=tensors)
    plan = workload.space.decode(workload.vectors[0])
    model = onnx_network(
        workload.graph, parameters, compressor(plan), Style(integer_weights=True, fast_groups=fast_groups)
    )
    data: bytes = model.SerializeToString()
    return data


def operator_inputs(shape: OperatorShape) -> list[np.ndarray]:
    """The model's inputs in its order, float32."""
    rng = np.random.default_rng(0)
    inputs = [node for node in shape.graph().nodes if node.kind == "input"]
    return [rng.standard_normal((shape.batch, *node.shape[1:]), np.float32) for node in inputs]


def _parameters(graph: NetworkGraph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        if node.kind in WEIGHTED and node.weight_shape is not None:
            found[node.weight] = 0.05 * rng.standard_normal(node.weight_shape, np.float32)
            assert node.bias is not None
            found[node.bias] = np.zeros(node.weight_shape[0], np.float32)
        for name in node.parameters:
            found[name] = np.ones(node.shape[-1], np.float32)
    return found


def _tensors(
    shape: OperatorShape, ranges: dict[tuple[str, int], ActivationQuantizer]
) -> dict[int, ActivationQuantizer]:
    """What layers read has their range."""
    graph = shape.graph()
    zero = max((quantizer.zero_point for quantizer in ranges.values()), default=0)
    found = {i: ActivationQuantizer(SCALE, zero, 8) for i in range(len(graph.nodes))}
    return found | {node.inputs[0]: ranges[node.layer, 8] for node in graph.nodes if node.layer is not None}


def _ranges(shape: OperatorShape, symmetric: bool) -> dict[tuple[str, int], ActivationQuantizer]:
    found = {}
    for node in shape.graph().nodes:
        if node.layer is not None:
            zero = 128 if symmetric or node.inputs == (0,) else 0
            found[node.layer, 8] = ActivationQuantizer(SCALE, zero, 8)
    return found
