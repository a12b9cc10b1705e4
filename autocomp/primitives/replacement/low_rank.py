"""Low rank: dense layers and convolutions as products of smaller ones."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.pruning.trained_pruning import input_moments
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.primitives.verification.refit import to_fit_on
from autocomp.primitives.verification.refit_replaced import Part
from autocomp.rules import checked
from autocomp.search_spaces import NetworkGraph

from .factors import Factors, Spectrum, is_matrix
from .replacing import Replacement, Replacing, macs_of

LEVELS = 1 - np.geomspace(0.003, 0.9, 24)  # shares of the energy that are tried for a layer


@dataclass(frozen=True)
class RankChoice:
    """Ranks of a layer with their cost; without ranks: the layer is not replaced."""

    ranks: tuple[int, ...]
    macs: int
    lost: float


class LowRank(Replacing):
    """SVD of dense layers and 1x1 convolutions, Tucker-2 of k x k convolutions (Kim et al., ICLR 2016).

    >>> algorithm = LowRank(macs=0.6)
    >>> net_f = algorithm.apply(net, calibrate=images)
    >>> ms.Model(net_f, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_f)

    A matrix (out, in) becomes in -> r -> out, a kernel in -> r1 (1x1), r1 -> r2 (k x k), r2 -> out (1x1). With
    ``calibrate`` the product is the nearest in the layer's outputs instead of in its weights
    (:mod:`autocomp.primitives.replacement.factors`), and a bias compensates the shift of their mean.

    Args:
        energy, macs, ranks: exactly one of them. energy: the share of every layer's energy (squared singular values)
            that is kept. macs: the share of the network's multiply-accumulates that stays; the ranks are those that
            lose the least energy, summed over the layers. ranks: by layer, ``{"fc": (16,), "conv": (8, 12)}``.
        channel_divisor: ranks are multiples of it.
        layers, reconstruct: see :class:`autocomp.primitives.replacement.replacing.Replacing`.

    Not replaced: layers that would not be cheaper, grouped and transposed convolutions.
    """

    name = "low-rank"

    @checked(RULES["LowRank"])
    def __init__(
        self,
        *,
        energy: float | None = None,
        macs: float | None = None,
        ranks: Mapping[str, tuple[int, ...]] | None = None,
        channel_divisor: int = 1,
        layers: Collection[str] | None = None,
        reconstruct: bool = True,
    ) -> None:
        super().__init__(layers, reconstruct)
        if sum(value is not None for value in (energy, macs, ranks)) != 1:
            raise ValueError(f"exactly one of energy, macs and ranks must be given, but got {energy}, {macs}, {ranks}")
        for argument, value in (("energy", energy), ("macs", macs)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{argument} must be in (0, 1), but got {argument}={value}")
        if channel_divisor < 1:
            raise ValueError(f"channel_divisor must be 1 or more, but got channel_divisor={channel_divisor}")
        self.energy, self.macs, self.ranks, self.channel_divisor = energy, macs, ranks, channel_divisor

    def replacements(
        self, net: Any, graph: NetworkGraph, calibrate: tuple[np.ndarray, ...] | None
    ) -> dict[str, Replacement]:
        parameters, moments = parameters_of(net), _moments(net, graph, calibrate)
        spectra = {}
        for path in factorisable(graph, net, self.allowed(graph)):
            node = graph.nodes[graph.layers[path]]
            weighing = _weighing(moments.get(path), node.bias is not None)
            spectra[path] = Spectrum.of(_matrix(parameters[node.weight]), weighing)
        chosen = self._chosen(graph, spectra)
        return {
            path: _replacement(cell_at(net, path), graph, path, spectra[path], choice, moments.get(path))
            for path, choice in chosen.items()
        }

    def _chosen(self, graph: NetworkGraph, spectra: Mapping[str, Spectrum]) -> dict[str, RankChoice]:
        if self.ranks is not None:
            return {path: _checked(graph, spectra, path, ranks) for path, ranks in self.ranks.items()}
        tables = {path: self._choices(graph, path, spectrum) for path, spectrum in spectra.items()}
        if self.energy is not None:
            return {path: table[-1] for path, table in tables.items() if table[-1].ranks}
        assert self.macs is not None
        others = graph.macs - sum(macs_of(graph, path) for path in tables)
        return _cheapest(tables, others, self.macs * graph.macs)

    def _choices(self, graph: NetworkGraph, path: str, spectrum: Spectrum) -> list[RankChoice]:
        """The layer as it is, and every choice of ranks that is cheaper."""
        whole = macs_of(graph, path)
        found: dict[tuple[int, ...], RankChoice] = {(): RankChoice((), whole, 0.0)}
        for energy in [self.energy] if self.energy is not None else LEVELS:
            ranks = self._rounded(spectrum, spectrum.ranks_for(float(energy)))
            macs = factor_macs(graph, path, ranks)
            if macs < whole:
                found[ranks] = RankChoice(ranks, macs, spectrum.lost(ranks))
        return list(found.values())

    def _rounded(self, spectrum: Spectrum, ranks: tuple[int, ...]) -> tuple[int, ...]:
        step = self.channel_divisor
        return tuple(min(math.ceil(r / step) * step, len(v)) for r, v in zip(ranks, spectrum.values, strict=True))


def factorisable(graph: NetworkGraph, net: Any, allowed: Collection[str]) -> list[str]:
    """The allowed layers with one group that are not transposed."""
    nodes = {path: graph.nodes[graph.layers[path]] for path in allowed}
    return [
        path
        for path, node in nodes.items()
        if node.groups == 1 and not node.transposed and isinstance(cell_at(net, path), nn.Conv2d | nn.Dense)
    ]


def factor_macs(graph: NetworkGraph, path: str, ranks: tuple[int, ...]) -> int:
    """Multiply-accumulates of all calls of a layer as a product, at batch 1."""
    outputs, inputs, *kernel = _shape(graph, path)
    total = 0
    for node in graph.calls(path):
        if len(ranks) == 1:
            total += node.positions * ranks[0] * (inputs + outputs)
        else:
            pixels = graph.nodes[node.inputs[0]].elements // inputs  # the first factor runs before the stride
            total += pixels * inputs * ranks[0]
            total += node.positions * ranks[1] * (ranks[0] * math.prod(kernel) + outputs)
    return total


def _shape(graph: NetworkGraph, path: str) -> tuple[int, ...]:
    shape = graph.nodes[graph.layers[path]].weight_shape
    assert shape is not None
    return shape


def _matrix(weight: np.ndarray) -> np.ndarray:
    """A 1x1 kernel as a matrix; other weights unchanged."""
    return weight.reshape(weight.shape[:2]) if is_matrix(weight) else weight


def _moments(net: Any, graph: NetworkGraph, calibrate: tuple[np.ndarray, ...] | None) -> dict[str, Moments]:
    if calibrate is None:
        return {}
    return input_moments(net, graph, to_fit_on([calibrate]))


def _weighing(moments: Moments | None, biased: bool) -> np.ndarray | None:
    """The matrix that weights errors of the weight; a bias compensates the part of the mean."""
    if moments is None:
        return None
    return moments.covariance if biased else moments.covariance + np.outer(moments.mean, moments.mean)


def _checked(graph: NetworkGraph, spectra: Mapping[str, Spectrum], path: str, ranks: tuple[int, ...]) -> RankChoice:
    if path not in spectra:
        raise ValueError(f"ranks are given for layers of {', '.join(spectra)}, but got {path!r}")
    most = tuple(map(len, spectra[path].values))
    if len(ranks) != len(most) or not all(1 <= rank <= limit for rank, limit in zip(ranks, most, strict=True)):
        raise ValueError(f"ranks of {path} are {len(most)} numbers from 1 to {most}, but got {ranks}")
    return RankChoice(ranks, factor_macs(graph, path, ranks), spectra[path].lost(ranks))


def _replacement(
    cell: Any, graph: NetworkGraph, path: str, spectrum: Spectrum, choice: RankChoice, moments: Moments | None
) -> Replacement:
    factors = spectrum.factors(choice.ranks)
    bias = cell.bias.asnumpy() if cell.has_bias else None
    weight = _matrix(cell.weight.asnumpy())
    if bias is not None and moments is not None:
        missing = (weight - factors.weight()).reshape(*weight.shape[:2], -1).sum(2)
        bias = bias + missing @ moments.mean
    new = _dense(cell, factors, bias) if isinstance(cell, nn.Dense) else _convolutions(cell, factors, bias)
    last = Part(str(len(new) - 1), np.arange(len(weight)))
    return Replacement(new, choice.macs, sum(p.size for p in new.get_parameters()), choice.lost, (last,))


def _dense(like: Any, factors: Factors, bias: np.ndarray | None) -> Any:
    rank, inputs = factors.first.shape
    first = nn.Dense(inputs, rank, _tensor(factors.first), has_bias=False)
    last = nn.Dense(rank, len(factors.last), _tensor(factors.last), has_bias=bias is not None, **_bias(bias))
    last.activation, last.activation_flag = like.activation, like.activation_flag
    return nn.SequentialCell(first, last)


def _convolutions(like: Any, factors: Factors, bias: np.ndarray | None) -> Any:
    window = {"pad_mode": like.pad_mode, "padding": like.padding, "dilation": like.dilation}
    first, last, core = factors.first[..., None, None], factors.last[..., None, None], factors.core
    cells = [_conv(first, 1, like.stride, **window)] if core is None else [_conv(first, 1, 1)]
    if core is not None:
        cells.append(_conv(core, like.kernel_size, like.stride, **window))
    cells.append(_conv(last, 1, 1, has_bias=bias is not None, **_bias(bias)))
    return nn.SequentialCell(cells)


def _conv(weight: np.ndarray, kernel: Any, stride: Any, **more: Any) -> Any:
    outputs, inputs = weight.shape[:2]
    more = {"pad_mode": "valid", "has_bias": False} | more
    return nn.Conv2d(inputs, outputs, kernel, stride, weight_init=_tensor(weight), **more)


def _bias(bias: np.ndarray | None) -> dict[str, Any]:
    return {} if bias is None else {"bias_init": _tensor(bias)}


def _tensor(value: np.ndarray) -> Any:
    return ms.Tensor(np.ascontiguousarray(value, np.float32))


def _cheapest(tables: Mapping[str, list[RankChoice]], others: int, target: float) -> dict[str, RankChoice]:
    """For each layer a choice, so that all together meet the target and lose least.

    The choice has the least lost + price * macs, with the lowest price that meets the target. others:
    multiply-accumulates of all other layers.
    """
    scale = others + sum(table[0].macs for table in tables.values())

    def at(price: float) -> dict[str, RankChoice]:
        return {path: min(table, key=lambda c: c.lost + price * c.macs / scale) for path, table in tables.items()}

    def macs(chosen: Mapping[str, RankChoice]) -> int:
        return others + sum(choice.macs for choice in chosen.values())

    low, high = 1e-6, 1e6
    if (least := macs(at(high))) > target:
        raise ValueError(
            f"macs={target / scale:.3g} cannot be reached: the lowest ranks leave {least / scale:.3f} of them"
        )
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if macs(at(middle)) <= target else (middle, high)
    return {path: choice for path, choice in at(high).items() if choice.ranks}
