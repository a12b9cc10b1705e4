"""Which layers onnxruntime runs in integers: a convolution whose readers all round its output, and no other layer."""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import MAX_POOLS, Operator
from autocomp.hardware_models.rates import FLOAT, INT8, PRECISIONS, UNPACKED
from autocomp.search_spaces import WEIGHTED

KEEPS_INTEGERS = ("ReLU", "ReLU6")  # activations that rounding to unsigned integers includes


def precision(lowered: LoweredNetwork, layer: int) -> np.ndarray:
    """(n,) index into PRECISIONS: integers where only integer layers read the output and weights have 8 bits."""
    asked = lowered.asked(layer)
    weight, _ = lowered.workload.bits_of(layer)
    integers = (asked > FLOAT) & (weight > 4) & _read_in_integers(lowered, layer)
    integers &= lowered.graph.nodes[layer].kind == "conv"
    unpacked = UNPACKED if PRECISIONS[UNPACKED] in lowered.device.rates.macs_per_s else FLOAT
    return np.where(integers, asked, np.where(weight <= 8, unpacked, FLOAT))


def _read_in_integers(lowered: LoweredNetwork, layer: int) -> np.ndarray:
    """(n,) bool: whether all readers of the layer's operator need integers."""
    operator = operator_of(lowered, layer)
    heads = lowered.program.integer_readers.get(operator.output)
    fused = [lowered.graph.nodes[i] for i in operator.nodes[1:]]
    if not heads or any(node.kind != "batchnorm" and node.op not in KEEPS_INTEGERS for node in fused):
        return np.zeros(len(lowered.workload), bool)
    return np.logical_and.reduce([lowered.asked(head) > FLOAT for head in heads])


def operator_of(lowered: LoweredNetwork, head: int) -> Operator:
    return next(operator for operator in lowered.program.operators if operator.head == head)


def origin(lowered: LoweredNetwork, node: int) -> int | None:
    """The layer that wrote a node's output, before any max pools between them; None where no layer did."""
    while node in lowered.program.writer:
        operator = lowered.program.operators[lowered.program.writer[node]]
        if lowered.graph.nodes[operator.head].kind in WEIGHTED:
            return operator.head
        if lowered.graph.nodes[operator.head].op not in MAX_POOLS or not operator.reads:
            return None
        node = operator.reads[0]
    return None


def width(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) bytes of an element of a node's output in memory, as its writer leaves it."""
    widths, layer = lowered.device.bytes_per_element, origin(lowered, node)
    return np.full(len(lowered.workload), widths[FLOAT]) if layer is None else widths[lowered.precision(layer)]


def rounded(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements that separate operators convert to integers, and back, before a layer."""
    none = np.zeros(len(lowered.workload))
    if lowered.graph.nodes[operator.head].kind not in WEIGHTED:
        return none
    _, bits = lowered.workload.bits_of(operator.head)
    layer = origin(lowered, operator.reads[0])
    floats = none == 0 if layer is None else lowered.precision(layer) != INT8
    back = lowered.precision(operator.head) == UNPACKED
    return np.where(bits <= 8, lowered.elements(operator.reads[0]) * (floats * 1.0 + back), 0.0)


def deciding(lowered: LoweredNetwork, node: int) -> set[int]:
    """Layers whose formats decide whether a node's output is in integers."""
    layer = origin(lowered, node)
    if layer is None:
        return set()
    return {layer, *(lowered.program.integer_readers.get(operator_of(lowered, layer).output) or ())}


def deciding_precision(lowered: LoweredNetwork, operator: Operator) -> set[int]:
    """Layers whose formats decide the arithmetic of an operator and of the one before it."""
    found = set(lowered.program.integer_readers.get(operator.output) or ())
    return found.union(*(deciding(lowered, node) for node in operator.reads))
