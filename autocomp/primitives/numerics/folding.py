"""BatchNorm folded into the layer before it, in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autocomp.search_spaces import Node

from .plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels


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
    return replace(state, weight=weight, bias=bias, quantized=quantized)
