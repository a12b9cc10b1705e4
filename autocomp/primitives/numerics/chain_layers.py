"""The weights of layers in a chain: made from those of the layer that the chain replaces, then made sparse and
rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from autocomp.search_spaces import FLOAT_BITS, Node

from .adaptive_rounding import WIDE, adaptive_rounding
from .layer_fits.convolution_fit import centre_taps, in_groups, separable, with_smaller_kernel
from .layer_fits.factorisation import LayerFactors, OutputBasis, factorised
from .layer_fits.ghost_fit import ghosted
from .nearest_levels import nearest_halves
from .patches import Hessian, PatchSums
from .quantizers import ActivationQuantizer, QuantizedWeight, quantize_weight
from .semi_structured import compensated, two_of_four

Masks = tuple[np.ndarray, np.ndarray]
GHOST = "ghost"  # the form that is fitted to the outputs around each position, too


@dataclass(frozen=True, eq=False)
class ChainSamples:
    """Inputs of the layers that chains may replace, as their weights are multiplied with them.

    patches: layer -> (n, k). around: layer -> (n, 9, k), with the eight positions around each, for Ghost layers.
    """

    patches: Mapping[str, np.ndarray] = field(default_factory=dict)
    around: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, layer: str, form: str) -> np.ndarray | None:
        return (self.around if form == GHOST else self.patches).get(layer)


@dataclass(frozen=True, eq=False)
class Factored:
    """A layer as a chain of one or two, in floats, for the channels that a plan keeps.

    rows, columns: (out,), (in,) bool, those of the layer. first, last: weights, first None in a chain of one; bias: of
        the last. inner: (n, channels) what the first gives for samples. before: moments of the patches that the chain
        reads. normalised: whether a BatchNorm makes up for a shift of the output's mean. ranges: bits -> quantizer of
        the inner tensor, as they are asked for.
    """

    rows: np.ndarray
    columns: np.ndarray
    first: np.ndarray | None
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
        before = None if patches is None else _read(first, weight, patches.of(taps))
        found = fitted(first, weight, seen, bias is not None or normalised, basis)
        shifted = None if bias is None else bias + found.shift
        return cls(rows, columns, found.first, found.last, shifted, found.inner, before, normalised)

    @property
    def key(self) -> tuple[bytes, bytes]:
        return np.packbits(self.rows).tobytes(), np.packbits(self.columns).tobytes()

    @property
    def elements(self) -> int:
        return self.last.size + (0 if self.first is None else self.first.size)

    def places(self, node: Node) -> Masks:
        """The kept outputs and inputs of one of the layers, in their full shape."""
        assert node.weight_shape is not None
        outputs, inputs = node.weight_shape[:2]
        own = self.first if self.is_first(node) else self.last
        assert own is not None
        rows = np.arange(outputs) < len(own) if self.is_first(node) else self.rows
        reads_all = node.groups == 1 and (own is self.first or self.first is None)
        return rows, self.columns if reads_all else np.arange(inputs) < own.shape[1]

    def is_first(self, node: Node) -> bool:
        """Whether the node is the first of two."""
        return self.first is not None and node.attributes.narrowing is not None


def fitted(
    first: Node,
    weight: np.ndarray,
    samples: np.ndarray | None,
    centred: bool,
    basis: Callable[[np.ndarray, np.ndarray | None, bool], OutputBasis] = OutputBasis.of,
) -> LayerFactors:
    """The weights of the chain that begins with this node, fitted to those of the layer; see :meth:`Factored.of`.

    centred: whether a bias can make up for a shift of the output's mean.
    """
    match first.attributes.form:
        case "ghost":
            return ghosted(weight, samples, centred)
        case "kernel":
            return with_smaller_kernel(weight, first.convolution.kernel[0], samples, centred)
        case "grouped":
            return in_groups(weight, first.groups, samples, centred)
        case "separable":
            return separable(weight, multiplier_of(first), samples, centred)
    narrowing = first.attributes.narrowing
    assert narrowing is not None
    rank = int(narrowing.channels(weight.shape[1], len(weight)))
    return factorised(weight, rank, samples, basis(weight, samples, centred))


def multiplier_of(first: Node) -> int:
    """Of a separable convolution, the kernels of each input channel."""
    assert first.attributes.narrowing is not None
    return first.attributes.narrowing.multiplier


def _read(first: Node, weight: np.ndarray, patches: Hessian) -> Hessian:
    """The moments of what the chain's first layer is multiplied with, of those of the layer. weight: of the layer."""
    inputs, kernel = weight.shape[1], weight.shape[2:]
    match first.attributes.form:
        case "kernel":
            return patches.of(np.tile(centre_taps(kernel, first.convolution.kernel[0]), inputs))
        case "grouped":
            return patches.parted(first.groups)
        case "separable":
            return patches.parted(inputs)
    return patches


@dataclass(frozen=True, eq=False)
class ChainWeights:
    weight: np.ndarray
    bias: np.ndarray | None
    quantized: QuantizedWeight | None


def weights_of(factored: Factored, node: Node, bits: int, adapts: bool, sparse: bool, paired: bool) -> ChainWeights:
    """A layer of a chain under a plan. See :class:`PlanCompressor`."""
    first = factored.is_first(node)
    weight = factored.first if first else factored.last
    assert weight is not None
    bias = None if first else factored.bias
    measured = sparse or (adapts and bits < 8)
    patches = None
    if measured:
        patches = factored.before if first or factored.first is None else _moments(factored)
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
