"""What onnxruntime runs in integers: layers whose weights and inputs have 8 bits or fewer, products of two activations
of 8 bits, and what lies between them.

Exported files round the tensors between such layers, so that its integer kernels follow one another; see
:class:`autocomp.search_spaces.IntegerFlow`.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, INT8
from autocomp.search_spaces import CLIPPING, MAX_POOLS, WEIGHTED


def precision(lowered: LoweredNetwork, layer: int) -> np.ndarray:
    """(n,) index into PRECISIONS. Stored integers that are multiplied as floats are unpacked when a file is loaded."""
    node = lowered.graph.nodes[layer]
    if node.transposed and not node.has_phases:
        return np.full(len(lowered.workload), FLOAT)
    return lowered.asked(layer)


def in_integers(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bool: whether the operator's kernel reads and writes integers."""
    if lowered.multiplies(operator.head):
        return precision(lowered, operator.head) == INT8
    if _pools(lowered, operator):  # files pool floats where floats are written, and round then
        return _written_in_integers(lowered, operator.reads[0]) & _on_grid(lowered, operator.reads[0])
    moves_or_computes = bool(lowered.program.flow.conditions[operator.output].all)
    inputs = [lowered.quantized(node) for node in operator.reads]
    return np.logical_and.reduce([lowered.quantized(operator.output) & moves_or_computes, *inputs])


def deciding_integers(lowered: LoweredNetwork, operator: Operator) -> set[int]:
    """Layers whose formats decide whether the operator's kernel reads and writes integers."""
    if lowered.multiplies(operator.head):
        return {operator.head}
    found = lowered.deciding(operator.output).union(*(lowered.deciding(node) for node in operator.reads))
    if _pools(lowered, operator) and operator.reads[0] in lowered.program.writer:
        found |= deciding_integers(lowered, lowered.program.operators[lowered.program.writer[operator.reads[0]]])
    return found


def deciding_storage(lowered: LoweredNetwork, node: int) -> set[int]:
    """Layers whose formats decide whether a tensor is rounded in memory."""
    program = lowered.program
    if node not in program.writer:
        return lowered.deciding(node)
    writer = program.operators[program.writer[node]]
    beside = [writer, *(program.operators[position] for position in program.readers[node])]
    pooled = any(_pools(lowered, operator) for operator in beside)
    return lowered.deciding(node) | (deciding_integers(lowered, writer) if pooled else set())


def rounded(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements that separate operators convert to integers, or back: the network's inputs, and what an operator in
    floats reads or writes."""
    program, position = lowered.program, lowered.program.writer[operator.output]
    inside = in_integers(lowered, operator)
    total = lowered.elements(operator.output) * (stored_in_integers(lowered, operator.output) & ~inside)
    for node in dict.fromkeys(operator.reads):
        quantized = stored_in_integers(lowered, node)
        if _pools(lowered, operator):  # where floats are written, files pool those
            quantized = quantized & _written_in_integers(lowered, node)
        first = node not in program.writer and min(program.readers[node]) == position
        total = total + lowered.elements(node) * (quantized & (~inside | first))
    return total


def stored_in_integers(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) bool: whether a tensor is rounded in memory; floats that only max pools read are rounded behind them."""
    readers = [lowered.program.operators[position] for position in lowered.program.readers[node]]
    if readers and all(_pools(lowered, operator) for operator in readers):
        return _on_grid(lowered, node) & _written_in_integers(lowered, node)
    return _on_grid(lowered, node)


def _on_grid(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) bool: whether a tensor has rounded numbers, such as the greatest of others."""
    writer = lowered.program.writer.get(node)
    if writer is None or not _pools(lowered, operator := lowered.program.operators[writer]):
        return lowered.quantized(node)
    return lowered.quantized(node) | _on_grid(lowered, operator.reads[0])


def _pools(lowered: LoweredNetwork, operator: Operator) -> bool:
    return lowered.graph.nodes[operator.head].op in MAX_POOLS


def _written_in_integers(lowered: LoweredNetwork, node: int) -> np.ndarray:
    writer = lowered.program.writer.get(node)
    if writer is None:
        return np.zeros(len(lowered.workload), bool)
    return in_integers(lowered, lowered.program.operators[writer])


def passes(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) how often separate kernels in integers read and write the output again: for additions after a layer, and for
    activations that no rounding includes. Behind a product of activations they are as in floats."""
    if lowered.is_product(operator.head):
        return np.zeros(len(lowered.workload))
    fused = [lowered.graph.nodes[i] for i in operator.nodes[1:]]
    count = sum(
        node.kind in ("add", "mul") or (node.kind == "activation" and node.op not in CLIPPING) for node in fused
    )
    alone = lowered.graph.nodes[operator.head].kind not in WEIGHTED
    return in_integers(lowered, operator) * float(count + alone)
