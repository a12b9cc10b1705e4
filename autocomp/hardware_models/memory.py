"""The most that lives at once while a network runs, beside its weights as they are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from autocomp.hardware_models.runtimes.buffer_reuse import repeated, reusable_bytes, unpacked_weight
from autocomp.hardware_models.runtimes.transient import transient_bytes, transient_knobs
from autocomp.search_spaces import Workload

from .lookup import Lookup
from .lowered import LoweredNetwork
from .operators import Program

if TYPE_CHECKING:
    from .device_model import Device


@dataclass(frozen=True)
class Memory:
    """A network's tensors in order of execution, and what a runtime holds beside them.

    tensors: for each stored one its bytes. transients: for each operator the room that it needs while it runs.
    weights: for operators of the groups ``repeated`` the floats of their weights. Without a runtime that holds such
    things, the last three are empty.
    """

    program: Program
    tensors: dict[int, Lookup]
    transients: dict[int, Lookup] = field(default_factory=dict)
    weights: dict[int, Lookup] = field(default_factory=dict)
    repeated: list[tuple[int, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, lowered: LoweredNetwork) -> Memory:
        """lowered: any plans of the network."""
        device, program = lowered.device, lowered.program
        tensors = {
            node: Lookup(_tensor_knobs(lowered, node), _tensor(device, program, node)) for node in program.readers
        }
        if not device.integer_chain:
            return cls(program, tensors)
        transients = {
            position: Lookup(transient_knobs(lowered, operator), _at(transient_bytes, device, program, position))
            for position, operator in enumerate(program.operators)
        }
        groups = repeated(lowered)
        weights = {
            position: Lookup(
                lowered.knobs(program.operators[position]), _at(unpacked_weight, device, program, position)
            )
            for positions in groups
            for position in positions
        }
        return cls(program, tensors, transients, weights, groups)

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> Memory:
        """With every function in tables, as far as ``tabulate`` makes them."""
        tensors, transients, weights = (
            {place: tabulate(lookup) for place, lookup in lookups.items()}
            for lookups in (self.tensors, self.transients, self.weights)
        )
        return Memory(self.program, tensors, transients, weights, self.repeated)

    def peak(self, workload: Workload) -> np.ndarray:
        """(n,) bytes. A tensor lives from the operator that writes it to its last reader."""
        program = self.program
        sizes = {node: lookup(workload) for node, lookup in self.tensors.items()}
        room = self._room(workload)
        live = sum((sizes[node] for node in program.readers if node not in program.writer), np.zeros(len(workload)))
        peak = live.copy()
        for position, operator in enumerate(program.operators):
            live += sizes[operator.output]
            np.maximum(peak, live + room[position], out=peak)
            for node in {*operator.reads, operator.output}:
                if program.last_reader(node) <= position:
                    live -= sizes[node]
        return peak

    def _room(self, workload: Workload) -> np.ndarray:
        """(operators, n) bytes beside the tensors, or (operators, 1) zeros."""
        count = len(self.program.operators)
        if not self.transients:
            return np.zeros((count, 1))
        room = np.stack([self.transients[position](workload) for position in range(count)])
        if self.weights:
            weights = {position: lookup(workload) for position, lookup in self.weights.items()}
            room += reusable_bytes(weights, self.repeated, count)
        return room


def _at(
    function: Callable[[LoweredNetwork, int], np.ndarray], device: Device, program: Program, position: int
) -> Callable[[Workload], np.ndarray]:
    return lambda some: function(LoweredNetwork(device, program, some), position)


def _tensor(device: Device, program: Program, node: int) -> Callable[[Workload], np.ndarray]:
    def size(some: Workload) -> np.ndarray:
        return LoweredNetwork(device, program, some).stored_bytes(node)

    return size


def _tensor_knobs(lowered: LoweredNetwork, node: int) -> tuple[int, ...]:
    readers = {lowered.program.operators[position].head for position in lowered.program.readers[node]}
    if lowered.device.integer_chain:
        readers |= lowered.deciding(node)
    return lowered.workload.knobs_of([node], readers)
