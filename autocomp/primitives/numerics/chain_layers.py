"""The weights of layers in a chain: made from those of the layer that the chain replaces, then made sparse and
rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from autocomp.search_spaces import FLOAT_BITS, Narrowing, Node

from .adaptive_rounding import WIDE, adaptive_rounding
from .factorisation import OutputBasis, factorised
from .ghost_fit import ghosted
from .nearest_levels import nearest_halves
from .patches import Hessian, PatchSums
from .quantizers import ActivationQuantizer, QuantizedWeight, quantize_weight
from .semi_structured import compensated, two_of_four

Masks = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ChainSamples:
    """Inputs of the layers that chains may replace, as their weights are multiplied with them.

    patches: layer -> (n, k), for products of lower rank. around: layer -> (n, 9, k), with the eight positions around
    each, for Ghost layers.
    """

    patches: Mapping[str, np.ndarray] = field(default_factory=dict)
    around: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, layer: str, narrowing: Narrowing) -> np.ndarray | None:
        return (self.around if is_ghost(narrowing) else self.patches).get(layer)


def is_ghost(narrowing: Narrowing) -> bool:
    """Whether a chain computes some channels and makes the others from them, rather than being a product."""
    return narrowing.taps is None


@dataclass(frozen=True, eq=False)
class Factored:
    """A layer as a chain of two, in floats, for the channels that a plan keeps.

    rows, columns: (out,), (in,) bool, those of the layer. first, last: weights; bias: of the last. inner: (n, channels)
        what the first gives for samples. before: moments of the patches that the first reads. normalised: whether a
        BatchNorm makes up for a shift of the output's mean. ranges: bits -> quantizer of the inner tensor, as they are
        asked for.
    """

    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    last: np.ndarray
    bias: np.ndarray | None
    inner: np.ndarray | None
    before: Hessian | None
    normalised: bool
    ranges: dict[int, ActivationQuantizer] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        first: Node,
        places: Masks,
        weight: np.ndarray,
        bias: np.ndarray | None,
        samples: np.ndarray | None,
        patches: Hessian | None,
        normalised: bool,
        basis: Callable[[np.ndarray, np.ndarray | None, bool], OutputBasis] = OutputBasis.of,
    ) -> Factored:
        """first: the chain's first node. weight: (kept out, kept in, ...) of the layer. samples: see
        :class:`ChainSamples`. basis: makes that of the outputs, which all ranks share."""
        rows, columns = places
        taps = np.repeat(columns, int(np.prod(weight.shape[2:])))
        seen = None if samples is None else samples[..., taps]
        before = None if patches is None else patches.of(taps)
        narrowing = first.attributes.narrowing
        assert narrowing is not None
        centred = bias is not None or normalised
        if is_ghost(narrowing):
            found = ghosted(weight, seen, centred)
        else:
            rank = int(narrowing.channels(weight.shape[1], len(weight)))
            found = factorised(weight, rank, seen, basis(weight, seen, centred))
        shifted = None if bias is None else bias + found.shift
        return cls(rows, columns, found.first, found.last, shifted, found.inner, before, normalised)

    @property
    def key(self) -> tuple[bytes, bytes]:
        return np.packbits(self.rows).tobytes(), np.packbits(self.columns).tobytes()

    @property
    def elements(self) -> int:
        return self.first.size + self.last.size

    def places(self, first: bool, node: Node) -> Masks:
        """The kept outputs and inputs of the first layer, or of the last, in their full shape."""
        assert node.weight_shape is not None
        outputs, inputs = node.weight_shape[:2]
        if first:
            return np.arange(outputs) < len(self.first), self.columns
        return self.rows, np.ones(1, bool) if node.depthwise else np.arange(inputs) < self.last.shape[1]


@dataclass(frozen=True, eq=False)
class ChainWeights:
    weight: np.ndarray
    bias: np.ndarray | None
    quantized: QuantizedWeight | None


def weights_of(factored: Factored, first: bool, bits: int, adapts: bool, sparse: bool, paired: bool) -> ChainWeights:
    """The first layer of a chain, or the last, under a plan. See :class:`PlanCompressor`."""
    weight = factored.first if first else factored.last
    bias = None if first else factored.bias
    measured = sparse or (adapts and bits < 8)
    patches = None if not measured else factored.before if first else _moments(factored)
    centred = not first and (bias is not None or factored.normalised)
    corrects = bias is not None and not factored.normalised
    start, quantized = weight, None
    if sparse:
        weight = two_of_four(weight) if patches is None else compensated(weight, patches.damped(centred))
    if bits < FLOAT_BITS:
        quantized = _rounded(weight, bits, patches if adapts else None, centred, sparse, paired)
    found = weight if quantized is None else quantized.dequantized()
    if corrects and bias is not None and patches is not None:
        bias = bias - patches.mean_output(found - start)
    return ChainWeights(found, bias, quantized)


def _rounded(
    weight: np.ndarray, bits: int, patches: Hessian | None, centred: bool, sparse: bool, paired: bool
) -> QuantizedWeight:
    halves = bits == 1  # there is no zero between the two levels of a bit
    if patches is None or bits >= 8:
        return nearest_halves(weight, bits) if halves else quantize_weight(weight, bits, paired=paired)
    quick = weight[0].size > WIDE
    return adaptive_rounding(weight, bits, patches.damped(centred), quick, halves, keeps_zeros=sparse)


def _moments(factored: Factored) -> Hessian | None:
    """Of what the last layer reads; None where it is no product of each pixel, or without samples."""
    if factored.inner is None or factored.last.shape[1] == 1 != factored.inner.shape[1]:
        return None
    sums = PatchSums()
    sums.add(factored.inner[:, None])
    return sums.moments()
