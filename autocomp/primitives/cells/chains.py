"""Cells of the layers in a chain."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from autocomp.primitives.tracing.surgery import cell_at, replace_cells
from autocomp.search_spaces import NetworkGraph, Node

from .layers import StandIn, ms, nn, parameter
from .one_dimensional import is_one_dimensional

WINDOW_OF_LAYER = ("product", "ghost")  # forms whose first layer has the window of the layer


class ElasticStructure(StandIn):
    """A layer and the chains that may replace it. ``gates``, (1 + chains,), has 1 for the one whose output counts."""

    layer_name = "whole"

    def __init__(self, whole: Any, chains: Sequence[Any]) -> None:
        super().__init__()
        self.whole, self.chains = whole, nn.CellList(list(chains))
        self.gates = parameter(np.eye(1 + len(chains), dtype=np.float32)[0], "gates")

    def construct(self, x: Any) -> Any:
        y = self.whole(x) * self.gates[0]
        for i, chain in enumerate(self.chains):
            y = y + chain(x) * self.gates[i + 1]
        return y

    def set(self, place: int) -> None:
        """place: 0 for the layer itself, i for the i-th chain."""
        self.gates.set_data(ms.Tensor(np.eye(1 + len(self.chains), dtype=np.float32)[place]))


def layer_in_chain(node: Node, like: Any, apart: bool = True) -> Any:
    """A layer of a chain without its numbers. like: the layer that the chain replaces. apart: whether channels are
    convolved in their groups; otherwise the layer has one group."""
    assert node.weight_shape is not None
    outputs, inputs, *_ = node.weight_shape
    last = node.attributes.narrowing is None
    if node.kind == "dense":
        dense = nn.Dense(inputs, outputs, "zeros", has_bias=node.bias is not None)
        if last:
            dense.activation, dense.activation_flag = like.activation, like.activation_flag
        return dense
    groups = node.groups if apart else 1
    window: dict[str, Any] = {"group": groups, "has_bias": node.bias is not None, "weight_init": "zeros"}
    form = nn.Conv1d if is_one_dimensional(like) else nn.Conv2d
    inputs, own = inputs * node.groups, node.convolution
    if node.attributes.form in WINDOW_OF_LAYER and not last:
        window |= {"pad_mode": like.pad_mode, "padding": like.padding, "dilation": like.dilation}
        return form(inputs, outputs, _plain(like, like.kernel_size), _plain(like, like.stride), **_plain(like, window))
    if is_one_dimensional(like):
        return form(inputs, outputs, own.kernel[-1], 1, pad_mode="pad", padding=own.pad[-1], **window)
    window |= {"pad_mode": "pad", "padding": own.pad, "dilation": own.dilation}
    return form(inputs, outputs, own.kernel, own.stride, **window)


def _plain(like: Any, value: Any) -> Any:
    """What a convolution with one spatial dimension takes: it keeps (1, size) of what it is given as a size."""
    if not is_one_dimensional(like):
        return value
    if isinstance(value, dict):
        return {name: one if name in ("weight_init", "pad_mode") else _plain(like, one) for name, one in value.items()}
    return value[-1] if isinstance(value, tuple) else value


def chains_of(graph: NetworkGraph) -> dict[str, tuple[Node, ...]]:
    """Layer -> the nodes of the chain in its place."""
    found: dict[str, tuple[Node, ...]] = {}
    for node in graph.nodes:
        if (layer := node.attributes.replaces) is not None:
            found[layer] = (*found.get(layer, ()), node)
    return found


def put_chains(net: Any, graph: NetworkGraph) -> None:
    """Puts cells of the chains in a plan's graph into a copy of the network, without their numbers."""
    for layer, nodes in chains_of(graph).items():
        like = cell_at(net, layer)
        cells = {str(node.layer).removeprefix(f"{layer}."): layer_in_chain(node, like) for node in nodes}
        chain = nn.SequentialCell(OrderedDict(cells))
        for node, cell in zip(nodes, cells.values(), strict=True):  # after the chain has named them itself
            cell.weight.name = node.weight
            if node.bias is not None:
                cell.bias.name = node.bias
        replace_cells(net, {layer: chain})
