"""Dense layers whose weight of 4 bits onnxruntime reads as it is stored, in ``MatMulNBits``."""

from __future__ import annotations

from .graph import NetworkGraph

BLOCK = 128  # inputs that have a scale of their own: one more float for each of them in the file
LEAST = 1 << 16  # elements of a weight; below that the fixed time of an operator decides


def packs(graph: NetworkGraph, index: int) -> bool:
    """Whether a node is a large dense layer that runs once, on one row of an image: with several rows the operator is
    no faster than floats."""
    node = graph.nodes[index]
    if node.kind != "dense" or node.layer is None or node.weight_shape is None:
        return False
    large = node.weight_shape[0] * node.weight_shape[1] >= LEAST
    return large and node.positions == 1 and len(graph.calls(node.layer)) == 1
