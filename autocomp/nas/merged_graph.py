"""One traced graph with all cells of a declared network, from which the graph of each network is taken.

Tracing a network takes seconds, taking it out of the merged graph milliseconds. Every place where something is chosen
computes the sum of all that may be chosen there; a network's graph reads one summand instead. Sizes that depend on
widths are affine in them, so that few graphs are traced: one, and one more for each width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from autocomp.errors import TraceError
from autocomp.primitives.tracing.channels import group_channels
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Argument, NetworkGraph, Node

from .declared import NetworkSpace, slots_of

MARK = "mark"  # the parameter by which a graph names a place


@dataclass(frozen=True)
class Place:
    """Where something is chosen: the node of the product that stands for it, and the node of each value."""

    node: int
    sources: tuple[int, ...]


class MergedGraph:
    """The graphs of all networks of a space, for inputs of one shape, batch 1.

    base: the graph that was traced with the largest widths. places: where something is chosen, by name.
    """

    def __init__(self, space: NetworkSpace, inputs: Sequence[np.ndarray]) -> None:
        self.space, self.inputs = space, tuple(inputs)
        self._largest = {name: max(values) for name, values in space.widths.items()}
        self.base = self._traced(self._largest)
        self.places = places_of(self.base)
        if missing := {*space.choices} - {*space.widths} - {*self.places}:
            raise TraceError(f"the choice {sorted(missing)[0]} makes no difference: no output depends on it")
        self._known = {self._key(self._largest): self.base.nodes}
        self._slopes = self._found_slopes()

    def _key(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(int(widths[name]) for name in self.space.widths)

    def _traced(self, widths: Mapping[str, int]) -> NetworkGraph:
        net = self.space.declared(widths)
        for cell in slots_of(net).values():
            cell.merged = True
        return trace(net, self.inputs)

    def _found_slopes(self) -> list[Any] | None:
        """How the nodes change with each width by one; None where a network with the least widths shows that they do
        not change so."""
        slopes: list[Any] = []
        for name, values in self.space.widths.items():
            if len(values) == 1:
                slopes.append(None)
                continue
            nodes = self._traced({**self._largest, name: min(values)}).nodes
            if len(nodes) != len(self.base.nodes):
                return None
            self._known[self._key({**self._largest, name: min(values)})] = nodes
            slopes.append((nodes, min(values) - max(values)))
        least = {name: min(values) for name, values in self.space.widths.items()}
        if len(slopes) > 1:
            nodes = self._traced(least).nodes
            if numbers_of(nodes) != numbers_of(self._affine(slopes, least)):
                return None
            self._known[self._key(least)] = nodes
        return slopes

    def _affine(self, slopes: Sequence[Any], widths: Mapping[str, int]) -> tuple[Node, ...]:
        ways = [slope for slope in slopes if slope is not None]
        steps = [
            (widths[name] - self._largest[name]) / slope[1]
            for name, slope in zip(self.space.widths, slopes, strict=True)
            if slope is not None
        ]
        return tuple(moved(node, [nodes[i] for nodes, _ in ways], steps) for i, node in enumerate(self.base.nodes))

    def nodes(self, widths: Mapping[str, int]) -> tuple[Node, ...]:
        key = self._key(widths)
        if key not in self._known:
            slopes = self._slopes
            self._known[key] = self._traced(widths).nodes if slopes is None else self._affine(slopes, widths)
        return self._known[key]

    def graph(self, choice: Mapping[str, Any]) -> NetworkGraph:
        """The graph of one network."""
        kept, prefixes = self.kept(choice), self._prefixes(choice)
        nodes = [
            with_names(node, prefixes) if stays else node for node, stays in zip(self.nodes(choice), kept, strict=True)
        ]
        return taken(nodes, kept, self.renamed(choice), self.base.outputs)

    def _prefixes(self, choice: Mapping[str, Any]) -> dict[str, str]:
        """The paths of chosen cells in the declared network -> in the plain one; the outer ones first."""
        found: dict[str, str] = {}
        for name, cell in self.space.slots.items():
            if not hasattr(cell, "least"):
                path = replaced(name, found)
                found[f"{path}.{choice[name]}."] = f"{path}." if path else ""
        return found

    def renamed(self, choice: Mapping[str, Any]) -> dict[int, int]:
        """For the node of each place whose choice is given, the node that is read in its stead."""
        found = {}
        for name, place in self.places.items():
            if name in choice:
                found[place.node] = place.sources[self.space.choices[name].index(choice[name])]
        return found

    def kept(self, choice: Mapping[str, Any]) -> np.ndarray:
        """(nodes,) bool: those that the outputs depend on. Places without a choice keep all their values."""
        renamed, nodes = self.renamed(choice), self.base.nodes
        kept = np.array([node.kind == "input" for node in nodes])
        todo = [resolved(i, renamed) for i in self.base.outputs]
        while todo:
            i = todo.pop()
            if not kept[i] or nodes[i].kind == "input":
                kept[i] = True
                todo += [resolved(source, renamed) for source in nodes[i].inputs]
        return kept


def resolved(node: int, renamed: Mapping[int, int]) -> int:
    while node in renamed:
        node = renamed[node]
    return node


def places_of(graph: NetworkGraph) -> dict[str, Place]:
    """The places of a merged graph by name, told by their parameters."""
    found = {}
    for i, node in enumerate(graph.nodes):
        marks = [name for name in node.parameters if name.rpartition(".")[2] == MARK]
        if marks and node.kind == "mul" and graph.nodes[node.inputs[0]].op == "AddN":
            found[marks[0].rpartition(".")[0]] = Place(i, graph.nodes[node.inputs[0]].inputs)
    return found


def taken(nodes: Sequence[Node], kept: np.ndarray, renamed: Mapping[int, int], outputs: Sequence[int]) -> NetworkGraph:
    """The graph of the kept nodes alone."""
    index = np.cumsum(kept) - 1

    def moved_to(i: int) -> int:
        return int(index[resolved(i, renamed)])

    def argument(one: Argument) -> Argument:
        if one.kind == "tuple":
            return one._replace(value=tuple(map(argument, one.value)))
        return one._replace(value=moved_to(one.value)) if one.kind == "node" else one

    left: list[Node] = []
    for node, stays in zip(nodes, kept, strict=True):
        if stays:
            attributes = replace(node.attributes, arguments=tuple(map(argument, node.arguments)))
            number = node.name.rpartition("-")[2]
            named = node.layer is not None or node.name != f"{node.op}-{number}"
            name = node.name if named else f"{node.op}-{len(left)}"
            left.append(replace(node, name=name, inputs=tuple(map(moved_to, node.inputs)), attributes=attributes))
    graph = NetworkGraph(tuple(left), tuple(map(moved_to, outputs)), other_params=_other_params(left))
    return group_channels(graph)


def _other_params(nodes: Sequence[Node]) -> int:
    """Elements of the parameters that are no weight or bias of a layer."""
    own = {name for node in nodes for name in (node.attributes.weight, node.bias)}
    shapes = {
        name: shape
        for node in nodes
        for name, shape in zip(node.parameters, node.attributes.parameter_shapes, strict=True)
    }
    return sum(math.prod(shape) for name, shape in shapes.items() if name not in own)


def replaced(path: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        path = new + path[len(old) :] if path.startswith(old) else path
    return path


def with_names(value: Any, prefixes: Mapping[str, str]) -> Any:
    """The value with these beginnings of paths replaced in all its names."""
    if isinstance(value, str):
        return replaced(value, prefixes)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, dict):
        return {key: with_names(item, prefixes) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{field.name: with_names(getattr(value, field.name), prefixes) for field in fields(value)}
        )
    if not isinstance(value, (tuple, list)):
        return value
    parts = [with_names(item, prefixes) for item in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def moved(value: Any, others: Sequence[Any], steps: Sequence[float]) -> Any:
    """The value with each integer in it moved by the sum of its differences to ``others``, times ``steps``."""
    if isinstance(value, bool) or (not isinstance(value, (int, tuple, list, dict)) and not is_dataclass(value)):
        return value
    if isinstance(value, int):
        return round(value + sum(step * (other - value) for other, step in zip(others, steps, strict=True)))
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        made = {name: moved(getattr(value, name), [getattr(o, name) for o in others], steps) for name in names}
        return replace(value, **made)
    if isinstance(value, dict):
        return {key: moved(item, [other[key] for other in others], steps) for key, item in value.items()}
    items: Any = value
    parts = [moved(item, [other[i] for other in others], steps) for i, item in enumerate(items)]
    return type(items)(*parts) if hasattr(items, "_fields") else type(items)(parts)


def numbers_of(value: Any) -> Any:
    """The numbers in it, to compare. MindSpore's names differ in each export."""
    if isinstance(value, (np.ndarray, str)):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return tuple(numbers_of(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, dict):
        return tuple(map(numbers_of, value.values()))
    return tuple(map(numbers_of, value)) if isinstance(value, (tuple, list)) else value
