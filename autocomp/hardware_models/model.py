"""Costs of many plans, from tables over the few knobs that each operator depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import FLOAT_BITS, LayerChain, SearchSpace, Workload, constant_bytes, once

from .cost import Cost, OperatorCost
from .lookup import Lookup
from .lowered import LoweredNetwork
from .memory import Memory
from .operators import Program
from .rectified import RectifiedPrograms
from .roofline import work
from .structures import in_variant, knobs_that_skip, unless_skipped, where_present

if TYPE_CHECKING:
    from .device_model import Device

CHUNK = 16384
COLUMNS = 8  # seconds, memory bytes of weights, file bytes, joules, macs, params, bops, weight bytes


def costs(device: Device, workload: Workload) -> Cost:
    """The costs of every plan of the workload. A Python loop runs over operators and chunks of plans, never over
    plans."""
    program = device.program(workload.graph)
    operators = [lookup.tabulated(workload) for lookup in _operators(device, program, workload)]
    memory = Memory.of(LoweredNetwork(device, program, workload)).tabulated(lambda lookup: lookup.tabulated(workload))
    totals = np.empty((len(workload), COLUMNS))
    peak = np.empty(len(workload))
    for start in range(0, len(workload), CHUNK):
        part = slice(start, start + CHUNK)
        chunk = workload[part]
        totals[part] = _constant(device, workload)
        for lookup in operators:
            totals[part] += lookup(chunk)
        peak[part] = memory.peak(chunk)
    return cost_of(totals, peak)


def cost_of(totals: np.ndarray, peak: np.ndarray) -> Cost:
    """totals: (n, COLUMNS); peak: (n,) bytes of live activations."""
    seconds, weights, file, joules, *counts = np.ascontiguousarray(totals.T)
    of_a_context = np.zeros((2, len(totals)))
    return Cost(seconds * 1e3, (weights + peak) / 1e6, file / 1e6, joules * 1e3, *counts, *of_a_context)


def _constant(device: Device, workload: Workload) -> np.ndarray:
    """(COLUMNS,): the costs that belong to no operator."""
    graph = workload.graph
    program = device.program(graph)
    lowered = LoweredNetwork(device, program, workload)
    norms = sum(len(node.units) for node in graph.nodes if node.kind == "batchnorm") * lowered.norm_params_per_channel
    others = float(graph.other_params - norms)
    constants = constant_bytes(graph)
    memory, file = others * device.float_bits / 8, others * 4 + device.container.of_network(program, graph)
    memory, file = memory + constants * device.float_bits / 32, file + constants
    return np.array([device.rates.inference_s, memory, file, 0.0, 0.0, others, 0.0, others * FLOAT_BITS / 8])


def _operators(device: Device, program: Program, workload: Workload) -> list[Lookup]:
    """Those of the network, and those of the chains that may replace its layers; without those of skipped blocks, and
    with ReLUs where plans have them."""
    space, own, skips = workload.space, program.graph.nodes, knobs_that_skip(workload.space)
    found = []
    for index, lookup in _rectified(device, program, workload).items():
        head = own[index]
        found.append(unless_skipped(where_present(lookup, space, head.layer), skips.get(head.name)))
    for variant, chains in zip(space.variants, space.chains_of_variants, strict=True):
        lowered = Workload(variant, workload.vectors, workload.batch)
        program = device.program(variant.graph)
        more = device.container.of_chains(workload.graph, variant.graph)
        for index, lookup in _rectified(device, program, lowered, space, chains).items():
            node = program.graph.nodes[index]
            replaced = node.attributes.replaces
            if replaced is not None:
                bytes_more = more[replaced] if program.graph.starts_chain(index) else 0.0
                present = where_present(in_variant(lookup, variant), space, node.layer, bytes_more)
                found.append(unless_skipped(present, skips.get(replaced)))
    return found + [_saved(device, workload, position) for position in (*space.blocks, *space.activations)]


def _rectified(
    device: Device,
    program: Program,
    workload: Workload,
    space: SearchSpace | None = None,
    chains: Mapping[str, LayerChain] | None = None,
) -> dict[int, Lookup]:
    """The lookups of a network's operators by their first nodes, also with the ReLUs that plans put in the place of
    activations. space: of the network in which these chains stand."""
    heads = [operator.head for operator in program.operators]
    found = dict(zip(heads, _lookups(device, program, workload), strict=True))
    if not (space or workload.space).activations:
        return found
    programs = RectifiedPrograms(device, space or workload.space, chains)
    return {
        head: programs.lookup(head, _columns, _knobs) if programs.deciding(head) else found[head]
        for head in programs.heads
    }


def _saved(device: Device, workload: Workload, position: int) -> Lookup:
    """What belongs to no operator and is gone without a block, or with a ReLU in the place of an activation, negative,
    under the plans that choose that."""
    blocks, activations = workload.space.blocks, workload.space.activations
    skipped = (blocks[position],) if position in blocks else ()
    shorter = workload.space.specialised({}, skipped, () if skipped else (activations[position],))
    less = _constant(device, Workload(shorter, workload.vectors, workload.batch)) - _constant(device, workload)
    return Lookup((), lambda some: np.tile(less, (len(some), 1)), where=((position, (0.0, 1.0)),))


def _lookups(device: Device, program: Program, workload: Workload) -> list[Lookup]:
    def rows(position: int) -> Callable[[Workload], np.ndarray]:
        return lambda some: _columns(LoweredNetwork(device, program, some), position)

    lowered = LoweredNetwork(device, program, workload)
    return [Lookup(_knobs(lowered, i), rows(i)) for i in range(len(program.operators))]


def _columns(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n, COLUMNS) of an operator."""
    device, w = lowered.device, work(lowered, position)
    seconds = device.rates.seconds(w.demand).total * device.table.factor(lowered, position)
    columns = (seconds, w.memory_bytes, w.file_bytes, w.energy_j, w.macs, w.params, w.bops, w.weight_bytes)
    return np.stack(columns, axis=1)


