"""Layouts of tensors in onnxruntime, and changes of layout.

Convolutions in floats read and write layout blocks of channels, those in integers have the channels last, and other
operators use the plain layout.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import MAX_POOLS, Operator
from autocomp.hardware_models.rates import FLOAT, INT8

from .integers import deciding, origin

PASSES_BLOCKS = ("add", "concat", "activation", "batchnorm")
BLOCKED_ACTIVATIONS = ("ReLU", "ReLU6", "Sigmoid", "HSigmoid", "Tanh", "HSwish", "SiLU")  # the others are plain
PLAIN, BLOCKS, LAST = range(3)
FEWEST_BLOCKED = 16  # channels of an input, below which a convolution in layout blocks reads the plain layout


def written(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) the layout in which a tensor is written: PLAIN, BLOCKS or LAST."""
    plain = np.full(len(lowered.workload), PLAIN)
    if node not in lowered.program.writer:
        return plain
    operator = lowered.program.operators[lowered.program.writer[node]]
    kind = lowered.graph.nodes[operator.head].kind
    if kind == "conv":
        precision = lowered.precision(operator.head)
        floats = PLAIN if leaves_blocks(lowered, operator) else BLOCKS
        return np.select([precision == FLOAT, precision == INT8], [floats, LAST], PLAIN)
    if kind == "pool":
        in_blocks, slow = pooled_in_blocks(lowered, operator), pooled_in_integers(lowered, operator)
        return np.select([in_blocks, slow], [BLOCKS, PLAIN], LAST)
    if kind not in PASSES_BLOCKS or not operator.reads or leaves_blocks(lowered, operator):
        return plain
    in_blocks = np.logical_and.reduce([written(lowered, source) == BLOCKS for source in operator.reads])
    return np.where(in_blocks, BLOCKS, PLAIN)


def leaves_blocks(lowered: LoweredNetwork, operator: Operator) -> bool:
    """Whether an activation in the operator takes only plain tensors."""
    nodes = (lowered.graph.nodes[i] for i in operator.nodes)
    return any(node.kind == "activation" and node.op not in BLOCKED_ACTIVATIONS for node in nodes)


def pooled_in_blocks(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bool: whether a max pool runs in layout blocks.

    It does not where all its readers round its output and it is the only reader of its input: then onnxruntime rounds
    before the pool.
    """
    floats = lowered.width(operator.output) == lowered.device.bytes_per_element[FLOAT]
    heads = lowered.program.integer_readers.get(operator.output)
    alone = len(lowered.program.readers[operator.reads[0]]) == 1
    if not heads or not alone or lowered.graph.nodes[operator.head].op not in MAX_POOLS:
        return floats
    return floats & ~np.logical_and.reduce([lowered.workload.bits_of(head)[1] <= 8 for head in heads])


def blocking(lowered: LoweredNetwork, node: int) -> set[int]:
    """Layers whose formats decide whether a tensor is in layout blocks, or in integers."""
    if node not in lowered.program.writer:
        return set()
    operator = lowered.program.operators[lowered.program.writer[node]]
    kind = lowered.graph.nodes[operator.head].kind
    if kind == "conv":
        return {operator.head, *(lowered.program.integer_readers.get(operator.output) or ())}
    if kind == "pool":
        return {*deciding(lowered, node), *(lowered.program.integer_readers.get(node) or ())}
    if kind not in PASSES_BLOCKS:
        return set()
    return set().union(*(blocking(lowered, source) for source in operator.reads))


def reordered(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n,) elements whose layout is changed at an operator: inputs of which it is the first reader, and outputs that
    the network returns."""
    program, total = lowered.program, np.zeros(len(lowered.workload))
    operator = program.operators[position]
    nodes = [node for node in dict.fromkeys(operator.reads) if min(program.readers[node]) == position]
    nodes += [operator.output] * (operator.output in program.kept and not program.readers[operator.output])
    if leaves_blocks(lowered, operator) and lowered.graph.nodes[operator.head].kind == "conv":
        total = total + lowered.elements(operator.output) * (lowered.precision(operator.head) == FLOAT)
    return total + sum(lowered.elements(node) * turns(lowered, node).sum(0) for node in nodes)


def turns(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(3, n) bool: whether a tensor's layout is changed to plain, to layout blocks, and to channels last; each once for
    all readers."""
    own, readers = written(lowered, node), lowered.program.readers[node]
    taken = [_taken(lowered, lowered.program.operators[reader]) for reader in readers] or [np.full_like(own, PLAIN)]
    out = (own != PLAIN) & np.logical_or.reduce([one != own for one in taken])
    into = [(own != layout) & np.logical_or.reduce([one == layout for one in taken]) for layout in (BLOCKS, LAST)]
    return np.stack([out, *into])


def _taken(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) the layout in which an operator reads its inputs."""
    node = lowered.graph.nodes[operator.head]
    if node.kind == "conv":
        wide = lowered.graph.nodes[operator.reads[0]].shape[1:2] >= (FEWEST_BLOCKED,)
        precision = lowered.precision(operator.head)
        return np.select([precision == INT8, (precision == FLOAT) & wide], [LAST, BLOCKS], PLAIN)
    if node.kind == "pool" or node.kind in PASSES_BLOCKS:
        return written(lowered, operator.output)
    return np.full(len(lowered.workload), PLAIN)


def pooled_in_integers(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bool: whether a max pool has no fast kernel: it pools integers that no convolution in integers wrote."""
    none = np.zeros(len(lowered.workload), bool)
    if lowered.graph.nodes[operator.head].op not in MAX_POOLS or not operator.reads:
        return none
    layer = origin(lowered, operator.reads[0])
    in_integers = none if layer is None else lowered.precision(layer) == INT8
    return ~pooled_in_blocks(lowered, operator) & ~in_integers


def block_knobs(lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs on which :func:`reordered` and :func:`pooled_in_integers` depend for an operator."""
    layers: set[int] = set()
    for node in (*operator.reads, operator.output):
        readers = [lowered.program.operators[reader] for reader in lowered.program.readers[node]]
        layers |= {*blocking(lowered, node), *deciding(lowered, node), *(reader.head for reader in readers)}
        layers = layers.union(*(blocking(lowered, reader.output) for reader in readers))
    return lowered.workload.knobs_of(operator.reads, layers)
