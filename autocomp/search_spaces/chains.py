"""Chains: layers in the place of one, and the graph of a network in which some layers are replaced by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .node_attributes import Argument

if TYPE_CHECKING:
    from .graph import NetworkGraph, Node

WHOLE = "whole"  # the value of a knob of kind ``structure`` that leaves the layer as it is


@dataclass(frozen=True)
class LayerChain:
    """One or more layers in the place of one, each of which reads the output of the one before it.

    nodes: their ``replaces`` names the layer; what they read is filled in by :func:`with_chains`. sparse: whether two
        of every four of its weights may be zero. multiple, input_multiple: the kept outputs and the kept inputs of the
        layer must be multiples of them.
    """

    nodes: tuple[Node, ...]
    sparse: bool = True
    multiple: int = 1
    input_multiple: int = 1

    @property
    def form(self) -> str:
        """What it is, ``"product"``, ``"ghost"``, ..."""
        return self.nodes[0].attributes.form

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(str(node.layer) for node in self.nodes)

    @property
    def sparse_layers(self) -> tuple[str, ...]:
        """Those in which two of every four weights may be zero."""
        return tuple(str(node.layer) for node in self.nodes if self.sparse and _reads_fours(node))


def _reads_fours(node: Node) -> bool:
    return node.weight_shape is not None and node.weight_shape[1] % 4 == 0


def with_chains(graph: NetworkGraph, chains: Mapping[str, LayerChain]) -> NetworkGraph:
    """The graph with a chain in the place of each of these layers, which run once. The last layer of a chain stands
    where the layer stood: it has the same output."""
    if not chains:
        return graph
    nodes: list[Node] = []
    moved: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        own = moved_node(node, moved)
        nodes += _chained(own, chains[str(node.layer)], len(nodes)) if _replaced(graph, i, chains) else [own]
        moved[i] = len(nodes) - 1
    return replace(graph, nodes=tuple(nodes), outputs=tuple(moved[i] for i in graph.outputs))


def origins(graph: NetworkGraph, chains: Mapping[str, LayerChain]) -> tuple[int | None, ...]:
    """For each node of :func:`with_chains` the node of the graph that has the same output; None within a chain."""

    def found() -> Iterator[int | None]:
        for i, node in enumerate(graph.nodes):
            if _replaced(graph, i, chains):
                yield from [None] * (len(chains[str(node.layer)].nodes) - 1)
            yield i

    return tuple(found())


def _replaced(graph: NetworkGraph, i: int, chains: Mapping[str, LayerChain]) -> bool:
    layer = graph.nodes[i].layer
    return layer is not None and layer in chains and graph.layers.get(layer) == i


def _chained(own: Node, chain: LayerChain, start: int) -> list[Node]:
    found = []
    for place, node in enumerate(chain.nodes):
        source = own.arguments[0] if place == 0 else Argument("node", start + place - 1)
        attributes = replace(node.attributes, arguments=(source, *node.arguments[1:]))
        found.append(replace(node, inputs=(source.value,), attributes=attributes))
    return found


def moved_node(node: Node, moved: Mapping[int, int]) -> Node:
    """The node with other indices of the nodes that it reads."""
    arguments = tuple(_moved_argument(argument, moved) for argument in node.arguments)
    attributes = replace(node.attributes, arguments=arguments)
    return replace(node, inputs=tuple(moved[i] for i in node.inputs), attributes=attributes)


def _moved_argument(argument: Argument, moved: Mapping[int, int]) -> Argument:
    if argument.kind == "tuple":
        return argument._replace(value=tuple(_moved_argument(inner, moved) for inner in argument.value))
    return argument._replace(value=moved[argument.value]) if argument.kind == "node" else argument
