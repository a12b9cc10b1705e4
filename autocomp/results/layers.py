"""The network under each plan, operator by operator: what a report draws, also where the network is not at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autocomp.process.bounded_files import parse_json, read_text
from autocomp.search_spaces import Plan

FILE = "layers.json"
SCHEMA = 1


@dataclass(frozen=True)
class DrawnOperator:
    """An operator as the device runs it: a layer with the operators fused into it.

    inputs: positions of the operators that it reads. channels: of its output, 0 where it has no channel axis.
    why_whole: the reason why its channels cannot be cut, empty where they can.
    """

    name: str
    kind: str
    fused: tuple[str, ...]
    inputs: tuple[int, ...]
    channels: int
    why_whole: str = ""


@dataclass(frozen=True)
class LayerCosts:
    """One plan at one operator.

    channels: kept. format: of the weights and inputs, empty for operators without weights. primitives: those that carry
    the plan's choices out here. bytes: moved. bound: the largest part of its time: ``compute memory launch``.
    memory_mb: of weights and live tensors while it runs.
    """

    channels: int
    format: str
    primitives: tuple[str, ...]
    latency_ms: float
    bytes: float
    bound: str
    memory_mb: float = 0.0


@dataclass(frozen=True)
class LayerTables:
    """operators: in execution order. plans: key of a plan -> its row for each operator. fixed_ms: latency of an
    inference that belongs to no operator. unpaid: key of a plan -> its cuts that make it no faster, ``"keep 0.9 of
    layer4"``. device: for which the costs are predicted."""

    operators: tuple[DrawnOperator, ...]
    plans: Mapping[str, tuple[LayerCosts, ...]] = field(default_factory=dict)
    fixed_ms: float = 0.0
    unpaid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    device: str = ""

    def __contains__(self, plan: Plan) -> bool:
        return plan.key in self.plans

    def rows(self, plan: Plan) -> Iterator[tuple[DrawnOperator, LayerCosts, LayerCosts]]:
        """Each operator with its row under the plan and under no plan."""
        return zip(self.operators, self.plans[plan.key], self.plans[Plan().key], strict=True)

    def share(self, costs: LayerCosts, plan: Plan) -> float:
        """The part of the plan's latency that this row takes."""
        return costs.latency_ms / (self.fixed_ms + sum(row.latency_ms for row in self.plans[plan.key]))

    def to_json(self) -> str:
        return json.dumps({"schema": SCHEMA, **asdict(self)}) + "\n"

    @classmethod
    def read(cls, folder: Path) -> LayerTables | None:
        """None where the folder has no such file; ValueError for one that :meth:`to_json` did not write."""
        path = folder / FILE
        if not path.is_file():
            return None
        value = parse_json(read_text(path), str(path))
        try:
            operators = tuple(DrawnOperator(**_tuples(row)) for row in value["operators"])
            plans = {key: tuple(LayerCosts(**_tuples(row)) for row in rows) for key, rows in value["plans"].items()}
            unpaid = {str(key): tuple(map(str, cuts)) for key, cuts in value.get("unpaid", {}).items()}
            return cls(operators, plans, float(value["fixed_ms"]), unpaid, str(value.get("device", "")))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} must be what ParetoSet.save writes, but it lacks {error}") from error


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
