"""The peak of memory while a network runs, without its stored weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import SearchSpace, Workload

from .lookup import Lookup
from .lowered import LoweredNetwork
from .operators import Program
from .rectified import RectifiedBuffers, RectifiedPrograms
from .runtimes.base import Buffers
from .structures import BlockMemory, ChainMemory, chain_positions, in_variant, knobs_that_skip

if TYPE_CHECKING:
    from .device_model import Device


@dataclass(frozen=True)
class Memory:
    """A network's tensors in order of execution, and the runtime's other buffers.

    tensors: the bytes of each stored tensor. buffers: the runtime's buffers in addition to tensors. chains: those that
    plans may put in the place of layers. blocks: those that plans may skip.
    """

    program: Program
    tensors: dict[int, Lookup]
    buffers: Buffers
    chains: tuple[ChainMemory, ...] = ()
    blocks: tuple[BlockMemory, ...] = ()

    @classmethod
    def of(cls, lowered: LoweredNetwork) -> Memory:
        """lowered: any plans of the network."""
        device, program = lowered.device, lowered.program
        tensors = {
            node: Lookup(_tensor_knobs(lowered, node), _tensor(device, program, node)) for node in program.readers
        }
        space, buffers = lowered.workload.space, device.runtime.buffers(lowered)
        blocks = BlockMemory.of(space.graph, program, knobs_that_skip(space), space.blocks)
        if space.activations:
            programs = RectifiedPrograms(device, space)
            tensors |= {
                node: programs.lookup(~node, LoweredNetwork.stored_bytes, _tensor_knobs)
                for node in tensors
                if programs.deciding(~node)
            }
            buffers = _rectified_buffers(programs, program, buffers)
            blocks += BlockMemory.of(space.graph, program, _vanishing(programs, program), space.activations)
        blocks = sorted(blocks, key=lambda block: min(block.operators))
        return cls(program, tensors, buffers, tuple(_chains(lowered)), tuple(blocks))

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> Memory:
        """With every function as a table, where ``tabulate`` makes one."""
        tensors = {node: tabulate(lookup) for node, lookup in self.tensors.items()}
        chains = tuple(chain.tabulated(tabulate) for chain in self.chains)
        return Memory(self.program, tensors, self.buffers.tabulated(tabulate), chains, self.blocks)

    def peak(self, workload: Workload) -> np.ndarray:
        """(n,) bytes."""
        times = self.over_time(workload)
        peak = next(times)
        for needed in times:
            np.maximum(peak, needed, out=peak)
        return peak

    def over_time(self, workload: Workload) -> Iterator[np.ndarray]:
        """(n,) bytes before the first operator, and while each one runs. A tensor is live from the operator that writes
        it to its last reader."""
        program = self.program
        sizes = {node: lookup(workload) for node, lookup in self.tensors.items()}
        skips = [(block, block.skips(workload)) for block in self.blocks]
        for block, skipped in reversed(skips):  # what reads the output then reads the source, in its width
            sizes[block.source] = np.where(skipped, sizes[block.output], sizes[block.source])
            for node in {*block.tensors, block.output}:
                sizes[node] = np.where(skipped, 0.0, sizes[node])
        room = self.buffers.bytes_of(workload, len(program.operators))
        live = sum((sizes[node] for node in program.readers if node not in program.writer), np.zeros(len(workload)))
        yield live.copy()
        for position, operator in enumerate(program.operators):
            live += sizes[operator.output]
            needed = live + room[position]
            for chain in (chain for chain in self.chains if chain.position == position):
                within = chain.peak(workload, live, sizes[operator.output], self._freed(sizes, position))
                needed = np.where(chain.has(workload), within, needed)
            for skipped in (skipped for block, skipped in skips if position in block.operators):
                needed = np.where(skipped, live, needed)
            yield needed
            for node in {*operator.reads, operator.output}:
                if program.last_reader(node) <= position:
                    live -= _freed_by(node, position, sizes, skips, program)

    def _freed(self, sizes: dict[int, np.ndarray], position: int) -> np.ndarray:
        """(n,) bytes of an operator's main input, where nothing else reads it then or later."""
        first, *others = self.program.operators[position].reads
        last = self.program.last_reader(first) <= position and first not in others
        return sizes[first] * float(last)


