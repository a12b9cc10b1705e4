"""Finds the first and the last layers of a network."""

from __future__ import annotations

from autocomp.search_spaces import NetworkGraph
from autocomp.search_spaces.graph import WEIGHTED

WEIGHS = (
    "matmul",
    "slice",
    "other",
)  # where they read parameters: functions' weights, embeddings, recurrent cells


def first_and_last(graph: NetworkGraph) -> frozenset[str]:
    """Layers that read an input of the network or write an output of it, with no other weights between on any path.

    With a skip connection around a layer, the layer that reads their sum is not first, and the layer from which the
    skip starts is not last.
    """
    weighing = _weighing(graph)
    untouched, finished = _untouched(graph, weighing), _finished(graph, weighing)
    found = set()
    for i, node in enumerate(graph.nodes):
        if node.layer in graph.layers and (node.inputs[0] in untouched or i in finished):
            found.add(node.layer)
    return frozenset(found)


def _weighing(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that multiply by weights, whether they are layers or not."""
    from_parameters: set[int] = set()  # nodes computed from parameters alone
    found = set()
    for i, node in enumerate(graph.nodes):
        own = bool(node.parameters)
        if (own or node.inputs) and from_parameters.issuperset(node.inputs):
            from_parameters.add(i)
        elif node.kind in WEIGHTED or (node.kind in WEIGHS and (own or not from_parameters.isdisjoint(node.inputs))):
            found.add(i)
    return frozenset(found)


def _untouched(graph: NetworkGraph, weighing: frozenset[int]) -> set[int]:
    """Nodes with no weight before them."""
    found: set[int] = set()
    for i, node in enumerate(graph.nodes):
        unknown = node.kind == "other" and not node.inputs  # control flow splits the graph into parts
        if i not in weighing and not unknown and found.issuperset(node.inputs):
            found.add(i)
    return found


def _finished(graph: NetworkGraph, weighing: frozenset[int]) -> set[int]:
    """Nodes from which every path reaches an output of the network before it reaches a weight."""
    found: set[int] = set()
    for i in reversed(range(len(graph.nodes))):
        readers = graph.consumers[i]
        unknown = graph.nodes[i].kind == "other" and not readers
        if i in graph.outputs or (not unknown and all(r in found and r not in weighing for r in readers)):
            found.add(i)
    return found
