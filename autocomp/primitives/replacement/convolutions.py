"""Cheaper convolutions in the place of others: smaller kernels, groups, separable ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import nn

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.chains import layer_in_chain
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.numerics.chain_layers import fitted
from autocomp.primitives.numerics.layer_fits.output_error import output_error
from autocomp.primitives.numerics.patches import normalised_layers, sample_patches
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.primitives.verification.refit_replaced import Part
from autocomp.rules import checked
from autocomp.search_spaces import LayerChain, NetworkGraph, Node

from .chains import macs as macs_of_node
from .chains import replaceable
from .convolution_knobs import grouped, separables, smaller_kernels
from .replacing import Replacement, Replacing, enough

FITTED = 64  # images to which the new layers are fitted
PATCHES = 4_000  # of a layer's input


class CheaperConvolutions(Replacing):
    """Convolutions become cheaper ones that are fitted to them by least squares on the layers' outputs.

    Args:
        macs: the share of the network's multiply-accumulates that stays; the layers that lose least for the MACs that
            they save are replaced first. None: all that become cheaper.
        layers, reconstruct: see :class:`autocomp.primitives.replacement.replacing.Replacing`.
    """

    def __init__(self, macs: float | None, layers: Collection[str] | None, reconstruct: bool) -> None:
        super().__init__(layers, reconstruct)
        if macs is not None and not 0 < macs < 1:
            raise ValueError(f"macs must be in (0, 1), but got macs={macs}")
        self.macs = macs

    def chain(self, graph: NetworkGraph, layer: str) -> LayerChain | None:
        """What stands for a layer; None where there is nothing."""
        raise NotImplementedError

    def replacements(
        self, net: Any, graph: NetworkGraph, calibrate: tuple[np.ndarray, ...] | None
    ) -> dict[str, Replacement]:
        able = set(replaceable(graph))
        chains = {path: self.chain(graph, path) for path in self.allowed(graph) if path in able}
        cheaper = {path: chain for path, chain in chains.items() if chain is not None and _saves(graph, path, chain)}
        seen: Mapping[str, Sequence[np.ndarray]] = {}
        if calibrate is not None and cheaper:
            images = tuple(array[:FITTED] for array in calibrate)
            seen = ElasticNetwork(net, graph).layer_inputs(images, list(cheaper))
        normalised = normalised_layers(graph)
        found = {}
        for path, chain in cheaper.items():
            node, cell = graph.nodes[graph.layers[path]], cell_at(net, path)
            samples = _patches(node, seen[path]) if path in seen else None
            found[path] = _replacement(cell, chain, samples, path in normalised)
        return found if self.macs is None else enough(graph, found, self.macs)


class SmallerKernel(CheaperConvolutions):
    """Convolutions with a smaller kernel: the centre of the old one, and what predicts the rest best.

    >>> algorithm = SmallerKernel(3)
    >>> net_k = algorithm.apply(net, calibrate=images)
    >>> ms.Model(net_k, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_k)

    The new kernel is the least-squares prediction of the layer's outputs from the pixels that it still reads. It stands
    for the kernel transformation that Cai et al., "Once-for-All", ICLR 2020, section 3.2, train. The padding shrinks
    with the kernel, so that the output keeps its size.

    Args:
        kernel: size of the new kernels, odd.
        macs, layers, reconstruct: see :class:`CheaperConvolutions`.

    Not replaced: grouped and transposed convolutions, those with even or oblong kernels, and those without as much
    padding as the kernel loses.
    """

    name = "smaller-kernel"

    @checked(RULES["SmallerKernel"])
    def __init__(
        self,
        kernel: int = 3,
        *,
        macs: float | None = None,
        layers: Collection[str] | None = None,
        reconstruct: bool = True,
    ) -> None:
        super().__init__(macs, layers, reconstruct)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and 1 or more, but got kernel={kernel}")
        self.kernel = kernel

    def chain(self, graph: NetworkGraph, layer: str) -> LayerChain | None:
        return smaller_kernels(graph, layer, (self.kernel,)).get(f"kernel{self.kernel}")


class Grouped(CheaperConvolutions):
    """Convolutions in groups: each part of the outputs reads one part of the inputs (Krizhevsky et al., NeurIPS 2012).

    >>> algorithm = Grouped(2)
    >>> net_g = algorithm.apply(net, calibrate=images)
    >>> ms.Model(net_g, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_g)

    Channels keep their places. The weights of a part are the least-squares prediction of its outputs from its inputs.

    Args:
        groups: parts, 2 or more.
        macs, layers, reconstruct: see :class:`CheaperConvolutions`.

    Not replaced: the first and the last layer, grouped and transposed convolutions, and those whose channels are no
    multiples of ``groups``, or fewer than two in a group.
    """

    name = "grouped"

    @checked(RULES["Grouped"])
    def __init__(
        self,
        groups: int = 2,
        *,
        macs: float | None = None,
        layers: Collection[str] | None = None,
        reconstruct: bool = True,
    ) -> None:
        super().__init__(macs, layers, reconstruct)
        if groups < 2:
            raise ValueError(f"groups must be 2 or more, but got groups={groups}")
        self.groups = groups

    def chain(self, graph: NetworkGraph, layer: str) -> LayerChain | None:
        return grouped(graph, layer, (self.groups,)).get(f"groups{self.groups}")


class Separable(CheaperConvolutions):
    """Depthwise-separable convolutions: kernels of each channel alone, and a 1x1 convolution (Chollet, CVPR 2017).

    >>> algorithm = Separable()
    >>> net_s = algorithm.apply(net, calibrate=images)
    >>> ms.Model(net_s, loss, optimizer).train(2, train_set, callbacks=algorithm.callbacks())
    >>> smaller = algorithm.convert(net_s)

    The kernels begin as the leading singular vectors of each channel's kernels, weighed by what the channel holds; then
    they and the 1x1 convolution are fitted in turns.

    Args:
        multiplier: kernels of each input channel, 1 or more.
        macs, layers, reconstruct: see :class:`CheaperConvolutions`.

    Not replaced: the first and the last layer, 1x1, grouped and transposed convolutions.
    """

    name = "separable"

    @checked(RULES["Separable"])
    def __init__(
        self,
        multiplier: int = 1,
        *,
        macs: float | None = None,
        layers: Collection[str] | None = None,
        reconstruct: bool = True,
    ) -> None:
        super().__init__(macs, layers, reconstruct)
        if multiplier < 1:
            raise ValueError(f"multiplier must be 1 or more, but got multiplier={multiplier}")
        self.multiplier = multiplier

    def chain(self, graph: NetworkGraph, layer: str) -> LayerChain | None:
        return separables(graph, layer, (self.multiplier,)).get(f"separable{self.multiplier}")


def _saves(graph: NetworkGraph, path: str, chain: LayerChain) -> bool:
    return sum(map(macs_of_node, chain.nodes)) < graph.nodes[graph.layers[path]].macs


def _patches(node: Node, calls: Sequence[np.ndarray]) -> np.ndarray:
    return sample_patches(node, np.concatenate(calls), PATCHES, np.random.default_rng(0))[:, 0]


def _replacement(cell: Any, chain: LayerChain, samples: np.ndarray | None, normalised: bool) -> Replacement:
    weight, bias = cell.weight.asnumpy(), cell.bias.asnumpy() if cell.has_bias else None
    factors = fitted(chain.nodes[0], weight, samples, bias is not None or normalised)
    weights = [one for one in (factors.first, factors.last) if one is not None]
    cells = {str(node.layer).rpartition("_")[2]: layer_in_chain(node, cell) for node in chain.nodes}
    for new, value in zip(cells.values(), weights, strict=True):
        assign(new.weight, value)
    if bias is not None:
        assign(list(cells.values())[-1].bias, bias + factors.shift)
    made = nn.SequentialCell(OrderedDict(cells)) if len(cells) > 1 else next(iter(cells.values()))
    last = Part(list(cells)[-1] if len(cells) > 1 else "", np.arange(len(weight)))
    centred = bias is not None or normalised
    lost = output_error(chain.form, (factors.first, factors.last), weight, samples, centred)
    elements = sum(p.size for p in made.get_parameters())
    return Replacement(made, sum(map(macs_of_node, chain.nodes)), elements, lost, (last,))
