"""What a ReLU in the place of another activation shifts, taken back by the layers behind it.

A ReLU gives other means than HSwish or GELU. The mean difference of each channel on calibration samples, times the
weight of a layer that reads it, is added to that layer's bias, as for rounded weights (Nagel et al., "Data-Free
Quantization", ICCV 2019, section 4.2). Behind a layer without a bias the statistics of a BatchNorm are moved, which
does the same. A factor and a shift before the ReLU, ``a * relu(x + b) + c`` fitted by least squares, were tried, too:
the outputs of a trained network were no nearer to the float network's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np

from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import WEIGHTED, Activation, NetworkGraph, Node

from .plan_compressor import CompressedWeights, Parameters, kept_channels

PASSING = ("mean", "pool", "flatten", "reshape", "add")  # kinds that pass a constant of a channel on


def corrected(
    offsets: Mapping[str, np.ndarray],
    compressed: CompressedWeights,
    graph: NetworkGraph,
    relus: Collection[Activation],
    whole: NetworkGraph,
    parameters: Parameters,
) -> CompressedWeights:
    """The weights with the biases that take the offsets of these ReLUs in.

    offsets: name of an activation -> (channels,), its mean less that of the ReLU. graph: the plan's, in which the ReLUs
    stand; whole: the network's own. parameters: of the float network.
    """
    places = {node.name: i for i, node in enumerate(graph.nodes)}
    layers = dict(compressed.layers)
    for one in relus:
        place, offset = places.get(whole.nodes[one.output].name), offsets.get(one.name)
        if place is None or offset is None:  # in a skipped block, or without samples
            continue
        kept = kept_channels(graph.nodes[place].units, compressed.kept)
        for node, last in _readers(graph, place):
            state = layers[str(last.layer)]
            moved = _through(node, offset * kept, whole, parameters)
            if state.bias is not None and moved is not None:
                layers[str(last.layer)] = replace(state, bias=(state.bias + moved[state.rows]).astype(np.float32))
    return replace(compressed, layers=layers)


def mean_difference(inputs: np.ndarray, outputs: np.ndarray, axis: int) -> np.ndarray:
    """(channels,): the mean of an activation's outputs less that of a ReLU of its inputs. axis: of the channels."""
    difference = np.moveaxis(outputs - np.maximum(inputs, 0), axis, -1)
    return np.asarray(difference.reshape(-1, difference.shape[-1]).mean(0, dtype=np.float64))


def _readers(graph: NetworkGraph, place: int) -> Iterator[tuple[Node, Node]]:
    """The layers that read the output, also as means of its channels or added to another tensor; each with the last
    layer of its chain."""
    channels = len(graph.nodes[place].units)
    for i in graph.consumers[place]:
        node = graph.nodes[i]
        if node.kind in WEIGHTED and node.layer is not None and node.inputs[0] == place and not node.transposed:
            chained = node.attributes.narrowing is not None
            yield node, graph.nodes[graph.around(i)[1]] if chained else node
        elif node.kind in PASSING and len(node.units) == channels:
            yield from _readers(graph, i)


def _through(node: Node, offset: np.ndarray, whole: NetworkGraph, parameters: Parameters) -> np.ndarray | None:
    """(out,): what a constant of each input channel adds to the layer's outputs, away from an image's edges."""
    own = whole.nodes[whole.layers[node.attributes.replaces or str(node.layer)]]
    weight = weight_of(own, parameters)
    taps = weight.reshape(*weight.shape[:2], -1).sum(2)
    if taps.shape[1] * own.groups != len(offset):
        return None
    inputs = offset.reshape(own.groups, -1)
    return np.asarray(np.einsum("gok,gk->go", taps.reshape(own.groups, -1, taps.shape[1]), inputs).reshape(-1))
