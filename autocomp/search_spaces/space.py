"""The knobs together: plans as integer vectors, and what a plan does to the network's channels and bits."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .activations import KEPT, Activation, with_relus
from .blocks import ResidualBlock, kept_nodes, without_blocks
from .cached import CACHE_BITS, RoundedRead
from .chains import WHOLE, LayerChain, origins, with_chains
from .decoding import attentions
from .formats import Format
from .graph import NetworkGraph
from .knob import SPARSE, Knob
from .plan import Plan, Value
from .workload import Workload

MOST_SPECIALISED = 64  # spaces of chosen chains that are remembered


@dataclass(frozen=True)
class SearchSpace:
    """All knobs of a network. A plan is a vector with the index of one value for every knob.

    A layer that a chain replaces is not sparse, unless layers of the chain can be: a plan with both choices is the plan
    without zeros. What is chosen for layers of a skipped block alone is left out of a plan, too.
    """

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
        values = dict(plan)
        if left := self._left_out(values):
            raise ValueError(f"a plan chooses nothing for layers that it skips, but got {', '.join(sorted(left))}")
        if ignored := self._ignored(values):
            raise ValueError(f"a layer whose structure changes cannot be sparse, but got {', '.join(sorted(ignored))}")
        return vector

    def decode(self, vector: Iterable[int]) -> Plan:
        choices = zip(self.knobs, vector, strict=True)
        values = {knob.name: knob.values[int(i)] for knob, i in choices if i != 0}
        return Plan({name: values[name] for name in values.keys() - self._ignored(values)})

    def _ignored(self, values: Mapping[str, Value]) -> set[str]:
        """Choices that count for nothing: the sparsity of layers that chains replace in which no layer can be sparse,
        and what is chosen for skipped layers."""
        chains = self._chains(values)
        dense = {f"sparsity/{layer}" for layer, chain in chains.items() if not chain.sparse_layers} & values.keys()
        return dense | self._left_out(values)

    def _left_out(self, values: Mapping[str, Value]) -> set[str]:
        """Names of the knobs all of whose layers are skipped."""
        skipped = self._skipped(values)
        if not skipped:
            return set()
        gone = {layer for block in skipped for layer in block.layers}
        gone |= {name for name, i in self.graph.products.items() if any(i in block.nodes for block in skipped)}
        knobs = [self.knobs[self._position[name]] for name in values]
        return {knob.name for knob in knobs if knob.block is None and gone.issuperset(knob.layers)}

    def _skipped(self, values: Mapping[str, Value]) -> tuple[ResidualBlock, ...]:
        found = (self.knobs[self._position[name]].block for name, value in values.items() if value != WHOLE)
        return tuple(block for block in found if block is not None)

    def skipped(self, plan: Plan) -> tuple[ResidualBlock, ...]:
        """The blocks that the plan leaves out."""
        return self._skipped(dict(plan))

    def relus(self, plan: Plan) -> tuple[Activation, ...]:
        """The activations that the plan puts a ReLU in the place of."""
        found = (self.knobs[self._position[name]].activation for name, value in plan.items() if value != KEPT)
        return tuple(one for one in found if one is not None)

    def _chains(self, values: Mapping[str, Value]) -> dict[str, LayerChain]:
        """Layer -> the chain that replaces it."""
        found = {}
        for name, value in values.items():
            knob = self.knobs[self._position[name]]
            if knob.chains and value != WHOLE:
                found[knob.layers[0]] = knob.chains[knob.values[knob.index(value)]]
        return found

    def structure(self, plan: Plan) -> dict[str, LayerChain]:
        """Layer -> the chain that replaces it, for the layers that the plan replaces."""
        return self._chains(dict(plan))

    def specialised(
        self,
        chains: Mapping[str, LayerChain],
        skipped: Collection[ResidualBlock] = (),
        relus: Collection[Activation] = (),
    ) -> SearchSpace:
        """The space of the network in which these chains stand, and ReLUs for these activations, without the skipped
        blocks: it has the same knobs, whose layers are those of the chains where these replace some, so that it takes
        the same plans and vectors."""
        if not chains and not skipped and not relus:
            return self
        replaced = tuple((layer, chain.layers) for layer, chain in sorted(chains.items()))
        key = replaced, tuple(sorted(block.name for block in skipped)), tuple(sorted(one.name for one in relus))
        if key not in self._specialised:
            if len(self._specialised) >= MOST_SPECIALISED:
                self._specialised.clear()
            knobs = tuple(_on_chains(knob, chains) for knob in self.knobs)
            graph = with_chains(self._without(skipped, relus), chains)
            self._specialised[key] = SearchSpace(graph, knobs)
        return self._specialised[key]

    def _without(self, skipped: Collection[ResidualBlock], relus: Collection[Activation]) -> NetworkGraph:
        return without_blocks(with_relus(self.graph, relus), skipped, _inner(relus))

    def of_plan(self, plan: Plan) -> SearchSpace:
        """The space of the network in which the plan's chains and ReLUs stand, without the blocks that it skips."""
        return self.specialised(self.structure(plan), self.skipped(plan), self.relus(plan))

    def origins(
        self,
        chains: Mapping[str, LayerChain],
        skipped: Collection[ResidualBlock] = (),
        relus: Collection[Activation] = (),
    ) -> tuple[int | None, ...]:
        """For each node of the specialised space's graph the node of the graph with the same output, or of which a ReLU
        has the place; None within a chain."""
        kept = kept_nodes(self.graph, skipped, _inner(relus))
        found = origins(self._without(skipped, relus), chains)
        return tuple(None if i is None else kept[i] for i in found)

    @cached_property
    def _specialised(self) -> dict[object, SearchSpace]:
        return {}

    @cached_property
    def variants(self) -> tuple[SearchSpace, ...]:
        """Specialised spaces in which together every chain of every layer stands; the k-th has the k-th of each layer
        that has so many."""
        return tuple(self.specialised(chains) for chains in self.chains_of_variants)

    @cached_property
    def chains_of_variants(self) -> tuple[dict[str, LayerChain], ...]:
        """Layer -> the chain in its place, for each of the variants."""
        most = max(map(len, self.chains.values()), default=0)
        return tuple({layer: found[k] for layer, found in self.chains.items() if k < len(found)} for k in range(most))

    @cached_property
    def chains(self) -> dict[str, tuple[LayerChain, ...]]:
        """Layer -> the chains that may replace it."""
        knobs = [knob for knob in self.knobs if knob.chains]
        return {knob.layers[0]: tuple(knob.chains[value] for value in knob.values[1:]) for knob in knobs}

    @cached_property
    def blocks(self) -> dict[int, ResidualBlock]:
        """Position of each knob that skips a block -> the block."""
        return {position: knob.block for position, knob in enumerate(self.knobs) if knob.block is not None}

    @cached_property
    def activations(self) -> dict[int, Activation]:
        """Position of each knob that puts a ReLU in the place of an activation -> the activation."""
        return {position: knob.activation for position, knob in enumerate(self.knobs) if knob.activation is not None}

    @cached_property
    def structure_tables(self) -> dict[str, tuple[int, np.ndarray]]:
        """Layer that chains may replace, or layer of a chain -> position of the knob, with (values,) bool: under which
        values the layer is there."""
        found: dict[str, tuple[int, np.ndarray]] = {}
        for position, knob in enumerate(self.knobs):
            if knob.chains:
                found[knob.layers[0]] = position, np.arange(len(knob.values)) == 0
                for i, value in enumerate(knob.values[1:], 1):
                    here = position, np.arange(len(knob.values)) == i
                    found |= dict.fromkeys(knob.chains[value].layers, here)
        return found

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

    def cache(self, plan: Plan) -> dict[str, RoundedRead]:
        """Product of two activations -> how what it reads from the cache is rounded, where the plan rounds it."""
        found: dict[str, RoundedRead] = {}
        for name, value in plan.items():
            knob = self.knobs[self._position[name]]
            if knob.kind == "cache" and (bits := CACHE_BITS[str(value)]) is not None:
                keys, values = knob.layers
                found |= {keys: RoundedRead(bits, keys=True), values: RoundedRead(bits, keys=False)}
        return found

    def cache_parts(self, plan: Plan) -> tuple[int | None, ...]:
        """Bits of the keys and of the values of each attention that the plan leaves, in execution order; None: in
        floats."""
        rounded = self.cache(plan)
        names = [name for one in attentions(self.of_plan(plan).graph) for name in one.products]
        return tuple(rounded[name].bits if name in rounded else None for name in names)

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
    def divided_tables(self) -> tuple[tuple[tuple[int, np.ndarray], ...], ...]:
        """For each node: position of its format knob, if that may divide the input by scales, with (values,) int: 1
        where it does, 2 where it also rounds each row with a range of its own. The layers of chains take no scales."""
        tables: list[list[tuple[int, np.ndarray]]] = [[] for _ in self.graph.nodes]
        for position, knob in enumerate(self.knobs):
            if knob.dividing:
                values = np.array([knob.divides(value) + knob.by_row(value) for value in knob.values])
                for layer in knob.layers:
                    i = self.graph.layers.get(layer)
                    if i is not None and self.graph.nodes[i].attributes.replaces is None:
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

    def channel_knobs(self, node: int) -> set[int]:
        """Positions of the knobs that decide how many channels a node has."""
        if self.graph.nodes[node].attributes.narrowing is not None:
            return set().union(*map(self.channel_knobs, self.graph.around(node)))
        return {position for position, _ in self.channel_tables[node]}

    @cached_property
    def format_tables(self) -> tuple[tuple[tuple[int, np.ndarray], ...], ...]:
        """For each node: position of its format knob, if it has one, with (values, 3) int: bits of weights and
        activations, and the inputs that share a scale, 0 for all."""
        tables: list[list[tuple[int, np.ndarray]]] = [[] for _ in self.graph.nodes]
        for position, knob in enumerate(self.knobs):
            if knob.kind != "format":
                continue
            bits = np.array([(f.weight_bits, f.activation_bits, f.group) for f in knob.formats])
            for i, node in enumerate(self.graph.nodes):
                if node.place in knob.layers:
                    tables[i].append((position, bits))
        return tuple(map(tuple, tables))

    @cached_property
    def integer_values(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Position of a format knob -> a value for each group of its formats, and each value's group.

        The groups are those that are multiplied in floats, and those that are multiplied in integers without scales of
        the input, with scales, and with a range for each row, too; some may be absent.
        """
        found = {}
        for position, knob in enumerate(self.knobs):
            if knob.kind == "format":
                divides = [knob.divides(value) + knob.by_row(value) for value in knob.values]
                integers = [one.in_integers * (1 + more) for one, more in zip(knob.formats, divides, strict=True)]
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


def _on_chains(knob: Knob, chains: Mapping[str, LayerChain]) -> Knob:
    """The knob with the layers of chains in the place of those that they replace; what it put there itself stands."""
    if knob.chains or knob.block is not None or knob.activation is not None:
        return replace(knob, chains={}, block=None, activation=None)
    if not chains.keys() & set(knob.layers):
        return knob
    sparse = knob.kind == "sparsity"
    found = [
        chains[layer].sparse_layers if sparse else chains[layer].layers for layer in knob.layers if layer in chains
    ]
    whole = [layer for layer in knob.layers if layer not in chains]
    return replace(knob, layers=(*whole, *(layer for layers in found for layer in layers)))


def _inner(relus: Collection[Activation]) -> frozenset[int]:
    """The nodes that are gone where ReLUs stand."""
    return frozenset().union(*(one.inner for one in relus))


def _described(knob: Knob) -> list[object]:
    found: list[object] = [knob.name, knob.primitive, knob.values, None if knob.order is None else knob.order.tolist()]
    if knob.orders:
        found.append({name: order.tolist() for name, order in sorted(knob.orders.items())})
    return found
