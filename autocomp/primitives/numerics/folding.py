"""BatchNorm folded into the layer before it, in NumPy."""

from __future__ import annotations

import math

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

from .plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels


def foldable(graph: NetworkGraph) -> dict[str, str]:
    """BatchNorm layer -> the conv or dense layer before it, where nothing else reads that layer's output."""
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node.layer is not None:
            uses[node.layer] = uses.get(node.layer, 0) + 1
    pairs = {}
    for node in graph.nodes:
        if node.kind != "batchnorm" or node.layer is None or uses[node.layer] > 1:
            continue
        place = node.inputs[0]
        alone = _read_once(graph, place)
        while alone and _keeps_channels(graph, place):  # BatchNorm1d normalises (n, c) as (n, c, 1, 1)
            place = graph.nodes[place].inputs[0]
            alone = _read_once(graph, place)
        source = graph.nodes[place]
        rows = source.kind == "dense" and len(source.shape) > 2  # whose channels lie on another axis
        alone = alone and not rows
        if source.weight_shape is not None and source.layer is not None and uses[source.layer] == 1 and alone:
            pairs[node.layer] = source.layer
    return pairs


def _read_once(graph: NetworkGraph, place: int) -> bool:
    return len(graph.consumers[place]) == 1 and place not in graph.outputs


def _keeps_channels(graph: NetworkGraph, place: int) -> bool:
    """Whether it reshapes what lies behind the channels alone."""
    node = graph.nodes[place]
    before = graph.nodes[node.inputs[0]].shape if node.inputs else ()
    same = node.elements == math.prod(before) and len(before) > 1 and node.shape[:2] == before[:2]
    return node.kind == "reshape" and node.op != "Part" and same


def batchnorm_factors(
    gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """The normalisation as ``y = factor * x + shift``, each (channels,) (Jacob et al., CVPR 2018, section 3.2)."""
    factor = gamma / np.sqrt(variance + np.float32(epsilon))
    return factor.astype(np.float32), (beta - mean * factor).astype(np.float32)


def norm_factors(node: Node, parameters: Parameters, compressed: CompressedWeights) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift of the BatchNorm's kept channels, with the plan's statistics."""
    return batchnorm_factors(*norm_parameters(node, parameters, compressed), node.normalization.epsilon)


def norm_parameters(
    node: Node, parameters: Parameters, compressed: CompressedWeights
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """gamma, beta, mean and variance of the kept channels."""
    assert node.layer is not None
    kept = kept_channels(node.units, compressed.kept)
    gamma, beta, mean, variance = (parameters[name] for name in node.normalization.parameters)
    mean, variance = compressed.statistics.get(node.layer, (mean, variance))
    return gamma[kept], beta[kept], mean[kept], variance[kept]


def fold(state: LayerState, factor: np.ndarray, shift: np.ndarray) -> LayerState:
    """The layer followed by ``factor * y + shift``. The integers stay the same; the scale is multiplied by the factor,
    with its sign."""
    bias = shift if state.bias is None else (state.bias * factor + shift).astype(np.float32)
    column = factor.reshape(-1, *([1] * (state.weight.ndim - 1)))
    quantized = state.quantized
    if quantized is not None:
        quantized = quantized.times(factor)
        weight = quantized.dequantized()
    else:
        weight = (state.weight * column).astype(np.float32)
    return LayerState(state.rows, state.columns, weight, bias, quantized, state.activation)
