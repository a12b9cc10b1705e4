"""Memory that onnxruntime needs while an operator runs, in addition to weights and tensors.

It is for copies of inputs in another form, and for pointers to the inputs that its kernels gather.
The constants are read from its source and compared with its measured peaks.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.gemm import gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, INT8
from autocomp.search_spaces import WEIGHTED, Node, once

from .blocks import BLOCKS, FEWEST_BLOCKED, blocking, leaves_blocks, pooled_in_blocks, written
from .groups import convolutions, repeated

STEPS = {"SiLU": 1, "Mish": 2, "GeluExt": 2, "HSwish": 2, "GeLU": 3}  # extra tensors of an activation; others: none
FLOAT_BYTES = 4
POINTER = 8  # bytes: an integer convolution holds one for each position of its kernel at each pixel of an image


def transient_bytes(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n,) bytes while an operator runs, in addition to the tensors that are still to be read."""
    operator, inputs = (
        lowered.program.operators[position],
        lowered.program.readers.keys() - lowered.program.writer.keys(),
    )
    read = [node for node in inputs if lowered.program.last_reader(node) < position]
    held = sum((lowered.elements(node) * lowered.width(node) for node in read), np.zeros(len(lowered.workload)))
    node = lowered.graph.nodes[operator.head]
    return held + np.maximum(_at_first(lowered, operator, node), _behind(lowered, operator, node))


def _at_first(lowered: LoweredNetwork, operator: Operator, node: Node) -> np.ndarray:
    """(n,) bytes while the first node of an operator runs."""
    if node.kind == "pool" and operator.reads:
        return _reordered(lowered, operator, pooled_in_blocks(lowered, operator))
    if node.kind not in WEIGHTED or not node.weight_shape:
        return np.zeros(len(lowered.workload))
    layer, precision = gemm_of(lowered, operator.head), lowered.precision(operator.head)
    pixels = layer.rows / lowered.images(operator.head)
    pointers = POINTER * layer.kernel * pixels * (precision == INT8) * (node.kind == "conv" and layer.kernel > 1)
    if node.repeats_channels:
        again = repeated(lowered, operator) * np.where(precision == INT8, 1, FLOAT_BYTES)
        copies = _copies(lowered, operator)
        return np.where(precision == INT8, again + np.maximum(copies, pointers), np.maximum(copies, again))
    # Of several convolutions side by side one runs at a time: the outputs of those behind it are not there yet.
    behind = lowered.elements(operator.output) * (1 - 1 / convolutions(lowered, operator.head))
    return _copies(lowered, operator) + np.maximum(pointers - behind, 0)


def _behind(lowered: LoweredNetwork, operator: Operator, node: Node) -> np.ndarray:
    """(n,) bytes while the fused nodes after the first one run: its output and the tensors of an activation, without
    the input."""
    blocked = (lowered.precision(operator.head) == FLOAT) & (node.kind == "conv")
    adds = node.kind == "dense" and len(node.shape) > 2 and bool(node.bias)
    most = np.full(len(lowered.workload), int(adds))  # for matrices a separate operator adds the bias
    for fused in (lowered.graph.nodes[i] for i in operator.nodes[1:]):
        if fused.kind == "activation":
            leaves = int(leaves_blocks(lowered, operator))
            in_blocks = 0 if fused.op == "HSwish" else max(STEPS.get(fused.op, 0), leaves)
            most = np.maximum(most, np.where(blocked, in_blocks, STEPS.get(fused.op, 0)))
        elif fused.kind in ("add", "mul") and node.kind != "conv":  # a convolution includes the addition
            most = np.maximum(most, 1)
    size = lowered.elements(operator.output) * lowered.width(operator.output)
    if node.kind == "activation":
        return size * max(STEPS.get(node.op, 0) - 1, 0)
    gone = 0.0 if not operator.reads or _stays(lowered, operator) else lowered.stored_bytes(operator.reads[0])
    return np.maximum(size * most - gone, 0.0)


def transient_knobs(lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs on which the transient bytes depend."""
    deciding = blocking(lowered, operator.reads[0]) if operator.reads else set()
    inputs = [node for node in lowered.program.readers if node not in lowered.program.writer]
    deciding = deciding.union(*(lowered.deciding(node) for node in inputs))
    return once({*lowered.knobs(operator), *lowered.workload.knobs_of(operator.reads, (), deciding)})


def _copies(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bytes of a layer's input in another form."""
    source, node = operator.reads[0], lowered.graph.nodes[operator.head]
    in_integers = lowered.precision(operator.head) == INT8
    floats = lowered.width(source) == lowered.device.bytes_per_element[FLOAT]
    divided = lowered.workload.divided_of(operator.head) * float(lowered.device.bytes_per_element[FLOAT])
    copies = lowered.elements(source) * ((in_integers & floats) + divided)
    return np.maximum(copies, _reordered(lowered, operator, ~in_integers & (node.kind == "conv")))


def _reordered(lowered: LoweredNetwork, operator: Operator, in_blocks: np.ndarray) -> np.ndarray:
    """(n,) bytes of the copy of the input in another layout, minus the memory of the output, which is not used yet."""
    source = operator.reads[0]
    blocked = written(lowered, source) == BLOCKS
    wide = lowered.graph.nodes[source].shape[1:2] >= (FEWEST_BLOCKED,)
    size = lowered.elements(source) * lowered.device.bytes_per_element[FLOAT]
    output = lowered.elements(operator.output) * lowered.width(operator.output)
    again = size if _stays(lowered, operator) else np.maximum(size - output, 0)
    return np.where(in_blocks, ~blocked & wide, blocked) * again


def _stays(lowered: LoweredNetwork, operator: Operator) -> bool:
    """Whether an operator's input is needed after its copy: others will read it, or it is the network's, which the
    caller owns."""
    program, node = lowered.program, operator.reads[0]
    return program.last_reader(node) > program.writer[operator.output] or node not in program.writer
