"""Cells for activations that a ReLU stands for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from autocomp.primitives.tracing.surgery import cell_at, replace_cells
from autocomp.search_spaces import Activation

from .layers import ms, nn, ops, parameter


class ElasticActivation(nn.Cell):
    """An activation, or a ReLU where ``gate`` is 0."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.activation = activation
        self.gate = parameter(np.float32(1), "gate")

    def construct(self, x: Any) -> Any:
        return self.activation(x) * self.gate + ops.relu(x) * (1 - self.gate)

    def set(self, replaced: bool) -> None:
        self.gate.set_data(ms.Tensor(np.float32(not replaced)))


def put_relus(net: Any, paths: Collection[str]) -> None:
    """A ReLU in the place of these cells of a copied network."""
    replace_cells(net, {path: nn.ReLU() for path in paths})


def elastic_activations(net: Any, activations: Collection[Activation]) -> dict[str, ElasticActivation]:
    """Puts a gate around each of these activations of a copied network; path -> its cell."""
    found = {one.name: ElasticActivation(cell_at(net, one.name)) for one in activations}
    replace_cells(net, found)
    return found
