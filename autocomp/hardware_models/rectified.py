"""Costs of ReLUs that plans may put in the place of other activations.

Such a plan's network is another program: the ReLU may be computed within the layer before it, and tensors may stay in
integers. For each operator, tensor and buffer the few activations that change it are found, each alone. Its rows are
those of the program with the ReLUs that a plan has among these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import LayerChain, SearchSpace, Workload, once, with_chains, with_relus

from .lookup import Lookup
from .lowered import LoweredNetwork
from .operators import Program
from .runtimes.base import Buffers

if TYPE_CHECKING:
    from .device_model import Device

Positions = tuple[int, ...]  # of knobs
Rows = Callable[[LoweredNetwork, int], np.ndarray]  # of the operator at a position, or of a node's tensor
Knobs = Callable[[LoweredNetwork, int], Positions]


class RectifiedPrograms:
    """The programs of a network with ReLUs in the place of some activations. Nodes have the same indices in all.

    space: of the network itself. chains: those that stand in the place of layers.
    """

    def __init__(self, device: Device, space: SearchSpace, chains: Mapping[str, LayerChain] | None = None) -> None:
        self.device, self.space, self.chains = device, space, chains or {}
        self._known: dict[Positions, tuple[SearchSpace, Program]] = {}

    def under(self, positions: Positions) -> tuple[SearchSpace, Program]:
        """With ReLUs in the place of the activations of these knobs."""
        if positions not in self._known:
            relus = [self.space.activations[position] for position in positions]
            knobs = self.space.specialised(self.chains).knobs
            graph = with_relus(self.space.graph, relus)
            nodes, gone = list(graph.nodes), frozenset[int]().union(*(one.inner for one in relus))
            for i in gone:  # as an operator that moves nothing it is free
                nodes[i] = replace(nodes[i], kind="reshape", op="Reshape")
            graph = with_chains(replace(graph, nodes=tuple(nodes)) if gone else graph, self.chains)
            self._known[positions] = SearchSpace(graph, knobs), self.device.program(graph)
        return self._known[positions]

    @cached_property
    def _signatures(self) -> dict[Positions, dict[int, object]]:
        """Of the operators by their first nodes, and of the tensors by the complement of the node that gives them, with
        no ReLU and with each alone."""
        alone = [(), *((position,) for position in self.space.activations)]
        return {positions: dict(_signatures(self.under(positions)[1])) for positions in alone}

    def deciding(self, key: int) -> Positions:
        """The knobs whose ReLU changes an operator, given by its first node, or a tensor, by its node's complement."""
        plain = self._signatures[()].get(key)
        return tuple(p for p in self.space.activations if self._signatures[p,].get(key) != plain)

    @property
    def heads(self) -> tuple[int, ...]:
        """The first nodes of the operators of all programs, in the order of execution."""
        return tuple(sorted({key for found in self._signatures.values() for key in found if key >= 0}))

    def vanishes(self, head: int, position: int) -> bool:
        """Whether the knob's ReLU leaves no operator that begins with this node."""
        return head not in self._signatures[position,]

    def lookup(self, key: int, rows: Rows, knobs: Knobs) -> Lookup:
        """Rows of an operator or a tensor under all plans: zero where the operator is gone; a tensor that is not stored
        keeps the size that it has in the network itself."""
        deciding = self.deciding(key)
        found = {*deciding}
        for positions in ((), *((p,) for p in deciding), deciding):
            lowered = self._lowered(positions)
            place = self._place(lowered.program, key)
            found |= {*knobs(lowered, place)} if place is not None else set()

        def function(some: Workload) -> np.ndarray:
            chosen = np.asarray(some.vectors)[:, list(deciding)] != 0
            combinations, which = np.unique(chosen, axis=0, return_inverse=True)
            order = np.argsort(which.reshape(-1), kind="stable")
            parts = [
                self._rows(rows, key, tuple(np.array(deciding)[combination].tolist()), some.vectors[where], some.batch)
                for i, combination in enumerate(combinations)
                for where in [np.flatnonzero(which.reshape(-1) == i)]
            ]
            return np.concatenate(parts)[np.argsort(order, kind="stable")]

        return Lookup(once(found), function)

    def _rows(self, rows: Rows, key: int, positions: Positions, vectors: np.ndarray, batch: int) -> np.ndarray:
        space, program = self.under(positions)
        place = self._place(program, key)
        if place is None:
            space, program = self.under(())
            place = self._place(program, key)
            zero = 0.0 if key >= 0 else 1.0
        else:
            zero = 1.0
        if place is None:  # an operator that only another combination has
            space, program = next(one for one in self._known.values() if self._place(one[1], key) is not None)
            place = self._place(program, key)
        assert place is not None
        return rows(LoweredNetwork(self.device, program, Workload(space, vectors, batch)), place) * zero

    def _lowered(self, positions: Positions) -> LoweredNetwork:
        space, program = self.under(positions)
        return LoweredNetwork(self.device, program, Workload(space, np.zeros((1, len(space.knobs)), np.intp)))

    @staticmethod
    def _place(program: Program, key: int) -> int | None:
        """The position of the operator, or the node of the tensor, where the program has it."""
        if key < 0:
            return ~key if ~key in program.readers else None
        return next((i for i, operator in enumerate(program.operators) if operator.head == key), None)


def _signatures(program: Program) -> list[tuple[int, object]]:
    graph, flow = program.graph, program.flow
    found: list[tuple[int, object]] = []
    for operator in program.operators:
        touched = (*operator.nodes, *operator.reads)
        described = tuple((i, graph.nodes[i].op, flow.conditions[i]) for i in touched)
        found.append((operator.head, (operator, described)))
    for node, readers in program.readers.items():
        reading = tuple(program.operators[position] for position in readers)
        found.append((~node, (flow.conditions[node], reading)))
    return found


@dataclass(frozen=True)
class RectifiedBuffers(Buffers):
    """The runtime's buffers. changed: those at positions of the network's own program that ReLUs change."""

    own: Buffers
    changed: Mapping[int, Lookup]

    def tabulated(self, tabulate: Callable[[Lookup], Lookup]) -> RectifiedBuffers:
        changed = {position: tabulate(lookup) for position, lookup in self.changed.items()}
        return RectifiedBuffers(self.own.tabulated(tabulate), changed)

    def bytes_of(self, workload: Workload, operators: int) -> np.ndarray:
        found = np.array(np.broadcast_to(self.own.bytes_of(workload, operators), (operators, len(workload))))
        for position, lookup in self.changed.items():
            found[position] = lookup(workload)
        return found

    def at(self, position: int) -> Lookup | None:
        return self.changed.get(position, self.own.at(position))
