"""How tensors lie in onnxruntime: in blocks of channels, as convolutions in floats read and write them, with the
channels last, as those in integers do, or plain; and what is turned from one into another.
"""

from __future__ import annotations

import numpy as np

from autocomp.hardware_models.lowered import Traced
from autocomp.hardware_models.operators import MAX_POOLS, Operator
from autocomp.hardware_models.rates import FLOAT, INT8

PASSES_BLOCKS = ("add", "concat", "activation", "batchnorm")
BLOCKED_ACTIVATIONS = ("ReLU", "ReLU6", "Sigmoid", "HSigmoid", "Tanh", "HSwish", "SiLU")  # the others are plain
PLAIN, BLOCKS, LAST = range(3)
FEWEST_BLOCKED = 16  # channels of an input, below which a convolution in blocks reads it as it is


def written(traced: Traced, node: int) -> np.ndarray:
    """(n,) the layout in which a tensor is written: PLAIN, BLOCKS or LAST."""
    plain = np.full(len(traced.workload), PLAIN)
    if node not in traced.program.writer:
        return plain
    operator = traced.program.operators[traced.program.writer[node]]
    kind = traced.graph.nodes[operator.head].kind
    if kind == "conv":
        precision = traced.precision(operator.head)
        floats = PLAIN if leaves_blocks(traced, operator) else BLOCKS
        return np.select([precision == FLOAT, precision == INT8], [floats, LAST], PLAIN)
    if kind == "pool":
        in_blocks, slow = pooled_in_blocks(traced, operator), pooled_in_integers(traced, operator)
        return np.select([in_blocks, slow], [BLOCKS, PLAIN], LAST)
    if kind not in PASSES_BLOCKS or not operator.reads or leaves_blocks(traced, operator):
        return plain
    in_blocks = np.logical_and.reduce([written(traced, source) == BLOCKS for source in operator.reads])
    return np.where(in_blocks, BLOCKS, PLAIN)


def leaves_blocks(traced: Traced, operator: Operator) -> bool:
    """Whether an activation in it takes plain tensors alone."""
    nodes = (traced.graph.nodes[i] for i in operator.nodes)
    return any(node.kind == "activation" and node.op not in BLOCKED_ACTIVATIONS for node in nodes)


def pooled_in_blocks(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bool: not where all that read a max pool round it and it alone reads what it pools, since onnxruntime then
    rounds before the pool."""
    floats = traced.width(operator.output) == traced.device.bytes_per_element[FLOAT]
    heads = traced.program.integer_readers.get(operator.output)
    alone = len(traced.program.readers[operator.reads[0]]) == 1
    if not heads or not alone or traced.graph.nodes[operator.head].op not in MAX_POOLS:
        return floats
    return floats & ~np.logical_and.reduce([traced.workload.bits_of(head)[1] <= 8 for head in heads])


def blocking(traced: Traced, node: int) -> set[int]:
    """Layers whose formats decide whether a tensor lies in blocks, or in integers."""
    if node not in traced.program.writer:
        return set()
    operator = traced.program.operators[traced.program.writer[node]]
    kind = traced.graph.nodes[operator.head].kind
    if kind == "conv":
        return {operator.head, *(traced.program.integer_readers.get(operator.output) or ())}
    if kind == "pool":
        return {*traced.deciding(node), *(traced.program.integer_readers.get(node) or ())}
    if kind not in PASSES_BLOCKS:
        return set()
    return set().union(*(blocking(traced, source) for source in operator.reads))


def reordered(traced: Traced, position: int) -> np.ndarray:
    """(n,) elements that are turned from one layout into another beside an operator: what it is the first to read, and
    what the network returns."""
    program, total = traced.program, np.zeros(len(traced.workload))
    if not traced.device.integer_chain:
        return total
    operator = program.operators[position]
    nodes = [node for node in dict.fromkeys(operator.reads) if min(program.readers[node]) == position]
    nodes += [operator.output] * (operator.output in program.kept and not program.readers[operator.output])
    if leaves_blocks(traced, operator) and traced.graph.nodes[operator.head].kind == "conv":
        total = total + traced.elements(operator.output) * (traced.precision(operator.head) == FLOAT)
    return total + sum(traced.elements(node) * turns(traced, node).sum(0) for node in nodes)


def turns(traced: Traced, node: int) -> np.ndarray:
    """(3, n) bool: whether a tensor is turned out of its writer's layout, into blocks, and to channels last; each once
    for all readers."""
    own, readers = written(traced, node), traced.program.readers[node]
    taken = [_taken(traced, traced.program.operators[reader]) for reader in readers] or [np.full_like(own, PLAIN)]
    out = (own != PLAIN) & np.logical_or.reduce([one != own for one in taken])
    into = [(own != layout) & np.logical_or.reduce([one == layout for one in taken]) for layout in (BLOCKS, LAST)]
    return np.stack([out, *into])


def _taken(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) the layout in which an operator takes what it reads."""
    node = traced.graph.nodes[operator.head]
    if node.kind == "conv":
        wide = traced.graph.nodes[operator.reads[0]].shape[1:2] >= (FEWEST_BLOCKED,)
        precision = traced.precision(operator.head)
        return np.select([precision == INT8, (precision == FLOAT) & wide], [LAST, BLOCKS], PLAIN)
    if node.kind == "pool" or node.kind in PASSES_BLOCKS:
        return written(traced, operator.output)
    return np.full(len(traced.workload), PLAIN)


def pooled_in_integers(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bool: a max pool of integers beside no convolution in integers has no fast kernel."""
    none = np.zeros(len(traced.workload), bool)
    if not traced.device.integer_chain or traced.graph.nodes[operator.head].op not in MAX_POOLS or not operator.reads:
        return none
    origin = traced.origin(operator.reads[0])
    beside = none if origin is None else traced.precision(origin) == INT8
    return ~pooled_in_blocks(traced, operator) & ~beside


def block_knobs(traced: Traced, operator: Operator) -> tuple[int, ...]:
    """Positions of the knobs that decide what :func:`reordered` and :func:`pooled_in_integers` say of an operator."""
    if not traced.device.integer_chain:
        return ()
    deciding: set[int] = set()
    for node in (*operator.reads, operator.output):
        readers = [traced.program.operators[reader] for reader in traced.program.readers[node]]
        deciding |= {*blocking(traced, node), *traced.deciding(node), *(reader.head for reader in readers)}
        deciding = deciding.union(*(blocking(traced, reader.output) for reader in readers))
    return traced.workload.knobs_of(operator.reads, deciding)
