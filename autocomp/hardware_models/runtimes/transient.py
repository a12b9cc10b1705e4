"""What onnxruntime holds for a moment, beside weights and tensors: copies of inputs in another form, floats made of
stored integers, and what its kernels gather. The constants are read from its source and held against its peaks.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.gemm import layer_of
from autocomp.hardware_models.lowered import Traced
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, INT8, UNPACKED
from autocomp.search_spaces import WEIGHTED, Node

from .blocks import BLOCKS, FEWEST_BLOCKED, blocking, leaves_blocks, pooled_in_blocks, written

STEPS = {"SiLU": 1, "Mish": 2, "GeluExt": 2, "HSwish": 2, "GeLU": 3}  # tensors beside an activation's; others: none
POINTER = 8  # bytes: an integer convolution holds one for each position of its kernel at each pixel of an image


def transient_bytes(traced: Traced, position: int) -> np.ndarray:
    """(n,) bytes while an operator runs, beside the tensors that are still to be read."""
    operator, inputs = traced.program.operators[position], traced.program.readers.keys() - traced.program.writer.keys()
    read = [node for node in inputs if traced.program.last_reader(node) < position]
    held = sum((traced.elements(node) * traced.width(node) for node in read), np.zeros(len(traced.workload)))
    node = traced.graph.nodes[operator.head]
    return held + np.maximum(_at_first(traced, operator, node), _behind(traced, operator, node))


def _at_first(traced: Traced, operator: Operator, node: Node) -> np.ndarray:
    """(n,) bytes while the first node of an operator runs."""
    if node.kind == "pool" and operator.reads:
        return _reordered(traced, operator, pooled_in_blocks(traced, operator))
    if node.kind not in WEIGHTED or not node.weight_shape:
        return np.zeros(len(traced.workload))
    layer, precision = layer_of(traced, operator.head), traced.precision(operator.head)
    floats = traced.device.bytes_per_element[FLOAT]
    pixels = layer.rows / traced.images(operator.head)
    pointers = POINTER * layer.kernel * pixels * (precision == INT8) * (node.kind == "conv" and layer.kernel > 1)
    gathers = (layer.kernel > 1) & (layer.channels_out / layer.groups > pixels)
    gathered = layer.channels_in * layer.kernel * pixels * gathers
    unpacked = (layer.weights + gathered) * floats * (precision == UNPACKED)
    return _copies(traced, operator) + pointers + unpacked


def _behind(traced: Traced, operator: Operator, node: Node) -> np.ndarray:
    """(n,) bytes while what is fused behind the first node runs: its output and what an activation makes of it on the
    way, when the input is gone."""
    blocked = (traced.precision(operator.head) == FLOAT) & (node.kind == "conv")
    adds = node.kind == "dense" and len(node.shape) > 2 and bool(node.attributes.get("bias"))
    most = np.full(len(traced.workload), int(adds))  # of matrices a bias is added by an operator of its own
    for fused in (traced.graph.nodes[i] for i in operator.nodes[1:]):
        if fused.kind == "activation":
            leaves = int(leaves_blocks(traced, operator))
            in_blocks = 0 if fused.op == "HSwish" else max(STEPS.get(fused.op, 0), leaves)
            most = np.maximum(most, np.where(blocked, in_blocks, STEPS.get(fused.op, 0)))
        elif fused.kind in ("add", "mul") and node.kind != "conv":  # a convolution takes an addition with it
            most = np.maximum(most, 1)
    size = traced.elements(operator.output) * traced.device.bytes_per_element[FLOAT]
    if node.kind == "activation":
        return size * max(STEPS.get(node.op, 0) - 1, 0)
    gone = 0.0 if not operator.reads or _stays(traced, operator) else traced.stored_bytes(operator.reads[0])
    return np.maximum(size * most - gone, 0.0)


def transient_knobs(traced: Traced, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs that decide it."""
    deciding = blocking(traced, operator.reads[0]) if operator.reads else set()
    return tuple(sorted({*traced.knobs(operator), *traced.workload.knobs_of(operator.reads, deciding)}))


def _copies(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes of a layer's input in another form."""
    source, node = operator.reads[0], traced.graph.nodes[operator.head]
    elements, floats = traced.elements(source), traced.device.bytes_per_element[FLOAT]
    output = traced.elements(operator.output) * traced.width(operator.output)
    precision, stays = traced.precision(operator.head), _stays(traced, operator)
    _, bits = traced.workload.bits_of(operator.head)
    in_integers = traced.width(source) < floats
    unpacked = precision == UNPACKED
    gone = np.minimum(elements, output) * unpacked  # integers, once there are floats of them and before the output
    rounded = np.where((bits <= 8) & ~in_integers, elements + elements * floats * stays * unpacked - gone, 0)
    copies = np.where(in_integers & unpacked, elements * floats - gone * (not stays), rounded)
    return np.maximum(copies, _reordered(traced, operator, (precision == FLOAT) & (node.kind == "conv")))


def _reordered(traced: Traced, operator: Operator, in_blocks: np.ndarray) -> np.ndarray:
    """(n,) bytes of the input in blocks, or out of them, less the room that the output does not take yet."""
    source = operator.reads[0]
    blocked = written(traced, source) == BLOCKS
    wide = traced.graph.nodes[source].shape[1:2] >= (FEWEST_BLOCKED,)
    size = traced.elements(source) * traced.device.bytes_per_element[FLOAT]
    output = traced.elements(operator.output) * traced.width(operator.output)
    again = size if _stays(traced, operator) else np.maximum(size - output, 0)
    return np.where(in_blocks, ~blocked & wide, blocked) * again


def _stays(traced: Traced, operator: Operator) -> bool:
    """Whether an operator's input outlives its copy: others will read it, or it is the network's, which is the
    caller's."""
    program, node = traced.program, operator.reads[0]
    return program.last_reader(node) > program.writer[operator.output] or node not in program.writer
