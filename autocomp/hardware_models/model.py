"""Costs of many plans: what depends on few knobs is computed once for each of their combinations, then looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import Workload

from .cost import Cost, OperatorCost
from .operators import Program, lower
from .roofline import Traced, work
from .transient import transient_bytes, transient_knobs

if TYPE_CHECKING:
    from .device import Device

CHUNK = 16384
MOST_COMBINATIONS = 65536
COLUMNS = 6  # seconds, weight bytes, file bytes, joules, macs, params


@dataclass(frozen=True)
class Lookup:
    """A function of plans that looks at few knobs only: ``rows``, where present, holds it for their combinations."""

    knobs: tuple[int, ...]
    function: Callable[[Workload], np.ndarray]
    rows: np.ndarray | None = None

    def tabulated(self, workload: Workload) -> Lookup:
        if workload.grid_size(self.knobs) > min(len(workload) // 2, MOST_COMBINATIONS):
            return self
        return replace(self, rows=self.function(workload.grid(self.knobs)))

    def __call__(self, workload: Workload) -> np.ndarray:
        if self.rows is None:
            return self.function(workload)
        return np.take(self.rows, workload.codes(self.knobs), axis=0)


def costs(device: Device, workload: Workload) -> Cost:
    """Of every plan of the workload; a Python loop runs over operators and chunks of plans, never over plans."""
    program = lower(workload.graph)
    operators = [lookup.tabulated(workload) for lookup in _operators(device, program, workload)]
    tensors = {node: lookup.tabulated(workload) for node, lookup in _tensors(device, program, workload).items()}
    transients = {p: lookup.tabulated(workload) for p, lookup in _transients(device, program, workload).items()}
    totals = np.empty((len(workload), COLUMNS))
    peak = np.empty(len(workload))
    for start in range(0, len(workload), CHUNK):
        part = slice(start, start + CHUNK)
        chunk = workload[part]
        totals[part] = _constant(device, program, workload)
        for lookup in operators:
            totals[part] += lookup(chunk)
        peak[part] = _peak(program, tensors, transients, chunk)
    seconds, weights, file, joules, macs, params = totals.T
    return Cost(seconds * 1e3, (weights + peak) / 1e6, file / 1e6, joules * 1e3, macs, params.copy())


def _constant(device: Device, program: Program, workload: Workload) -> np.ndarray:
    """(COLUMNS,): what no operator has."""
    graph = workload.graph
    traced = Traced(device, program, workload)
    norms = sum(len(node.units) for node in graph.nodes if node.kind == "batchnorm") * traced.norm_params_per_channel
    others = float(graph.other_params - norms)
    memory, file = others * device.float_bits / 8, others * 4 + device.container.node * len(graph.nodes)
    return np.array([device.rates.inference_s, memory, file, 0.0, 0.0, others])


def _operators(device: Device, program: Program, workload: Workload) -> list[Lookup]:
    def rows(position: int) -> Callable[[Workload], np.ndarray]:
        def function(some: Workload) -> np.ndarray:
            traced = Traced(device, program, some)
            w = work(traced, position)
            seconds = device.rates.seconds(w.demand).total * device.table.factor(traced, position)
            columns = (seconds, w.memory_bytes, w.file_bytes, w.energy_j, w.macs, w.params)
            return np.stack(columns, axis=1)

        return function

    traced = Traced(device, program, workload)
    return [Lookup(traced.knobs(operator), rows(i)) for i, operator in enumerate(program.operators)]


def _tensors(device: Device, program: Program, workload: Workload) -> dict[int, Lookup]:
    """For each stored tensor its bytes."""

    def size(node: int) -> Callable[[Workload], np.ndarray]:
        def function(some: Workload) -> np.ndarray:
            traced = Traced(device, program, some)
            return traced.elements(node) * traced.width(node)

        return function

    def knobs(node: int) -> tuple[int, ...]:
        readers = {program.operators[p].head for p in program.readers[node]}
        if device.integer_chain:
            readers |= Traced(device, program, workload).deciding(node)
        return workload.knobs_of([node], readers)

    return {node: Lookup(knobs(node), size(node)) for node in program.readers}


def _transients(device: Device, program: Program, workload: Workload) -> dict[int, Lookup]:
    """For each operator, by position, the room that it needs while it runs."""

    def size(position: int) -> Callable[[Workload], np.ndarray]:
        return lambda some: transient_bytes(Traced(device, program, some), position)

    if not device.integer_chain:
        return {}
    traced = Traced(device, program, workload)
    return {i: Lookup(transient_knobs(traced, operator), size(i)) for i, operator in enumerate(program.operators)}


def _peak(
    program: Program, tensors: dict[int, Lookup], transients: dict[int, Lookup], workload: Workload
) -> np.ndarray:
    """(n,) bytes: the most that is live at once. A tensor lives from the operator that writes it to its last reader."""
    sizes = {node: lookup(workload) for node, lookup in tensors.items()}
    written = {operator.output for operator in program.operators}
    live = sum((sizes[node] for node in program.readers if node not in written), np.zeros(len(workload)))
    peak = live.copy()
    for position, operator in enumerate(program.operators):
        live += sizes[operator.output]
        room = transients[position](workload) if position in transients else 0.0
        np.maximum(peak, live + room, out=peak)
        for node in {*operator.reads, operator.output}:
            if program.last_reader(node) <= position:
                live -= sizes[node]
    return peak


def operator_costs(device: Device, workload: Workload) -> list[OperatorCost]:
    """The rows of the table for one plan."""
    if len(workload) != 1:
        raise ValueError(f"the table of operators is for one plan, but got {len(workload)}")
    program = lower(workload.graph)
    traced = Traced(device, program, workload)
    names: Sequence[str] = [node.layer or node.name for node in workload.graph.nodes]
    works = [work(traced, position) for position in range(len(program.operators))]
    times = [device.rates.seconds(w.demand) for w in works]
    factors = [float(np.ravel(device.table.factor(traced, position))[0]) for position in range(len(works))]
    seconds = [float(time.total[0]) * factor for time, factor in zip(times, factors, strict=True)]
    total = device.rates.inference_s + sum(seconds)
    rows = []
    for operator, w, time, taken in zip(program.operators, works, times, seconds, strict=True):
        parts = {"compute": time.compute[0], "memory": time.memory[0], "launch": np.ravel(time.launch)[0]}
        rows.append(
            OperatorCost(
                name=names[operator.head],
                kind=workload.graph.nodes[operator.head].kind,
                fused=tuple(names[i] for i in operator.nodes[1:]),
                latency_ms=taken * 1e3,
                bound=max(parts, key=lambda part, parts=parts: parts[part]),  # type: ignore[misc]
                share=taken / total,
                bytes=float(w.demand.traffic[0] + w.demand.weights[0]),
                macs=float(w.macs[0]),
            )
        )
    return rows