def _knobs(lowered: LoweredNetwork, position: int) -> tuple[int, ...]:
    operator = lowered.program.operators[position]
    return once({*lowered.knobs(operator), *lowered.device.runtime.layout_knobs(lowered, operator)})


@dataclass(frozen=True)
class Contributions:
    """What the operators of one network add to its costs, of which those of similar networks are put together.

    heads: (operators,) int, the node with which each begins. columns: (operators, COLUMNS). live: (operators,) bytes of
    activations while each runs. constant: (COLUMNS,), what belongs to no operator.
    """

    heads: np.ndarray
    columns: np.ndarray
    live: np.ndarray
    constant: np.ndarray


def contributions(device: Device, workload: Workload) -> Contributions:
    """Of the one plan of a workload without knobs."""
    program = device.program(workload.graph)
    columns = [lookup(workload)[0] for lookup in _lookups(device, program, workload)]
    memory = Memory.of(LoweredNetwork(device, program, workload))
    live = [float(needed[0]) for needed in memory.over_time(workload)][1:]
    heads = [operator.head for operator in program.operators]
    return Contributions(np.array(heads), np.array(columns), np.array(live), _constant(device, workload))


def operator_costs(device: Device, workload: Workload) -> list[OperatorCost]:
    """One row for each operator, for a workload of one plan."""
    if len(workload) != 1:
        raise ValueError(f"the table of operators is for one plan, but got {len(workload)}")
    workload = workload.specialised
    program = device.program(workload.graph)
    lowered = LoweredNetwork(device, program, workload)
    names: Sequence[str] = [node.layer or node.name for node in workload.graph.nodes]
    works = [work(lowered, position) for position in range(len(program.operators))]
    times = [device.rates.seconds(w.demand) for w in works]
    factors = [float(np.ravel(device.table.factor(lowered, position))[0]) for position in range(len(works))]
    seconds = [float(time.total[0]) * factor for time, factor in zip(times, factors, strict=True)]
    total = device.rates.inference_s + sum(seconds)
    rows = []
    for operator, w, time, taken in zip(program.operators, works, times, seconds, strict=True):
        parts = {"compute": time.compute[0], "memory": time.memory[0], "launch": np.ravel(time.launch)[0]}
        rows.append(
            OperatorCost(
                name=names[operator.head],
                kind=program.graph.nodes[operator.head].kind,
                fused=tuple(names[i] for i in operator.nodes[1:]),
                latency_ms=taken * 1e3,
                bound=max(parts, key=lambda part, parts=parts: parts[part]),  # type: ignore[misc]
                share=taken / total,
                bytes=float(w.demand.traffic[0] + w.demand.weights[0]),
                macs=float(w.macs[0]),
            )
        )
    return rows
