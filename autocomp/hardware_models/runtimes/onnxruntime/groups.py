"""Convolutions with groups as files have them for onnxruntime's kernels.

A channel is repeated for each output that it alone is convolved into, and several groups are one with zeros between
them; in integers each such group is a convolution of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autocomp.hardware_models.gemm import Gemm, gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import INT8
from autocomp.search_spaces import Node, groups_together, groups_together_in_floats

from . import integers

REPEATING = 3  # operators: two transposes, and one that repeats channels between them


def arranged(lowered: LoweredNetwork, index: int, layer: Gemm) -> Gemm:
    node = lowered.graph.nodes[index]
    if node.repeats_channels:
        return replace(layer, groups=layer.channels_out)
    if not _several(node):
        return layer
    in_floats = groups_together_in_floats(node.groups, layer.channels_in, layer.channels_out / node.groups)
    whole = integers.precision(lowered, index) == INT8
    together = np.where(whole, groups_together(node.groups, layer.channels_in), in_floats)
    return replace(layer, channels_in=layer.channels_in * together, groups=layer.groups / together)


def operators_beside(lowered: LoweredNetwork, index: int) -> np.ndarray:
    """(n,): further convolutions, and what moves channels before and behind them."""
    node, none = lowered.graph.nodes[index], np.zeros(len(lowered.workload))
    if node.repeats_channels:
        return none + REPEATING
    count = convolutions(lowered, index)
    return (count + 1) * (count > 1)


def moved(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements that operators read and write only to move channels."""
    node, output = lowered.graph.nodes[operator.head], lowered.elements(operator.output)
    if node.repeats_channels:
        return repeated(lowered, operator)
    count = convolutions(lowered, operator.head)
    return (lowered.elements(operator.reads[0]) + output) * (count > 1) if count.max() > 1 else 0.0 * output


def repeated(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements of the input of a layer that repeats its channels."""
    source = lowered.graph.nodes[operator.reads[0]]
    pixels = source.elements / source.shape[1] * lowered.images(operator.reads[0])
    return gemm_of(lowered, operator.head).channels_out * pixels


def convolutions(lowered: LoweredNetwork, index: int) -> np.ndarray:
    """(n,): how many convolutions a layer is."""
    if not _several(lowered.graph.nodes[index]):
        return np.ones(len(lowered.workload))
    whole = integers.precision(lowered, index) == INT8
    return np.where(whole, arranged(lowered, index, gemm_of(lowered, index)).groups, 1)


def _several(node: Node) -> bool:
    return node.kind == "conv" and node.groups > 1 and not (node.depthwise or node.transposed)
