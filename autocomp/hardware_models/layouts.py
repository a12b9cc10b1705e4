"""How tensors lie in a chip's memory: in blocks that their last channels or columns do not always fill."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from autocomp.search_spaces import NetworkGraph

KEEPS_BLOCKS = ("batchnorm", "activation", "add", "mul", "concat", "pool", "pad", "softmax")


@dataclass(frozen=True)
class Layout:
    """Bytes of the blocks in which tensors lie; 1 where they lie as they are.

    channels: those of a pixel, of an image as a convolution writes it.
    columns: those of a row of a product of activations, where they are more than one block holds.
    """

    channels: int = 1
    columns: int = 1


def images(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give images, (batch, channels, height, width), as a convolution wrote them."""
    return _kept(graph, [i for i, node in enumerate(graph.nodes) if node.convolves and len(node.shape) == 4])


def products(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give products of two activations, or what is computed of their elements."""
    both = (i for i, node in enumerate(graph.nodes) if node.kind == "matmul")
    return _kept(graph, [i for i in both if sum(graph.fed[source] for source in graph.nodes[i].inputs) > 1])


def _kept(graph: NetworkGraph, begins: Collection[int]) -> frozenset[int]:
    """The nodes and all behind them that leave a tensor in its form."""
    found = set(begins)
    for i, node in enumerate(graph.nodes):
        if node.kind in KEEPS_BLOCKS and node.inputs and node.inputs[0] in found:
            found.add(i)
    return frozenset(found)
