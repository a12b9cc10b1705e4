"""What onnxruntime holds for a moment, beside weights and tensors: copies of inputs in another form, floats made of
stored integers, and what its kernels gather. The constants are read from its source and held against its peaks.
"""

from __future__ import annotations

import numpy as np

from autocomp.search_spaces import WEIGHTED

from .blocks import BLOCKS, FEWEST_BLOCKED, blocking, pooled_in_blocks, written
from .layers import layer_of
from .operators import Operator
from .rates import FLOAT, INT8, UNPACKED
from .traced import Traced

POINTER = 8  # bytes: an integer convolution holds one for each position of its kernel at each pixel of an image


def transient_bytes(traced: Traced, position: int) -> np.ndarray:
    """(n,) bytes while an operator runs, beside the tensors that are still to be read."""
    operator, inputs = traced.program.operators[position], traced.program.readers.keys() - traced.program.writer.keys()
    read = [node for node in inputs if traced.program.last_reader(node) < position]
    held = sum((traced.elements(node) * traced.width(node) for node in read), np.zeros(len(traced.workload)))
    node = traced.graph.nodes[operator.head]
    if node.kind == "pool" and operator.reads:
        return held + _reordered(traced, operator, pooled_in_blocks(traced, operator))
    if node.kind not in WEIGHTED or not node.weight_shape:
        return held
    layer, precision = layer_of(traced, operator.head), traced.precision(operator.head)
    floats = traced.device.bytes_per_element[FLOAT]
    pixels = layer.rows / traced.images(operator.head)
    pointers = POINTER * layer.kernel * pixels * (precision == INT8) * (node.kind == "conv" and layer.kernel > 1)
    gathers = (layer.kernel > 1) & (layer.channels_out / layer.groups > pixels)
    gathered = layer.channels_in * layer.kernel * pixels * gathers
    unpacked = (layer.weights + gathered) * floats * (precision == UNPACKED)
    return held + _copies(traced, operator) + pointers + unpacked


def transient_knobs(traced: Traced, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs that decide it."""
    deciding = blocking(traced, operator.reads[0]) if operator.reads else set()
    return tuple(sorted({*traced.knobs(operator), *traced.workload.knobs_of(operator.reads, deciding)}))


def _copies(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes of a layer's input in another form."""
    source, node = operator.reads[0], traced.graph.nodes[operator.head]
    elements, floats = traced.elements(source), traced.device.bytes_per_element[FLOAT]
    output = traced.elements(operator.output) * traced.width(operator.output)
    precision, stays = traced.precision(operator.head), _stays(traced, source)
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
    again = size if _stays(traced, source) else np.maximum(size - output, 0)
    return np.where(in_blocks, ~blocked & wide, blocked) * again


def _stays(traced: Traced, node: int) -> bool:
    """Whether a tensor outlives its copy: others read it, or it is the network's input, which is the caller's."""
    return len(traced.program.readers[node]) > 1 or node not in traced.program.writer
