"""Fills the tables of a front's layers: what each plan makes of each operator, and what that costs on the device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models import Device, OperatorCost
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.memory import Memory
from autocomp.hardware_models.operators import Program
from autocomp.results.layers import DrawnOperator, LayerCosts, LayerTables
from autocomp.results.point import carried_out_by_default
from autocomp.search_spaces import ChannelGroup, Plan, SearchSpace, Workload, split_value

KEEP = "keep/"
LEAST_GAIN = 1e-3  # share of a plan's latency; less is no gain


@dataclass(frozen=True)
class LayerCounter:
    """Of one space on one device, for inferences of ``batch`` samples."""

    device: Device
    space: SearchSpace
    batch: int = 1

    def __call__(self, plans: Iterable[Plan]) -> LayerTables:
        """The tables of these plans and of the float network."""
        wanted = {plan.key: plan for plan in (Plan(), *plans)}
        rows = {key: self._rows(plan) for key, plan in wanted.items()}
        unpaid = {key: cuts for key, plan in wanted.items() if (cuts := self._unpaid(plan))}
        return LayerTables(self._operators(), rows, 1e3 * self.device.rates.inference_s, unpaid, self.device.name)

    def _unpaid(self, plan: Plan) -> tuple[str, ...]:
        """The cuts of channels without which the plan is predicted to be as fast."""
        cuts = [name for name in plan if name.startswith(KEEP)]
        if not cuts:
            return ()
        plans = [plan, *(Plan({name: plan[name] for name in plan if name != cut}) for cut in cuts)]
        vectors = np.stack([self.space.encode(one) for one in plans])
        with_all, *without = self.device.costs(self.space.workload(vectors, self.batch)).latency_ms
        return tuple(
            f"keep {float(split_value(plan[cut])[0]):.2g} of {cut.removeprefix(KEEP)}"
            for cut, latency in zip(cuts, without, strict=True)
            if latency - with_all < LEAST_GAIN * with_all
        )

    def _operators(self) -> tuple[DrawnOperator, ...]:
        program = self._program
        writer = {i: position for position, one in enumerate(program.operators) for i in one.nodes}
        nodes = program.graph.nodes

        def written_by(node: int) -> Iterable[int]:
            """Through operators that cost nothing, back to those that do."""
            if node in writer:
                return (writer[node],)
            return [found for source in nodes[node].inputs for found in written_by(source)]

        return tuple(
            DrawnOperator(
                nodes[one.head].layer or nodes[one.head].name,
                nodes[one.head].kind,
                tuple(nodes[i].layer or nodes[i].name for i in one.nodes[1:]),
                tuple(dict.fromkeys(found for node in one.reads for found in written_by(node))),
                len(nodes[one.head].units),
                program.graph.whole.get(nodes[one.head].layer or "", ""),
            )
            for one in program.operators
        )

    def _rows(self, plan: Plan) -> tuple[LayerCosts, ...]:
        """Layers in the place of one are counted as that one."""
        workload = self.space.workload(self.space.encode(plan)[None], self.batch)
        program, formats, primitives = self._program, self.space.formats(plan), self._primitives(plan)
        found, memory = self._counted(workload), self._memory(workload)
        rows, places = [], {place for knob in self.space.knobs for place in knob.layers} | {*self.space.graph.layers}
        for one, live in zip(program.operators, memory, strict=True):
            node, taken = program.graph.nodes[one.head], found.get(program.graph.nodes[one.head].place, [])
            costs = taken if len({cost.name for cost in taken}) > 1 else taken[:1]
            found[node.place] = taken[len(costs) :]
            rows.append(
                LayerCosts(
                    int(workload.channels_of(one.head)[0]) if node.units.size else 0,
                    str(formats.get(node.place, "float")) if node.place in places else "",
                    primitives.get(node.place, ()),
                    sum(cost.latency_ms for cost in costs),
                    sum(cost.bytes for cost in costs),
                    max(costs, key=lambda cost: cost.latency_ms).bound if costs else "",
                    live,
                )
            )
        return tuple(rows)

    def _memory(self, workload: Workload) -> list[float]:
        """MB while each operator runs, weights included."""
        memory = Memory.of(LoweredNetwork(self.device, self._program, workload))
        live = [float(found[0]) for found in memory.over_time(workload)]
        weights = 1e6 * float(self.device.costs(workload).memory_mb[0]) - max(live)
        return [(weights + found) / 1e6 for found in live[1:]]

    @property
    def _program(self) -> Program:
        return self.device.program(self.space.graph)

    def _counted(self, workload: Workload) -> dict[str, list[OperatorCost]]:
        """The costs of a plan's operators, by the layer that they carry out or the operator's own name."""
        program, found = self.device.program(workload.specialised.graph), dict[str, list[OperatorCost]]()
        for one, cost in zip(program.operators, self.device.cost_table(workload), strict=True):
            node = program.graph.nodes[one.head]
            found.setdefault(node.attributes.replaces or node.place, []).append(cost)
        return found

    def _primitives(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """Layer -> the primitives that work on it; of a channel group on every layer that loses outputs."""
        found: dict[str, dict[str, None]] = {}
        for knob in self.space.knobs:
            if knob.name in plan:
                for layer in self._layers(knob.layers, knob.group):
                    found.setdefault(layer, {})[carried_out_by_default(knob.name, plan[knob.name])] = None
        return {layer: tuple(names) for layer, names in found.items()}

    def _layers(self, layers: Iterable[str], group: ChannelGroup | None) -> Iterable[str]:
        if group is None:
            return layers
        nodes = self.space.graph.nodes
        cut = {name: nodes[i].units for name, i in self.space.graph.layers.items()}
        return [name for name, units in cut.items() if ((units >= group.start) & (units < group.stop)).any()]
