"""The distance of the batch statistics at BatchNorms from their running statistics, and its gradient for the inputs.

A compiled graph returns only what ``construct`` returns. So each BatchNorm writes its own loss into a parameter and
adds that loss's gradient to the gradient of its output, as in ``block_outputs.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.cells.layers import StandIn, ms, parameter
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.platform import execution_mode, to_arrays, to_tensors
from autocomp.primitives.tracing.surgery import cell_at, replace_cells
from autocomp.search_spaces import NetworkGraph, Node

Arrays = tuple[np.ndarray, ...]
Gradient = Callable[[Arrays], tuple[float, Arrays]]
LEAST_VARIANCE = 1e-12


def statistics_gradient(net: Any, graph: NetworkGraph, parameters: Mapping[str, np.ndarray]) -> Gradient:
    """A function of a batch: the distance of its statistics from the running ones, and its gradient for each input.

    The distance compares channels' means m and standard deviations s over the batch with a BatchNorm's running ones,
    averaged over its channels and over all BatchNorms. It is that of ZeroQ (Cai et al., CVPR 2020, eq. 4), but relative
    to the running variance, so that all layers have the same weight:

        ((m - mean)^2 + (s - deviation)^2) / variance

    The function compiles once for each shape of the inputs. For a BatchNorm that runs several times the gradient
    includes every call, the distance only the last one.
    """
    twin = copy_network(net)
    matched = {}
    for layer, node in batchnorms(graph).items():
        mean, variance = (parameters[name] for name in node.normalization.statistics)
        deviation = np.sqrt(variance + np.float32(node.normalization.epsilon))
        matched[layer] = MatchedNorm(cell_at(twin, layer), mean, deviation, f"{layer}.distance")
    replace_cells(twin, matched)
    for own in twin.get_parameters():
        own.requires_grad = False
    count = sum(node.kind == "input" for node in graph.nodes)
    step = ms.value_and_grad(Silent(twin).set_train(False), tuple(range(1, 1 + count)))

    def gradient(inputs: Arrays) -> tuple[float, Arrays]:
        with execution_mode(graph=True):
            _, found = step(ms.Tensor(np.float32(0)), *to_tensors(inputs))
        distance = float(np.mean([norm.distance.asnumpy() for norm in matched.values()]))
        return distance, tuple(slope / np.float32(len(matched)) for slope in to_arrays(found))

    return gradient


def batchnorms(graph: NetworkGraph) -> dict[str, Node]:
    """Layer -> one of its nodes."""
    return {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer is not None}


class Silent(nn.Cell):
    """A network whose outputs have no gradient: only the gradients that its cells add remain."""

    def __init__(self, net: Any) -> None:
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, zero: Any, *inputs: Any) -> Any:
        return zero * total(self.net(*inputs))


def total(outputs: Any) -> Any:
    """The sum of all numbers that a network returned, with nested tuples flattened."""
    if isinstance(outputs, (tuple, list)):
        found = 0.0
        for part in outputs:
            found = found + total(part)
        return found
    return ops.cast(outputs, ms.float32).sum()


class Moved(nn.Cell):
    """Returns the features; the backward pass adds ``features * slope + shift`` to the gradient."""

    def construct(self, features: Any, slope: Any, shift: Any) -> Any:
        return features

    def bprop(self, features: Any, slope: Any, shift: Any, out: Any, gradient: Any) -> tuple[Any, Any, Any]:
        return gradient + features * slope + shift, ops.zeros_like(slope), ops.zeros_like(shift)


class MatchedNorm(StandIn):
    """A BatchNorm whose gradient moves the inputs towards its running statistics. distance: of the last batch.

    Sums over pixels are computed as products with ones: ``mean`` takes eight times as long on CPU.
    """

    def __init__(self, norm: Any, mean: np.ndarray, deviation: np.ndarray, name: str) -> None:
        super().__init__(auto_prefix=False)
        self.layer, self.moved = norm, Moved()
        self.mean, self.deviation = ms.Tensor(mean), ms.Tensor(deviation)
        self.distance = parameter(np.float32(0), name)

    def construct(self, x: Any) -> Any:
        rows = ops.stop_gradient(x).reshape(x.shape[0], x.shape[1], -1)
        ones = ops.ones((rows.shape[2], 1), ms.float32)
        count, variance = rows.shape[0] * rows.shape[2], self.deviation * self.deviation
        mean = ops.matmul(rows, ones).sum((0, 2)) / count
        square = ops.matmul(rows * rows, ones).sum((0, 2)) / count
        deviation = ops.sqrt(ops.maximum(square - mean * mean, LEAST_VARIANCE))
        too_high, too_wide = mean - self.mean, deviation - self.deviation
        ops.assign(self.distance, ((too_high * too_high + too_wide * too_wide) / variance).mean())
        share = 2.0 / (count * x.shape[1])
        slope = share * too_wide / (deviation * variance)
        shift = share * too_high / variance - slope * mean
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self.layer(self.moved(x, slope.reshape(shape), shift.reshape(shape)))