def _freed_by(
    node: int,
    position: int,
    sizes: dict[int, np.ndarray],
    skips: Sequence[tuple[BlockMemory, np.ndarray]],
    program: Program,
) -> np.ndarray:
    """(n,) bytes of a tensor that was read for the last time: none in the plans in which it is the output of a block
    that they skip, which then has its size."""
    freed = sizes[node]
    for block, skipped in skips:
        if block.source == node and program.last_reader(block.output) > position:
            sizes[block.output] = np.where(skipped, sizes[node], sizes[block.output])
            freed = np.where(skipped, 0.0, freed)
    return freed


def _chains(lowered: LoweredNetwork) -> Iterator[ChainMemory]:
    space, device = lowered.workload.space, lowered.device
    heads = {lowered.graph.nodes[operator.head].layer: i for i, operator in enumerate(lowered.program.operators)}
    for variant in space.variants:
        workload = Workload(variant, lowered.workload.vectors, lowered.workload.batch)
        inside = LoweredNetwork(device, device.program(variant.graph), workload)
        buffers = device.runtime.buffers(inside)
        for layer, positions in chain_positions(inside.program).items():
            operators = [inside.program.operators[position] for position in positions]
            knob, values = space.structure_tables[str(inside.graph.nodes[operators[0].head].layer)]
            inner = tuple(_lookup(inside, operator.output, variant) for operator in operators[:-1])
            rooms = (buffers.at(position) for position in positions)
            found = tuple(None if room is None else in_variant(room, variant) for room in rooms)
            yield ChainMemory(heads[layer], knob, int(values.argmax()), inner, found)


def _vanishing(programs: RectifiedPrograms, program: Program) -> dict[str, int]:
    """Name of a node whose operator a ReLU leaves out -> the position of the ReLU's knob."""
    nodes = program.graph.nodes
    return {
        nodes[operator.head].name: position
        for position, one in programs.space.activations.items()
        for operator in program.operators
        if operator.head in one.nodes and programs.vanishes(operator.head, position)
    }


def _rectified_buffers(programs: RectifiedPrograms, program: Program, buffers: Buffers) -> Buffers:
    made: dict[int, Buffers] = {}

    def room(lowered: LoweredNetwork, position: int) -> Lookup | None:
        if id(lowered.program) not in made:  # which the programs keep
            made[id(lowered.program)] = lowered.device.runtime.buffers(lowered)
        return made[id(lowered.program)].at(position)

    def rows(lowered: LoweredNetwork, position: int) -> np.ndarray:
        found = room(lowered, position)
        return np.zeros(len(lowered.workload)) if found is None else found.function(lowered.workload)

    def knobs(lowered: LoweredNetwork, position: int) -> tuple[int, ...]:
        found = room(lowered, position)
        return () if found is None else found.knobs

    changed = {
        position: programs.lookup(operator.head, rows, knobs)
        for position, operator in enumerate(program.operators)
        if programs.deciding(operator.head) and buffers.at(position) is not None
    }
    return RectifiedBuffers(buffers, changed) if changed else buffers


def _lookup(lowered: LoweredNetwork, node: int, variant: SearchSpace) -> Lookup:
    knobs = _tensor_knobs(lowered, node)
    return in_variant(Lookup(knobs, _tensor(lowered.device, lowered.program, node)), variant)


def _tensor(device: Device, program: Program, node: int) -> Callable[[Workload], np.ndarray]:
    def size(some: Workload) -> np.ndarray:
        return LoweredNetwork(device, program, some).stored_bytes(node)

    return size


def _tensor_knobs(lowered: LoweredNetwork, node: int) -> tuple[int, ...]:
    readers = {lowered.program.operators[position].head for position in lowered.program.readers[node]}
    deciding = lowered.device.runtime.deciding_width(lowered, node)
    if lowered.one_integer_width:
        return lowered.workload.knobs_of([node], (), {*readers, *deciding})
    return lowered.workload.knobs_of([node], readers, deciding)
