"""Tells scores of classes from embeddings and other numbers, where no labels say which an output is."""

from __future__ import annotations

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

ALIGNED = 64  # embeddings have a multiple of so many numbers, classes seldom
CLOSE = 1e-3  # of sums of probabilities
KEEPING = ("reshape", "flatten", "transpose", "softmax")  # kinds that leave scores what they are
CASTS = ("Cast", "Squeeze", "ExpandDims", "LogSoftmax", "Identity", "BiasAdd")
POOLING = ("pool", "mean", "activation")  # between the last convolution and scores, as in SqueezeNet
SCALING = ("mul", "add")  # by a constant


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether each row of (n, classes) sums to 1, before or after a logarithm."""
    if (outputs >= 0).all():
        return bool(np.allclose(outputs.sum(1), 1, atol=CLOSE))
    return bool((outputs <= 0).all() and np.allclose(np.exp(outputs.astype(np.float64)).sum(1), 1, atol=CLOSE))


def are_class_scores(graph: NetworkGraph, output: int, outputs: np.ndarray) -> bool:
    """Whether an output (n, d) is scores of d classes: probabilities, or what a layer gives that has no multiple of 64
    numbers. An embedding is made by a pooling, a normalisation or a sum, or has a multiple of 64 numbers.

    output: its place among the network's outputs. outputs: its values.
    """
    if are_probabilities(outputs):
        return True
    if outputs.shape[1] % ALIGNED == 0 or output >= len(graph.outputs):
        return False
    node = graph.nodes[graph.outputs[output]]
    while (kept := _kept(node)) is not None:
        node = graph.nodes[kept]
    if node.kind in POOLING and node.shape[1:2] == outputs.shape[1:]:
        node = _before_pooling(graph, node)
        return node.kind == "conv" and node.weight_shape is not None
    return node.weight_shape is not None or (node.kind == "matmul" and len(node.inputs) == 1)


def _kept(node: Node) -> int | None:
    """The one input of an operator that leaves scores what they are, up to a constant."""
    passes = node.kind in KEEPING or node.op in CASTS or node.kind in SCALING or node.op in ("Div", "RealDiv")
    return node.inputs[0] if passes and len(node.inputs) == 1 else None


def _before_pooling(graph: NetworkGraph, node: Node) -> Node:
    while (node.kind in POOLING or _kept(node) is not None) and len(node.inputs) == 1:
        node = graph.nodes[node.inputs[0]]
    return node
