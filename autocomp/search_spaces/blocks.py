"""Blocks: parts of a network that the identity can stand for, and the graph in which it does for some of them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .chains import moved_node
from .node_attributes import WEIGHTED

if TYPE_CHECKING:
    from .graph import NetworkGraph

SKIPPED = "skipped"  # what a knob of kind ``skip`` chooses besides WHOLE


@dataclass(frozen=True)
class ResidualBlock:
    """A cell that reads a tensor and returns one of the same shape, with a way around its layers.

    name: path of the cell. source: the node whose output it reads as its first argument. output: the node whose output
        it returns. layers: its convolutions and dense layers. nodes: all nodes that run for it alone.
    """

    name: str
    source: int
    output: int
    layers: tuple[str, ...]
    nodes: frozenset[int]


def without_blocks(
    graph: NetworkGraph, blocks: Collection[ResidualBlock], unread: Collection[int] = ()
) -> NetworkGraph:
    """The graph in which what reads the output of one of these blocks reads its source. unread: further nodes that are
    gone, whose output nothing reads."""
    if not blocks and not unread:
        return graph
    kept = kept_nodes(graph, blocks, unread)
    moved = {old: new for new, old in enumerate(kept)}
    around = {block.output: block.source for block in blocks}
    for output in sorted(around):  # a block's source may be the output of one before it
        moved[output] = moved[around[output]]
    nodes, outputs = tuple(moved_node(graph.nodes[i], moved) for i in kept), tuple(moved[i] for i in graph.outputs)
    left = graph.other_params - sum(_other_params(graph, block) for block in blocks)
    return replace(graph, nodes=nodes, outputs=outputs, other_params=left, blocks=())


def _other_params(graph: NetworkGraph, block: ResidualBlock) -> int:
    """Elements of a block's parameters, without those of its convolutions and dense layers."""
    nodes = (graph.nodes[i] for i in block.nodes)
    shapes = (shape for node in nodes if node.kind not in WEIGHTED for shape in node.attributes.parameter_shapes)
    return sum(map(math.prod, shapes))


def kept_nodes(graph: NetworkGraph, blocks: Collection[ResidualBlock], unread: Collection[int] = ()) -> tuple[int, ...]:
    """The indices of the nodes that stay without these blocks and nodes."""
    gone = frozenset(unread).union(*(block.nodes for block in blocks))
    return tuple(i for i in range(len(graph.nodes)) if i not in gone)
