"""The knobs together: plans as integer vectors, and what a plan does to the network's channels and bits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .formats import Format
from .graph import NetworkGraph
from .knob import SPARSE, Knob
from .plan import Plan
from .workload import Workload


@dataclass(frozen=True)
class SearchSpace:
    """All knobs of a network. A plan is a vector with the index of one value for every knob."""

    graph: NetworkGraph
    knobs: tuple[Knob, ...]

    def __post_init__(self) -> None:
        names = [knob.name for knob in self.knobs]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"each knob may be in a search space once, but these are in it twice: {', '.join(twice)}")

    @cached_property
    def sizes(self) -> np.ndarray:
        """(knobs,) int: values of each knob."""
        return np.array([len(knob.values) for knob in self.knobs], np.int64)

    @property
    def log10_size(self) -> float:
        return sum(math.log10(size) for size in self.sizes)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {knob.name: i for i, knob in enumerate(self.knobs)}

    def encode(self, plan: Plan) -> np.ndarray:
        """(knobs,) int; ValueError for a knob or value that the space does not have."""
        vector = np.zeros(len(self.knobs), np.int64)
        for name, value in plan.items():
            if name not in self._position:
                raise ValueError(f"unknown knob {name!r}; known: {', '.join(self._position)}")
            position = self._position[name]
            vector[position] = self.knobs[position].index(value)
        return vector

    def decode(self, vector: Iterable[int]) -> Plan:
        choices = zip(self.knobs, vector, strict=True)
        return Plan({knob.name: knob.values[int(i)] for knob, i in choices if i != 0})

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, knobs) int, each value of a knob equally likely."""
        return rng.integers(0, self.sizes, (count, len(self.knobs)))

    def kept(self, plan: Plan) -> np.ndarray:
        """(units,) bool: which of the graph's units the plan keeps."""
        mask = np.ones(self.graph.unit_count, bool)
        for name, value in plan.items():
            knob = self.knobs[self._position[name]]
            if knob.group is not None:
                mask[knob.group.start : knob.group.stop] &= knob.kept[knob.index(value)]
        return mask

    def formats(self, plan: Plan) -> dict[str, Format]:
        """Layer -> its format, for the layers that the plan quantizes."""
        chosen: dict[str, Format] = {}
        for name, value in plan.items():
            knob = self.knobs[self._position[name]]
            if knob.kind == "format":
                chosen |= dict.fromkeys(knob.layers, knob.formats[knob.index(value)])
        return chosen

    def primitives(self, plan: Plan) -> dict[str, str]:
        """Name of each knob that the plan sets -> the primitive that carries out its value."""
        return {name: self.knobs[self._position[name]].primitive_of(value) for name, value in plan.items()}

    def rounded_by(self, plan: Plan) -> dict[str, str]:
        """Layer -> the primitive that rounds it, for the layers that the plan quantizes."""
        found: dict[str, str] = {}
        for name, primitive in self.primitives(plan).items():
            knob = self.knobs[self._position[name]]
            if knob.kind == "format":
                found |= dict.fromkeys(knob.layers, primitive)
        return found

    def sparse(self, plan: Plan) -> frozenset[str]:
        """The layers in which two of every four weights are zero."""
        return frozenset(
            layer
            for name, value in plan.items()
            if value == SPARSE and (knob := self.knobs[self._position[name]]).kind == "sparsity"
            for layer in knob.layers
        )

    @cached_property
    def sparse_tables(self) -> tuple[tuple[tuple[int, np.ndarray], ...], ...]:
        """For each node: position of its sparsity knob, if it has one, with (values,) bool: whether it is sparse."""
        tables: list[list[tuple[int, np.ndarray]]] = [[] for _ in self.graph.nodes]
        for position, knob in enumerate(self.knobs):
            if knob.kind == "sparsity":
                values = np.array([value == SPARSE for value in knob.values])
                for i, node in enumerate(self.graph.nodes):
                    if node.layer is not None and node.layer in knob.layers:
                        tables[i].append((position, values))
        return tuple(map(tuple, tables))

    @cached_property
    def channel_tables(self) -> tuple[tuple[tuple[int, np.ndarray], ...], ...]:
        """For each node: positions of the keep knobs that cut it, each with (values,) int: channels that a value
        removes."""
        tables: list[list[tuple[int, np.ndarray]]] = [[] for _ in self.graph.nodes]
        for position, knob in enumerate(self.knobs):
            if knob.group is None:
                continue
            counts = np.stack([self._units_per_node(node.units, knob) for node in self.graph.nodes])
            for node in np.flatnonzero(counts.any(1)):
                tables[node].append((position, (~knob.kept).astype(np.int64) @ counts[node]))
        return tuple(map(tuple, tables))

    @cached_property
    def format_tables(self) -> tuple[tuple[tuple[int, np.ndarray], ...], ...]:
        """For each node: position of its format knob, if it has one, with (values, 2) int: bits of weights and
        activations."""
        tables: list[list[tuple[int, np.ndarray]]] = [[] for _ in self.graph.nodes]
        for position, knob in enumerate(self.knobs):
            if knob.kind != "format":
                continue
            bits = np.array([(f.weight_bits, f.activation_bits) for f in knob.formats])
            for i, node in enumerate(self.graph.nodes):
                if node.layer is not None and node.layer in knob.layers:
                    tables[i].append((position, bits))
        return tuple(map(tuple, tables))

    @cached_property
    def integer_values(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Position of a format knob -> a value for each group of its formats, and each value's group.

        The groups are those that are multiplied in floats and those that are multiplied in integers; one may be absent.
        """
        found = {}
        for position, knob in enumerate(self.knobs):
            if knob.kind == "format":
                integers = [one.in_integers for one in knob.formats]
                _, first, group = np.unique(integers, return_index=True, return_inverse=True)
                found[position] = first, group.reshape(-1)
        return found

    @staticmethod
    def _units_per_node(units: np.ndarray, knob: Knob) -> np.ndarray:
        assert knob.group is not None
        inside = units[(units >= knob.group.start) & (units < knob.group.stop)] - knob.group.start
        return np.bincount(inside, minlength=knob.group.units)

    def workload(self, vectors: np.ndarray, batch: int = 1) -> Workload:
        """The workload of these plans, (n, knobs) int: channels and bits of every node."""
        return Workload(self, np.atleast_2d(np.asarray(vectors)), batch)

    @cached_property
    def key(self) -> str:
        """Changes with the knobs, their values and the order in which channels are cut."""
        parts = [_described(knob) for knob in self.knobs]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _described(knob: Knob) -> list[object]:
    found: list[object] = [knob.name, knob.primitive, knob.values, None if knob.order is None else knob.order.tolist()]
    if knob.orders:
        found.append({name: order.tolist() for name, order in sorted(knob.orders.items())})
    return found
