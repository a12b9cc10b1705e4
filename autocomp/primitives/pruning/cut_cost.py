"""The exact cost of a network with some of its units: multiply-accumulates or parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node


@dataclass(frozen=True, eq=False)
class CutCost:
    """``constant + kept @ linear + sum over layers of factor * rows * columns``.

    A layer's rows and columns are its output channels and its input channels (of one group); both are ``fixed + counts
    @ kept``.

    linear: (units,); factor, fixed_rows, fixed_columns: (layers,); row_counts, column_counts: (layers, units).
    """

    constant: float
    linear: np.ndarray
    factor: np.ndarray
    fixed_rows: np.ndarray
    fixed_columns: np.ndarray
    row_counts: np.ndarray
    column_counts: np.ndarray

    def of(self, kept: np.ndarray) -> float:
        """kept: (units,) bool."""
        rows, columns = self._shape(kept)
        return float(self.constant + kept @ self.linear + (self.factor * rows * columns).sum())

    def slopes(self, kept: np.ndarray) -> np.ndarray:
        """(units,): the cost of each unit in addition to the kept ones, to first order."""
        rows, columns = self._shape(kept)
        read = (self.factor * rows) @ self.column_counts
        return np.asarray(self.linear + (self.factor * columns) @ self.row_counts + read)

    def _shape(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(layers,): remaining rows and remaining columns."""
        return self.fixed_rows + self.row_counts @ kept, self.fixed_columns + self.column_counts @ kept


def macs_cost(graph: NetworkGraph) -> CutCost:
    """Multiply-accumulates at batch 1."""
    calls = [node for node in graph.nodes if node.weight_shape is not None and node.kind in WEIGHTED]
    return _cost(graph, calls, [node.positions * math.prod(_shape(node)[2:]) for node in calls])


def parameters_cost(graph: NetworkGraph, parameters: Mapping[str, np.ndarray]) -> CutCost:
    """Elements of all parameters, including BatchNorm's statistics. parameters: the network's, by name."""
    layers = [graph.nodes[i] for i in graph.layers.values()]
    linear, whole = np.zeros(graph.unit_count), float(sum(value.size for value in parameters.values()))
    for node, size in _vectors(graph, parameters):
        linear += size * _counts(node.units, graph.unit_count)
    weights = _cost(graph, layers, [math.prod(_shape(node)[2:]) for node in layers])
    everything = np.ones(graph.unit_count, bool)
    constant = whole - weights.of(everything) - float(linear.sum())
    return CutCost(constant, linear, *_parts(weights))


def units_cost(graph: NetworkGraph) -> CutCost:
    """Units of all channel groups."""
    empty = _cost(graph, [], [])
    return CutCost(0.0, np.ones(graph.unit_count), *_parts(empty))


def _vectors(graph: NetworkGraph, parameters: Mapping[str, np.ndarray]) -> Iterator[tuple[Node, int]]:
    """Nodes whose parameters have one element for each channel -> the number of such parameters; each layer once."""
    seen = set()
    for node in graph.nodes:
        if node.layer is None or node.layer in seen:
            continue
        seen.add(node.layer)
        names = [] if node.bias is None else [node.bias]
        if node.kind == "batchnorm" or node.op == "PReLU":
            names = [name for name in node.parameters if parameters[name].shape == (len(node.units),)]
        if names:
            yield node, len(names)


def _cost(graph: NetworkGraph, nodes: list[Node], factors: list[int]) -> CutCost:
    units = graph.unit_count
    rows = [node.units for node in nodes]
    columns = [_columns_of(graph, node) for node in nodes]
    return CutCost(
        0.0,
        np.zeros(units),
        np.array(factors, np.float64),
        np.array([(channels < 0).sum() for channels in rows], np.float64),
        np.array([(channels < 0).sum() for channels in columns], np.float64),
        _stacked(rows, units),
        _stacked(columns, units),
    )


def _columns_of(graph: NetworkGraph, node: Node) -> np.ndarray:
    """Units of the inputs that an output channel reads; for a depthwise layer one channel that is not cut."""
    return np.full(1, -1) if node.depthwise else graph.input_units(node).reshape(node.groups, -1)[0]


def _stacked(channels: list[np.ndarray], units: int) -> np.ndarray:
    return np.stack([_counts(one, units) for one in channels]) if channels else np.zeros((0, units))


def _counts(channels: np.ndarray, units: int) -> np.ndarray:
    """(units,): how many of the channels belong to each unit."""
    return np.bincount(channels[channels >= 0], minlength=units).astype(np.float64)


def _parts(cost: CutCost) -> tuple[np.ndarray, ...]:
    return cost.factor, cost.fixed_rows, cost.fixed_columns, cost.row_counts, cost.column_counts


def _shape(node: Node) -> tuple[int, ...]:
    assert node.weight_shape is not None
    return node.weight_shape
