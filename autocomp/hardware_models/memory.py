"""The peak of memory while a network runs, without its stored weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Workload

from .lookup import Lookup
from .lowered import LoweredNetwork
from .operators import Program
from .runtimes.base import Buffers

if TYPE_CHECKING:
    from .device_model import Device


@dataclass(frozen=True)
class Memory:
    """A network's tensors in order of execution, and the runtime's other buffers.

    tensors: the bytes of each stored tensor. buffers: the runtime's buffers in addition to tensors.
    """

    program: Program
    tensors: dict[int, Lookup]
    buffers: Buffers

    @classmethod
    def of(cls, lowered: LoweredNetwork) -> Memory:
        """lowered: any plans of the network."""
        device, program = lowered.device, lowered.program
        tensors = {
            node: Lookup(_tensor_knobs(lowered, node), _tensor(device, program, node)) for node in program.readers
        }
        return cls(program, tensors, device.runtime.buffers(lowered))

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> Memory:
        """With every function as a table, where ``tabulate`` makes one."""
        tensors = {node: tabulate(lookup) for node, lookup in self.tensors.items()}
        return Memory(self.program, tensors, self.buffers.tabulated(tabulate))

    def peak(self, workload: Workload) -> np.ndarray:
        """(n,) bytes. A tensor is live from the operator that writes it to its last reader."""
        program = self.program
        sizes = {node: lookup(workload) for node, lookup in self.tensors.items()}
        room = self.buffers.bytes_of(workload, len(program.operators))
        live = sum((sizes[node] for node in program.readers if node not in program.writer), np.zeros(len(workload)))
        peak = live.copy()
        for position, operator in enumerate(program.operators):
            live += sizes[operator.output]
            np.maximum(peak, live + room[position], out=peak)
            for node in {*operator.reads, operator.output}:
                if program.last_reader(node) <= position:
                    live -= sizes[node]
        return peak


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
