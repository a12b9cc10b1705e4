"""Ghost: some channels of a convolution are computed, the others are made from them by cheap depthwise convolutions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.reconstruction import moments_of, pivoted_order
from autocomp.primitives.tracing.platform import execution_mode, to_arrays, to_tensors
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.primitives.verification.refit_replaced import Part
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph

from .replacing import Replacement, Replacing, enough, macs_of

FITTED = 32  # images to which the cheap convolutions are fitted
NOISE = 8  # images of noise, where none are given
PIXELS = 6_000  # most pixels of the images, for each layer
RIDGE = 1e-4


@dataclass(frozen=True, eq=False)
class Fit:
    """The computed channels of a layer, and how the other channels are made from them.

    primary: (m,), others: (c - m,), channels. sources: (c - m,), places in ``primary``. kernels: (c - m, d, d); shifts:
        (c - m,). lost: the share of the errors of the other channels in the layer's energy.
    """

    primary: np.ndarray
    others: np.ndarray
    sources: np.ndarray
    kernels: np.ndarray
    shifts: np.ndarray
    lost: float


class Ghost(Replacing):
    """Convolutions become Ghost modules (Han et al., CVPR 2020, section 3.1), fitted to the trained ones.

    >>> algorithm = Ghost(macs=0.6)
    >>> net_g = algorithm.apply(net, calibrate=images)
    >>> ms.Model(net_g, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_g)

    Of c channels c / ratio are computed as before, and each of the others by a depthwise convolution of one of them.
    The paper trains such networks from scratch. Here the computed channels are those that predict the others best
    (pivoted Cholesky of the covariance of the layer's outputs). Every other channel is made from the computed channel
    from which a d x d kernel predicts it best, and the kernel is the least-squares one. All this uses ``calibrate``, or
    without it noise, which depends on the weights alone. Channels keep their places, so that nothing else changes.

    Args:
        ratio: channels in all for each computed one, 2 or more (the paper's s).
        kernel: size of the cheap convolutions, odd (the paper's d).
        macs: the share of the network's multiply-accumulates that stays; the layers that lose least for the MACs that
            they save are replaced first. None: all that become cheaper.
        layers, reconstruct: see :class:`autocomp.primitives.replacement.replacing.Replacing`.

    Not replaced: the first and the last layer, grouped and transposed convolutions.
    """

    name = "ghost"

    @checked(RULES["Ghost"])
    def __init__(
        self,
        *,
        ratio: int = 2,
        kernel: int = 3,
        macs: float | None = None,
        layers: Collection[str] | None = None,
        reconstruct: bool = True,
    ) -> None:
        super().__init__(layers, reconstruct)
        if ratio < 2:
            raise ValueError(f"ratio must be 2 or more, but got ratio={ratio}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, but got kernel={kernel}")
        if macs is not None and not 0 < macs < 1:
            raise ValueError(f"macs must be in (0, 1), but got macs={macs}")
        self.ratio, self.kernel, self.macs = ratio, kernel, macs

    def replacements(
        self, net: Any, graph: NetworkGraph, calibrate: tuple[np.ndarray, ...] | None
    ) -> dict[str, Replacement]:
        seen = (
            {} if calibrate is None else ElasticNetwork(net, graph).layer_inputs(tuple(a[:FITTED] for a in calibrate))
        )
        found = {}
        for path in self._layers(net, graph):
            cell = cell_at(net, path)
            fit = fitted(outputs_of(cell, graph, path, seen.get(path)), self.ratio, self.kernel, bool(cell.has_bias))
            new = GhostConv2d(cell, fit)
            parts = (Part("primary", fit.primary), Part("cheap", fit.others))
            elements = sum(p.size for p in new.get_parameters())
            found[path] = Replacement(new, self._macs(graph, path), elements, fit.lost, parts)
        return found if self.macs is None else enough(graph, found, self.macs)

    def _layers(self, net: Any, graph: NetworkGraph) -> list[str]:
        first_last = first_and_last(graph)
        nodes = {path: graph.nodes[graph.layers[path]] for path in self.allowed(graph) if path not in first_last}
        plain = [path for path, node in nodes.items() if node.groups == 1 and isinstance(cell_at(net, path), nn.Conv2d)]
        return [path for path in plain if self._macs(graph, path) < macs_of(graph, path)]

    def _macs(self, graph: NetworkGraph, path: str) -> int:
        total = 0
        for node in graph.calls(path):
            assert node.weight_shape is not None
            outputs, *rest = node.weight_shape
            primary = math.ceil(outputs / self.ratio)
            total += node.positions * (primary * math.prod(rest) + (outputs - primary) * self.kernel**2)
        return total


class GhostConv2d(nn.Cell):
    def __init__(self, like: Any, fit: Fit) -> None:
        super().__init__()
        weight, biased = like.weight.asnumpy(), bool(like.has_bias)
        bias = like.bias.asnumpy()[fit.primary] if biased else None
        window = {"pad_mode": like.pad_mode, "padding": like.padding, "dilation": like.dilation}
        inputs, count, others = like.in_channels, len(fit.primary), len(fit.others)
        self.primary = nn.Conv2d(
            inputs, count, like.kernel_size, like.stride, **_values(weight[fit.primary], bias), **window
        )
        size = fit.kernels.shape[-1]
        cheap = _values(fit.kernels[:, None], fit.shifts if biased else None)
        self.cheap = nn.Conv2d(others, others, size, 1, "pad", size // 2, group=others, **cheap)
        self.sources = ms.Tensor(fit.sources.astype(np.int32))
        self.places = ms.Tensor(np.argsort(np.concatenate((fit.primary, fit.others))).astype(np.int32))

    def construct(self, x: Any) -> Any:
        computed = self.primary(x)
        made = self.cheap(ops.gather(computed, self.sources, 1))
        return ops.gather(ops.concat((computed, made), 1), self.places, 1)


def fitted(outputs: Sequence[np.ndarray], ratio: int, size: int, biased: bool) -> Fit:
    """outputs: (n, c, h, w), of each of the layer's calls. biased: whether the cheap convolutions have a bias."""
    channels = outputs[0].shape[1]
    rows = np.concatenate([np.moveaxis(y, 1, -1).reshape(-1, channels) for y in outputs])
    order = pivoted_order(moments_of(rows).covariance.astype(np.float64))
    count = math.ceil(channels / ratio)
    primary, others = np.sort(order[:count]), np.sort(order[count:])
    chosen = np.random.default_rng(0).permutation(len(rows))[:PIXELS]
    wanted = rows[chosen][:, others].astype(np.float64)
    best, sources = np.full(len(others), -np.inf), np.zeros(len(others), np.int64)
    solutions = np.zeros((len(others), size * size + biased))
    for place, channel in enumerate(primary):
        around = [_neighbourhoods(y[:, channel], size).reshape(-1, size * size) for y in outputs]
        seen = np.concatenate(around)[chosen].astype(np.float64)
        if biased:
            seen = np.concatenate((seen, np.ones((len(seen), 1))), 1)
        gram, right = seen.T @ seen, seen.T @ wanted
        gram[np.diag_indices_from(gram)] += RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
        solution = np.linalg.solve(gram, right)
        explained = (2 * right * solution).sum(0) - (solution * (gram @ solution)).sum(0)
        better = explained > best
        best[better], sources[better], solutions[better] = explained[better], place, solution.T[better]
    missing = float(((wanted**2).sum(0) - best).sum()) / max(float((rows[chosen].astype(np.float64) ** 2).sum()), 1e-30)
    kernels = solutions[:, : size * size].reshape(-1, size, size)
    shifts = solutions[:, -1] if biased else np.zeros(len(others))
    return Fit(primary, others, sources, kernels, shifts, max(missing, 0.0))


def outputs_of(
    cell: Any, graph: NetworkGraph, path: str, inputs: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, ...]:
    """(n, c, h, w): the convolution's output for each of these inputs, or for noise."""
    if inputs is None:
        shape = graph.nodes[graph.nodes[graph.layers[path]].inputs[0]].shape
        inputs = [np.random.default_rng(0).standard_normal((NOISE, *shape[1:])).astype(np.float32)]
    with execution_mode(graph=False):
        return to_arrays(tuple(cell(x) for x in to_tensors(tuple(inputs))))


def _neighbourhoods(images: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w) -> (n, h, w, size * size), zeros outside."""
    reach = size // 2
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach)))
    _, height, width = images.shape
    shifts = [(i, j) for i in range(size) for j in range(size)]
    return np.stack([padded[:, i : i + height, j : j + width] for i, j in shifts], -1)


def _values(weight: np.ndarray, bias: np.ndarray | None) -> dict[str, Any]:
    given: dict[str, Any] = {"weight_init": ms.Tensor(np.ascontiguousarray(weight, np.float32))}
    if bias is None:
        return given | {"has_bias": False}
    return given | {"has_bias": True, "bias_init": ms.Tensor(np.ascontiguousarray(bias, np.float32))}
