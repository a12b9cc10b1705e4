"""Costs of chains that plans may put in the place of layers, and of blocks that they may skip.

Every chain stands in one of the space's variants, which is lowered like any network. A plan's cost is that of the
operators that it has: those of the network itself without the layers that it replaces and without those of skipped
blocks, and those of its chains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from autocomp.search_spaces import Activation, NetworkGraph, ResidualBlock, SearchSpace, Workload

from .lookup import Lookup
from .operators import Program

FILE = 2  # the column of bytes in the file
Place = ResidualBlock | Activation


def in_variant(lookup: Lookup, space: SearchSpace) -> Lookup:
    """The lookup of a variant for workloads of the space itself."""

    def function(some: Workload) -> np.ndarray:
        return lookup.function(Workload(space, some.vectors, some.batch))

    return replace(lookup, function=function)


def where_present(lookup: Lookup, space: SearchSpace, layer: str | None, node_bytes: float = 0.0) -> Lookup:
    """The rows of an operator, zero under plans that do not have its layer. node_bytes: of the file, for the operator
    that a chain has more than the layer."""
    if layer is None or layer not in space.structure_tables:
        return lookup
    position, values = space.structure_tables[layer]

    def function(some: Workload) -> np.ndarray:
        rows = lookup.function(some).copy()
        rows[:, FILE] += node_bytes
        return rows

    return replace(lookup, function=function, where=(*lookup.where, (position, tuple(values.astype(float).tolist()))))


def unless_skipped(lookup: Lookup, position: int | None) -> Lookup:
    """The rows of an operator, zero under plans that skip its block. position: of the knob; None: no knob skips it."""
    return lookup if position is None else replace(lookup, where=(*lookup.where, (position, (1.0, 0.0))))


def knobs_that_skip(space: SearchSpace) -> dict[str, int]:
    """Name of a node in a block, or path of its layer -> the position of the knob that skips it."""
    found: dict[str, int] = {}
    for position, block in space.blocks.items():
        nodes = [space.graph.nodes[i] for i in block.nodes]
        found |= {name: position for node in nodes for name in (node.name, node.layer) if name is not None}
    return found


@dataclass(frozen=True)
class BlockMemory:
    """A block that plans may skip, or an activation that a ReLU within the layer before may stand for, in a network's
    program: then its output is its source.

    knob: its position. operators: positions of those that run for it. tensors: stored nodes that it writes, without its
    output. source, output: the stored nodes that hold them.
    """

    knob: int
    operators: frozenset[int]
    tensors: frozenset[int]
    source: int
    output: int

    @classmethod
    def of(
        cls, graph: NetworkGraph, program: Program, knobs: Mapping[str, int], places: Mapping[int, Place]
    ) -> list[BlockMemory]:
        """knobs: name of a first node of an operator -> the position of the knob without which it is there. places:
        position -> what the knob leaves out."""
        nodes = program.graph.nodes
        inside: dict[int, list[int]] = {}
        for i, operator in enumerate(program.operators):
            if (knob := knobs.get(nodes[operator.head].name)) is not None:
                inside.setdefault(knob, []).append(i)
        found = []
        for knob, positions in inside.items():
            written = [program.operators[i].output for i in positions]
            entries = [node for i in positions for node in program.operators[i].reads if node not in written]
            named = {nodes[node].name: node for node in entries}
            source = named.get(graph.nodes[places[knob].source].name, entries[0] if entries else written[0])
            found.append(cls(knob, frozenset(positions), frozenset(written[:-1]), source, written[-1]))
        return found

    def skips(self, workload: Workload) -> np.ndarray:
        """(n,) bool: the plans without the block."""
        return np.asarray(workload.vectors[:, self.knob] != 0)


@dataclass(frozen=True)
class ChainMemory:
    """What a chain needs while it runs, in the place of the operator at a position of the network's program.

    knob, value: the plans that have it. inner: bytes of each tensor between its layers. rooms: the runtime's buffers at
    each of its layers.
    """

    position: int
    knob: int
    value: int
    inner: tuple[Lookup, ...]
    rooms: tuple[Lookup | None, ...]

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> ChainMemory:
        rooms = tuple(room if room is None else tabulate(room) for room in self.rooms)
        return replace(self, inner=tuple(map(tabulate, self.inner)), rooms=rooms)

    def peak(self, workload: Workload, live: np.ndarray, output: np.ndarray, freed: np.ndarray) -> np.ndarray:
        """(n,) bytes. live: with the layer's inputs and its output. freed: of the input, once the first layer has read
        it."""
        sizes = [lookup(workload) for lookup in self.inner]
        peak = np.zeros(len(workload))
        for place, room in enumerate(self.rooms):
            before = sizes[place - 1] - freed if place else 0.0
            after = sizes[place] - output if place < len(sizes) else 0.0
            buffer = 0.0 if room is None else room(workload)
            peak = np.maximum(peak, live + before + after + buffer)
        return peak

    def has(self, workload: Workload) -> np.ndarray:
        """(n,) bool: the plans with this chain."""
        return np.asarray(workload.vectors[:, self.knob] == self.value)


def chain_positions(program: Program) -> dict[str, list[int]]:
    """Layer -> positions of the operators of the chain in its place, in a variant's program."""
    found: dict[str, list[int]] = {}
    for position, operator in enumerate(program.operators):
        layer = program.graph.nodes[operator.head].attributes.replaces
        if layer is not None:
            found.setdefault(layer, []).append(position)
    return found
