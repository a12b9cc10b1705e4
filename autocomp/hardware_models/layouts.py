"""Layouts of tensors in a chip's memory: layout blocks, which the last channels or columns do not always fill."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node

KEEPS_BLOCKS = ("batchnorm", "activation", "add", "mul", "concat", "pool", "pad", "softmax")


@dataclass(frozen=True)
class Layout:
    """Bytes of the layout blocks of tensors; 1 where tensors have no blocks.

    channels: of a pixel's channels, in an image that a convolution writes.
    columns: of a row of a product of activations, where the row is longer than one block.
    """

    channels: int = 1
    columns: int = 1


BLOCK = 16  # channels of a layout block, between which concatenations and slices move no block


def images(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give images, (batch, channels, height, width), in the layout in which a convolution writes them."""
    return _kept(graph, [i for i, node in enumerate(graph.nodes) if node.convolves and len(node.shape) == 4], True)


def products(graph: NetworkGraph) -> frozenset[int]:
    """Nodes that give products of two activations, or results of elementwise operators on them."""
    both = (i for i, node in enumerate(graph.nodes) if node.kind == "matmul")
    return _kept(graph, [i for i in both if sum(graph.fed[source] for source in graph.nodes[i].inputs) > 1])


def _kept(graph: NetworkGraph, begins: Collection[int], blocks: bool = False) -> frozenset[int]:
    """The nodes and all following nodes that keep a tensor's layout; with ``blocks`` only where blocks stay whole."""
    found = set(begins)
    for i, node in enumerate(graph.nodes):
        if not node.inputs or node.inputs[0] not in found:
            continue
        same = node.kind == "reshape" and node.shape == graph.nodes[node.inputs[0]].shape
        keeps = node.kind in KEEPS_BLOCKS or same or (blocks and node.kind == "slice")
        if keeps and (not blocks or whole_blocks(graph, i)):
            found.add(i)
    return frozenset(found)


def whole_blocks(graph: NetworkGraph, index: int) -> bool:
    """Whether a concatenation or slice of channels begins and ends between layout blocks; true of other operators."""
    node = graph.nodes[index]
    if node.kind not in ("concat", "slice"):
        return True
    parts = [graph.nodes[i].shape for i in node.inputs] if node.kind == "concat" else [node.shape]
    return all(len(shape) == 4 and shape[1] % BLOCK == 0 for shape in parts)


def converted(graph: NetworkGraph, kept: frozenset[int], head: int, reads: Collection[int]) -> tuple[int, ...]:
    """The tensors that are brought into another layout before an operator reads them.

    kept: the nodes that give images. A convolution or pool reads images; what is no image is computed on plain tensors,
    except for means, which read both.
    """
    node = graph.nodes[head]
    if node.kind == "mean" or (node.kind in WEIGHTED and head not in kept):
        return ()
    if head in kept:
        return tuple(i for i in reads if i not in kept and len(graph.nodes[i].shape) == 4 and _large(graph, i))
    return tuple(i for i in reads if i in kept and _large(graph, i))


def _large(graph: NetworkGraph, index: int) -> bool:
    """Whether a tensor has several pixels, and is computed: the network's input comes in the layout that is asked."""
    node = graph.nodes[index]
    return node.kind != "input" and node.elements > node.shape[1]


def contiguous(node: Node, source: Node) -> int:
    """The elements that a transpose moves at once: those of the last axes, which keep their places."""
    order = next((c for c in node.attributes.constants if isinstance(c, tuple)), ())
    moved, found = [int(axis) % len(source.shape) for axis in order], 1
    if len(moved) != len(source.shape):
        return found
    for axis in range(len(moved) - 1, -1, -1):
        if moved[axis] != axis:
            break
        found *= source.shape[axis]
    return found
