"""Finds blocks of a network that plans may skip: cells with a way around their layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from autocomp.primitives.verification.layer_tail import RELUS
from autocomp.search_spaces import WEIGHTED, NetworkGraph, ResidualBlock

BETWEEN = ("add", "activation", "mul", "reshape", "transpose", "other")  # kinds that may stand behind the last layer


def candidate_blocks(graph: NetworkGraph) -> Iterator[ResidualBlock]:
    """Cells that seem to return what has the shape and the channels of a tensor that they read, and that lead this past
    their layers to an addition: residual blocks, and the layers of a transformer. Those of fewer nodes come first.

    What else a cell reads (a mask) may be anything. Each of its layers runs once, and nothing outside of it reads what
    is inside. The graph alone does not tell what a cell's code reads and returns, so that one may occur several times,
    with another output: whoever skips it checks both.
    """
    cells = _cells(graph)
    for path in sorted(cells, key=lambda path: (len(cells[path]), path)):
        yield from _candidates(graph, path, cells[path])


def widened(graph: NetworkGraph, block: ResidualBlock) -> ResidualBlock:
    """With the ReLU that alone reads the block's output, where it leaves the source as it is."""
    readers = set(graph.consumers[block.output])
    if len(readers) != 1 or block.output in graph.outputs or not graph.never_negative(block.source):
        return block
    (reader,) = readers
    return replace(block, output=reader, nodes=block.nodes | {reader}) if graph.nodes[reader].op in RELUS else block


def _cells(graph: NetworkGraph) -> dict[str, frozenset[int]]:
    """Path of a cell -> its nodes with parameters; of cells with the same nodes the outermost."""
    inside: dict[str, set[int]] = {}
    for i, node in enumerate(graph.nodes):
        parts = (node.layer or "").split(".")
        for depth in range(1, len(parts) + 1 if node.kind == "mul" else len(parts)):  # a scale is the block's own
            inside.setdefault(".".join(parts[:depth]), set()).add(i)
    outermost: dict[frozenset[int], str] = {}
    for path in sorted(inside, key=lambda path: path.count(".")):
        outermost.setdefault(frozenset(inside[path]), path)
    return {path: nodes for nodes, path in outermost.items() if path}


def _candidates(graph: NetworkGraph, path: str, layers: frozenset[int]) -> Iterator[ResidualBlock]:
    weighted = [graph.nodes[i] for i in sorted(layers) if graph.nodes[i].kind in WEIGHTED]
    if not weighted or any(len(graph.calls(str(node.layer))) > 1 for node in weighted):
        return
    region = _Region(graph, _hull(graph, layers))
    for output in region.grown():
        sources = [i for i in sorted(region.entries()) if _passes(graph, i, output, region.nodes)]
        if len(sources) == 1 and any(graph.nodes[i].kind == "add" for i in region.nodes):
            nodes = _with_private(graph, region.nodes, sources[0])
            if _alone(graph, nodes, sources[0], output) and _owns(graph, path, nodes):
                names = tuple(dict.fromkeys(str(node.layer) for node in weighted))
                yield ResidualBlock(path, sources[0], output, names, frozenset(nodes))


@dataclass
class _Region:
    """Nodes that run for one cell alone, as it grows towards the cell's output."""

    graph: NetworkGraph
    nodes: set[int]

    def entries(self) -> set[int]:
        graph = self.graph
        return {j for i in self.nodes for j in graph.nodes[i].inputs if j not in self.nodes and graph.fed[j]}

    def grown(self) -> Iterator[int]:
        """The nodes that may return what the region makes: its last one, then each that reads only this and the
        region's inputs."""
        graph = self.graph
        while True:
            exits = [i for i in self.nodes if i in graph.outputs or set(graph.consumers[i]) - self.nodes]
            if len(exits) == 1:
                yield exits[0]
            readers = {reader for i in exits for reader in graph.consumers[i]} - self.nodes
            if not readers or set(exits) & set(graph.outputs):
                return
            reader = min(readers)
            node = graph.nodes[reader]
            others = {j for j in node.inputs if graph.fed[j]} - self.nodes
            if node.layer is not None or node.kind not in BETWEEN or not others <= self.entries():
                return
            self.nodes.add(reader)


def _hull(graph: NetworkGraph, layers: frozenset[int]) -> set[int]:
    """The nodes on all ways between these."""
    first, last = min(layers), max(layers)
    below: set[int] = set()
    for i in range(first, last + 1):
        if i in layers or below.intersection(graph.nodes[i].inputs):
            below.add(i)
    above: set[int] = set()
    for i in range(last, first - 1, -1):
        if i in layers or above.intersection(graph.consumers[i]):
            above.add(i)
    return below & above


def _passes(graph: NetworkGraph, source: int, output: int, nodes: set[int]) -> bool:
    """Whether the output has the source's shape and channels, and depends on it without a convolution or dense layer
    between."""
    own, other = graph.nodes[source], graph.nodes[output]
    if own.shape != other.shape or not np.array_equal(own.units, other.units):
        return False
    reached = {source}
    for i in sorted(nodes):
        if graph.nodes[i].kind not in WEIGHTED and reached.intersection(graph.nodes[i].inputs):
            reached.add(i)
    return output in reached


def _with_private(graph: NetworkGraph, nodes: set[int], source: int) -> set[int]:
    """Those, and the nodes without a layer that they alone read: constants, and what is made of the source for them."""
    found = set(nodes)
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        private = bool(graph.consumers[i]) and found.issuperset(graph.consumers[i]) and i not in graph.outputs
        if private and i != source and node.kind != "input" and (node.layer is None or not graph.fed[i]):
            found.add(i)
    return found


def _alone(graph: NetworkGraph, nodes: set[int], source: int, output: int) -> bool:
    """Whether nothing outside reads what is inside, and nothing that runs for these nodes alone stands outside."""
    if any(i in graph.outputs or set(graph.consumers[i]) - nodes for i in nodes - {output}):
        return False
    entries = {j for i in nodes for j in graph.nodes[i].inputs} - nodes - {source}
    return all(set(graph.consumers[j]) - nodes or graph.nodes[j].kind == "input" for j in entries)


def _owns(graph: NetworkGraph, path: str, nodes: set[int]) -> bool:
    """Whether the nodes' parameters are those of the cell, and all of these."""
    named = {i: f"{node.layer}." for i, node in enumerate(graph.nodes) if node.layer is not None}
    return {i for i, name in named.items() if name.startswith(f"{path}.")} == nodes & named.keys()
