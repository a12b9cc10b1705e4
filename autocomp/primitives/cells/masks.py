"""Masks that hold while a network trains: they change a layer's weight before it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.tracing.surgery import cell_at
from autocomp.search_spaces import NetworkGraph, Node

from .layers import StandIn, ms, parameter
from .trained_layers import lies_in_rows, trained_layer


def gate_of(values: Any, index: Any, free: Any) -> Any:
    """(channels,): the value of each channel's unit, from values (units,); 1 for a channel that always stays."""
    found = ops.gather(values, index, 0)
    return found if free is None else found * free + (1 - free)


class UnitGate(nn.Cell):
    """Multiplies the inputs of a weight by a number for each unit, (units,), a parameter of the network."""

    def __init__(self, values: Any, units: np.ndarray, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.values, self.shape = values, shape
        self.index = ms.Tensor(np.maximum(units, 0).astype(np.int32))
        self.free = None if (units >= 0).all() else ms.Tensor((units >= 0).astype(np.float32))

    def gate(self) -> Any:
        return gate_of(self.values, self.index, self.free).reshape(self.shape)

    def construct(self, x: Any) -> Any:
        return x * self.gate()


class GatedInput(StandIn):
    """A layer with a gated input; for layers whose weight cannot be gated itself."""

    def __init__(self, layer: Any, gate: UnitGate) -> None:
        super().__init__()
        self.layer, self.gate = layer, gate

    def construct(self, x: Any) -> Any:
        return self.layer(self.gate(x))


Gating = Callable[[Any, np.ndarray, tuple[int, ...]], UnitGate]


def gated_layers(net: Any, graph: NetworkGraph, values: Any, gating: Gating = UnitGate) -> dict[str, Any]:
    """New cells for the layers that read units; their weights are gated by ``values``, (units,).

    Closing a unit's gate has the effect of cutting the unit: its channels are read as zeros, whatever the activation. A
    depthwise layer reads and produces the same units; it is cut together with the layer that reads it.
    """
    cells: dict[str, Any] = {}
    for path, position in graph.layers.items():
        node = graph.nodes[position]
        units = graph.input_units(node)
        if not node.depthwise and (units >= 0).any():
            cells[path] = _gated(cell_at(net, path), graph, node, values, gating)
    return cells


def _gated(layer: Any, graph: NetworkGraph, node: Node, values: Any, gating: Gating) -> Any:
    units = graph.input_units(node)
    if lies_in_rows(layer):
        columns = units.reshape(node.groups, -1)[0]
        shape = (1, -1, *[1] * (layer.weight.ndim - 2))
        return trained_layer(layer, gating(values, columns, shape), nn.Identity(), None, None)
    spatial = [1] if isinstance(layer, nn.Conv1dTranspose) else [1, 1]
    return GatedInput(layer, gating(values, units, (1, -1, *spatial)))


class ElementMask(nn.Cell):
    """Keeps some elements of a weight at zero."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mask = parameter(np.ones(shape, np.float32), "mask")

    def construct(self, weight: Any) -> Any:
        return weight * self.mask
