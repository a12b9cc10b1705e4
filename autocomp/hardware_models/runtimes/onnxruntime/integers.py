"""What onnxruntime runs in integers: layers whose weights and inputs have 8 bits or fewer, and what lies between them.

Exported files round the tensors between such layers, so that its integer kernels follow one another; see
:class:`autocomp.search_spaces.IntegerFlow`.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import MAX_POOLS, Operator
from autocomp.hardware_models.rates import FLOAT, INT8
from autocomp.search_spaces import WEIGHTED

CLIPS = ("ReLU", "ReLUExt", "ReLU6")  # rounding to unsigned integers includes them


def precision(lowered: LoweredNetwork, layer: int) -> np.ndarray:
    """(n,) index into PRECISIONS. Stored integers that are multiplied as floats are unpacked when a file is loaded."""
    node = lowered.graph.nodes[layer]
    if node.transposed and not node.has_phases:
        return np.full(len(lowered.workload), FLOAT)
    return lowered.asked(layer)


def in_integers(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bool: whether the operator's kernel reads and writes integers."""
    if lowered.graph.nodes[operator.head].kind in WEIGHTED:
        return precision(lowered, operator.head) == INT8
    if lowered.graph.nodes[operator.head].op in MAX_POOLS:  # files pool floats where floats are written, and round then
        return _written_in_integers(lowered, operator.reads[0]) & lowered.quantized(operator.output)
    moves_or_computes = bool(lowered.program.flow.conditions[operator.output].all)
    inputs = [lowered.quantized(node) for node in operator.reads]
    return np.logical_and.reduce([lowered.quantized(operator.output) & moves_or_computes, *inputs])


def deciding_integers(lowered: LoweredNetwork, operator: Operator) -> set[int]:
    """Layers whose formats decide whether the operator's kernel reads and writes integers."""
    if lowered.graph.nodes[operator.head].kind in WEIGHTED:
        return {operator.head}
    found = lowered.deciding(operator.output).union(*(lowered.deciding(node) for node in operator.reads))
    if lowered.graph.nodes[operator.head].op in MAX_POOLS and operator.reads[0] in lowered.program.writer:
        found |= deciding_integers(lowered, lowered.program.operators[lowered.program.writer[operator.reads[0]]])
    return found


def deciding_storage(lowered: LoweredNetwork, node: int) -> set[int]:
    """Layers whose formats decide whether a tensor is rounded in memory."""
    readers = (lowered.program.operators[position].head for position in lowered.program.readers[node])
    if node not in lowered.program.writer or not any(lowered.graph.nodes[head].op in MAX_POOLS for head in readers):
        return lowered.deciding(node)
    writer = lowered.program.operators[lowered.program.writer[node]]
    return lowered.deciding(node) | deciding_integers(lowered, writer)


def rounded(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements that separate operators convert to integers, or back: the network's inputs, and what an operator in
    floats reads or writes."""
    program, position = lowered.program, lowered.program.writer[operator.output]
    inside = in_integers(lowered, operator)
    total = lowered.elements(operator.output) * (stored_in_integers(lowered, operator.output) & ~inside)
    for node in dict.fromkeys(operator.reads):
        quantized = stored_in_integers(lowered, node)
        if lowered.graph.nodes[operator.head].op in MAX_POOLS:  # where floats are written, files pool those
            quantized = quantized & _written_in_integers(lowered, node)
        first = node not in program.writer and min(program.readers[node]) == position
        total = total + lowered.elements(node) * (quantized & (~inside | first))
    return total


def stored_in_integers(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) bool: whether a tensor is rounded in memory; floats that only max pools read are rounded behind them."""
    readers = [lowered.program.operators[position].head for position in lowered.program.readers[node]]
    if not readers or any(lowered.graph.nodes[head].op not in MAX_POOLS for head in readers):
        return lowered.quantized(node)
    return lowered.quantized(node) & _written_in_integers(lowered, node)


def _written_in_integers(lowered: LoweredNetwork, node: int) -> np.ndarray:
    writer = lowered.program.writer.get(node)
    if writer is None:
        return np.zeros(len(lowered.workload), bool)
    return in_integers(lowered, lowered.program.operators[writer])


def passes(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) how often separate kernels in integers read and write the output again: for additions after a layer, and for
    activations that no rounding includes."""
    fused = [lowered.graph.nodes[i] for i in operator.nodes[1:]]
    count = sum(node.kind in ("add", "mul") or (node.kind == "activation" and node.op not in CLIPS) for node in fused)
    alone = lowered.graph.nodes[operator.head].kind not in WEIGHTED
    return in_integers(lowered, operator) * float(count + alone)
