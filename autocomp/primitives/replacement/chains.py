"""Chains that may replace a layer: their nodes, and the layers for which there are some."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from autocomp.search_spaces import Convolution, NetworkGraph, Node

ONE_BY_ONE = Convolution((1, 1), (1, 1))


def replaceable(graph: NetworkGraph) -> list[str]:
    """Dense layers and convolutions with one group that run once and read all channels of their input."""
    return [layer for layer, i in graph.layers.items() if _is_replaceable(graph, layer, graph.nodes[i])]


def _is_replaceable(graph: NetworkGraph, layer: str, node: Node) -> bool:
    if node.weight_shape is None or node.transposed or node.groups > 1 or len(graph.calls(layer)) > 1:
        return False
    return len(graph.nodes[node.inputs[0]].units) == node.weight_shape[1] and len(node.units) == node.weight_shape[0]


def in_chain(own: Node, form: str, name: str, channels: int, weight_shape: tuple[int, ...]) -> Node:
    """A layer of a chain in the place of ``own``, called ``name``, without bias: it gives so many channels.

    form: see :class:`autocomp.search_spaces.NodeAttributes`."""
    layer = f"{own.layer}.{name}"
    shape = (*own.shape[:-1], channels) if own.kind == "dense" else (own.shape[0], channels, *own.shape[2:])
    attributes = replace(
        own.attributes,
        weight=f"{layer}.weight",
        bias=None,
        parameters=(f"{layer}.weight",),
        parameter_shapes=(weight_shape,),
        replaces=own.layer,
        form=form,
    )
    return Node(layer, own.kind, own.op, (), shape, layer, weight_shape, attributes, np.full(channels, -1))


def as_last(node: Node, own: Node, window: Convolution | None) -> Node:
    """The node as the last of a chain: it has the units of ``own``, and a bias where that has one."""
    bias = None if own.bias is None else f"{node.layer}.bias"
    names = (*node.parameters, *(() if bias is None else (bias,)))
    shapes = (*node.attributes.parameter_shapes, *(() if bias is None else ((own.weight_shape or (0,))[:1],)))
    attributes = replace(node.attributes, bias=bias, parameters=names, parameter_shapes=shapes, convolution=window)
    return replace(node, units=own.units, attributes=attributes)


def macs(node: Node) -> int:
    return node.positions * math.prod(node.weight_shape or (0,))
