"""Knobs for cheaper convolutions: a smaller kernel, groups, a kernel for each channel and a 1x1 convolution behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import WHOLE, Format, Knob, LayerChain, Narrowing, NetworkGraph, Node, Value, carried_out_by

from .chains import ONE_BY_ONE, as_last, in_chain, macs, replaceable

SIZES = (5, 3, 1)  # of smaller kernels
GROUPS = (2, 4)
MULTIPLIERS = (2, 1)  # kernels of each channel
LEAST_WIDTH = 2  # channels of a group: with one it would be a depthwise convolution


@dataclass(frozen=True)
class ConvolutionKnobs:
    """A knob for each convolution that a cheaper one can stand for, with the chains that save multiply-accumulates.

    name: of the primitive. offers: (graph, layer) -> what each value puts in its place. wanted: what it looks for.
    """

    name: str
    offers: Callable[[NetworkGraph, str], Mapping[str, LayerChain]]
    wanted: str

    def knobs(
        self,
        graph: NetworkGraph,
        parameters: Mapping[str, np.ndarray],
        formats: Sequence[Format],
        channel_divisor: int,
        moments: Mapping[str, Moments],
    ) -> tuple[Knob, ...]:
        found = {layer: dict(self._cheaper(graph, layer)) for layer in replaceable(graph)}
        if not any(found.values()):
            raise NoEffectError(f"{self.name} found no {self.wanted}")
        return tuple(
            Knob(f"structure/{layer}", self.name, (layer,), (WHOLE, *chains), chains=chains)
            for layer, chains in found.items()
            if chains
        )

    def _cheaper(self, graph: NetworkGraph, layer: str) -> Iterator[tuple[Value, LayerChain]]:
        own = graph.nodes[graph.layers[layer]]
        for value, chain in self.offers(graph, layer).items():
            if sum(map(macs, chain.nodes)) < macs(own):
                yield carried_out_by(value, self.name), chain


def smaller_kernels(graph: NetworkGraph, layer: str, sizes: Sequence[int] = SIZES) -> dict[str, LayerChain]:
    """``"kernel3"``, ... -> the convolution with so small a kernel, of those whose padding it can shrink."""
    own = graph.nodes[graph.layers[layer]]
    if not _is_square(own):
        return {}
    fits = {size: _pad_of(own, size) for size in sizes if size < own.convolution.kernel[0]}
    return {f"kernel{size}": kernel_chain(own, size) for size, pad in fits.items() if min(pad) >= 0}


def grouped(graph: NetworkGraph, layer: str, numbers: Sequence[int] = GROUPS) -> dict[str, LayerChain]:
    """``"groups2"``, ... -> the convolution in so many groups; not of the first and the last layer."""
    own = graph.nodes[graph.layers[layer]]
    if not _is_inner(graph, layer):
        return {}
    return {f"groups{groups}": grouped_chain(own, groups) for groups in numbers if _divides(own, groups)}


def separables(graph: NetworkGraph, layer: str, counts: Sequence[int] = MULTIPLIERS) -> dict[str, LayerChain]:
    """``"separable2"``, ... -> so many kernels for each channel, and a 1x1 convolution over what they give; not of the
    first and the last layer."""
    own = graph.nodes[graph.layers[layer]]
    if not _is_inner(graph, layer) or math.prod(own.convolution.kernel) == 1:
        return {}
    return {f"separable{count}": separable_chain(own, count) for count in counts}


def convolution_chains(graph: NetworkGraph, layer: str) -> dict[str, LayerChain]:
    """Every value of these primitives for a layer -> what it puts in its place."""
    return smaller_kernels(graph, layer) | grouped(graph, layer) | separables(graph, layer)


def _is_image(own: Node) -> bool:
    return own.kind == "conv" and len(own.shape) == 4 and own.shape[2] > 1


def _is_square(own: Node) -> bool:
    """Whether it has an odd kernel that is as wide as it is high."""
    return _is_image(own) and len(set(own.convolution.kernel)) == 1 and own.convolution.kernel[0] % 2 == 1


def _is_inner(graph: NetworkGraph, layer: str) -> bool:
    return _is_image(graph.nodes[graph.layers[layer]]) and layer not in first_and_last(graph)


def _divides(own: Node, groups: int) -> bool:
    assert own.weight_shape is not None
    outputs, inputs = own.weight_shape[:2]
    return outputs % groups == 0 and inputs % groups == 0 and inputs >= LEAST_WIDTH * groups


def _pad_of(own: Node, size: int) -> tuple[int, int, int, int]:
    """The padding with which a smaller kernel reads the same centres."""
    window = own.convolution
    vertical, horizontal = (d * (k - size) // 2 for d, k in zip(window.dilation, window.kernel, strict=True))
    top, bottom, left, right = window.pad
    return top - vertical, bottom - vertical, left - horizontal, right - horizontal


def kernel_chain(own: Node, size: int) -> LayerChain:
    """The convolution with the kernel size x size."""
    assert own.weight_shape is not None
    outputs, inputs = own.weight_shape[:2]
    window = replace(own.convolution, kernel=(size, size), pad=_pad_of(own, size))
    node = in_chain(own, "kernel", f"kernel{size}", outputs, (outputs, inputs, size, size))
    return LayerChain((as_last(node, own, window),))


def grouped_chain(own: Node, groups: int) -> LayerChain:
    """The convolution in groups, each of which reads an equal part of the channels that a plan keeps."""
    assert own.weight_shape is not None
    outputs, inputs, *kernel = own.weight_shape
    node = in_chain(own, "grouped", f"groups{groups}", outputs, (outputs, inputs // groups, *kernel))
    chain = as_last(node, own, replace(own.convolution, groups=groups))
    return LayerChain((chain,), sparse=False, multiple=groups, input_multiple=groups)


def separable_chain(own: Node, count: int) -> LayerChain:
    """``count`` kernels for each channel, and a 1x1 convolution over what they give."""
    assert own.weight_shape is not None
    outputs, inputs, *kernel = own.weight_shape
    name, inner = f"separable{count}", inputs * count
    first = in_chain(own, "separable", f"{name}_kernels", inner, (inner, 1, *kernel))
    window, narrowing = replace(own.convolution, groups=inputs), Narrowing(multiplier=count)
    first = replace(first, attributes=replace(first.attributes, convolution=window, narrowing=narrowing))
    last = in_chain(own, "separable", f"{name}_mixing", outputs, (outputs, inner, *[1] * len(kernel)))
    return LayerChain((first, as_last(last, own, ONE_BY_ONE)), sparse=False)


SMALLER_KERNEL = ConvolutionKnobs(
    "smaller-kernel", smaller_kernels, "convolution with an odd, square kernel that its padding lets it shrink"
)
GROUPED = ConvolutionKnobs("grouped", grouped, "convolution, between the first and the last layer, to put in groups")
SEPARABLE = ConvolutionKnobs(
    "separable", separables, "convolution, between the first and the last layer, that is cheaper by channels"
)
