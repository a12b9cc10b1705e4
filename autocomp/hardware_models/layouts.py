"""Layouts of tensors in a chip's memory: layout blocks, which the last channels or columns do not always fill."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from autocomp.search_spaces import NetworkGraph

KEEPS_BLOCKS = ("batchnorm", "activation", "add", "mul", "concat", "pool", "pad", "softmax")


@dataclass(frozen=True)
class Layout:
    """Bytes of the layout blocks of tensors; 1 where tensors have no blocks.

    channels: of a pixel's channels, in an image that a convolution writes.
    columns: of a row of a product of activations, where the row is longer than one block.
    """

    channels: int = 1
    columns: int = 1


def images(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give images, (batch, channels, height, width), in the layout in which a convolution writes them."""
    return _kept(graph, [i for i, node in enumerate(graph.nodes) if node.convolves and len(node.shape) == 4])


def products(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give products of two activations, or results of elementwise operators on them."""
    both = (i for i, node in enumerate(graph.nodes) if node.kind == "matmul")
    return _kept(graph, [i for i in both if sum(graph.fed[source] for source in graph.nodes[i].inputs) > 1])


def _kept(graph: NetworkGraph, begins: Collection[int]) -> frozenset[int]:
    """The nodes and all following nodes that keep a tensor's layout."""
    found = set(begins)
    for i, node in enumerate(graph.nodes):
        if node.kind in KEEPS_BLOCKS and node.inputs and node.inputs[0] in found:
            found.add(i)
    return frozenset(found)
