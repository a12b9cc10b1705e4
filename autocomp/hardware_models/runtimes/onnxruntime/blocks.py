"""Layouts of tensors in onnxruntime, and changes of layout.

Convolutions in floats read and write layout blocks of channels, kernels in integers have the channels last, and other
operators use the plain layout.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT

from .integers import deciding_integers, in_integers

PASSES_BLOCKS = ("add", "concat", "activation", "batchnorm")
BLOCKED_ACTIVATIONS = ("ReLU", "ReLU6", "Sigmoid", "HSigmoid", "Tanh", "HSwish", "SiLU")  # the others are plain
PLAIN, BLOCKS, LAST = range(3)
FEWEST_BLOCKED = 16  # channels of an input, below which a convolution in layout blocks reads the plain layout


def written(lowered: LoweredNetwork, node: int) -> np.ndarray:
    """(n,) the layout in which a tensor is written: PLAIN, BLOCKS or LAST."""
    plain = np.full(len(lowered.workload), PLAIN)
    if node not in lowered.program.writer or node not in lowered.program.images:
        return plain
    operator = lowered.program.operators[lowered.program.writer[node]]
    return np.where(in_integers(lowered, operator), LAST, _written_in_floats(lowered, operator))


def _written_in_floats(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    kind, plain = lowered.graph.nodes[operator.head].kind, np.full(len(lowered.workload), PLAIN)
    if kind in ("conv", "pool"):
        return plain if leaves_blocks(lowered, operator) else np.full_like(plain, BLOCKS)
    if kind not in PASSES_BLOCKS or not operator.reads or leaves_blocks(lowered, operator):
        return plain
    in_blocks = np.logical_and.reduce([written(lowered, source) == BLOCKS for source in operator.reads])
    return np.where(in_blocks, BLOCKS, PLAIN)


def leaves_blocks(lowered: LoweredNetwork, operator: Operator) -> bool:
    """Whether an activation in the operator takes only plain tensors."""
    nodes = (lowered.graph.nodes[i] for i in operator.nodes)
    return any(node.kind == "activation" and node.op not in BLOCKED_ACTIVATIONS for node in nodes)


def pooled_in_blocks(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) bool: whether a pool runs in layout blocks."""
    return ~in_integers(lowered, operator)


def blocking(lowered: LoweredNetwork, node: int) -> set[int]:
    """Layers whose formats decide the layout in which a tensor is written."""
    if node not in lowered.program.writer:
        return set()
    operator = lowered.program.operators[lowered.program.writer[node]]
    own = deciding_integers(lowered, operator)
    kind = lowered.graph.nodes[operator.head].kind
    if kind == "conv":
        return {operator.head}
    if kind not in PASSES_BLOCKS:
        return own
    return own.union(*(blocking(lowered, source) for source in operator.reads))


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
        return np.where(in_integers(lowered, operator), LAST, BLOCKS if wide else PLAIN)
    if node.kind == "pool" or node.kind in PASSES_BLOCKS:
        return written(lowered, operator.output)
    return np.full(len(lowered.workload), PLAIN)


def block_knobs(lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs on which :func:`reordered` and the conversions of an operator depend."""
    layers: set[int] = set()
    for node in (*operator.reads, operator.output):
        readers = [lowered.program.operators[reader] for reader in lowered.program.readers[node]]
        layers |= {*blocking(lowered, node), *lowered.deciding(node), *(reader.head for reader in readers)}
        layers = layers.union(*(blocking(lowered, reader.output) for reader in readers))
    return lowered.workload.knobs_of(operator.reads, (), layers)
