"""Takes the integers of converted networks out of a Cell that contains them, so that the Cell can be traced anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autocomp.primitives.numerics.folding import fold, norm_factors
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState
from autocomp.primitives.numerics.quantizers import QuantizedWeight
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.search_spaces import NetworkGraph, foldable

from .conversion import MADE_OF, MadeOf, converted
from .layer_pass import ScaledLayer
from .layers import QuantizedDense, RoundedLayer, ms, nn
from .tables import QuantizedEmbedding


@dataclass(frozen=True)
class Apart:
    """net: a copy with floats in the place of stored integers. layers, tables: the integers, by path in ``net``."""

    net: Any
    layers: dict[str, LayerState]
    tables: dict[str, QuantizedWeight]

    def put_back(self, compressed: CompressedWeights, graph: NetworkGraph) -> CompressedWeights:
        """compressed: of the copy's own floats."""
        layers = {layer: self.layers.get(layer, state) for layer, state in compressed.layers.items()}
        tables = {path: table for path, table in self.tables.items() if path in graph.embeddings}
        return replace(compressed, layers=layers, tables=tables)


def integers_apart(net: Any) -> Apart | None:
    """Of the dense layers and embeddings of every converted network within ``net``, which may be one itself; other
    layers stay as they are. None where nothing is stored in integers."""
    twin = copy_network(net).set_train(False)
    new: dict[str, Any] = {}
    layers: dict[str, LayerState] = {}
    tables: dict[str, QuantizedWeight] = {}
    for prefix, inner in list(twin.cells_and_names()):
        made = converted(inner)
        if made is None:
            continue
        for layer, state in _states(made):
            path = f"{prefix}.{layer}" if prefix else layer
            cell = cell_at(inner, layer)
            dense = cell
            while isinstance(dense, (RoundedLayer, ScaledLayer)):
                dense = dense[1]
            if isinstance(dense, QuantizedDense):
                new[path], layers[path] = _in_floats(dense, state), state
        for layer, table in made.compressed.tables.items():
            path, cell = f"{prefix}.{layer}" if prefix else layer, cell_at(inner, layer)
            tables[path] = table
            if isinstance(cell, QuantizedEmbedding):
                new[path] = nn.Embedding(*table.integers.shape, embedding_table=ms.Tensor(table.dequantized()))
    if not layers and not tables:
        return None
    for _, inner in twin.cells_and_names():
        vars(inner).pop(MADE_OF, None)
    replace_cells(twin, new)
    rename_parameters(twin)
    return Apart(twin, layers, tables)


def _states(made: MadeOf) -> Iterator[tuple[str, LayerState]]:
    """The layers that store integers, with the BatchNorm after them folded in, whole as they now are."""
    graph, compressed = made.compressed.graph or made.graph, made.compressed
    folded = {layer: norm for norm, layer in foldable(graph).items()}
    norms = {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer}
    for layer, state in compressed.layers.items():
        if state.quantized is None and state.activation is None:
            continue
        if layer in folded:
            state = fold(state, *norm_factors(norms[folded[layer]], made.parameters, compressed))
        rows, columns = (np.ones(size, bool) for size in state.weight.shape[:2])
        yield layer, replace(state, rows=rows, columns=columns)


def _in_floats(dense: Any, state: LayerState) -> Any:
    outputs, inputs = state.weight.shape
    bias = {} if state.bias is None else {"bias_init": ms.Tensor(state.bias)}
    weight = ms.Tensor(np.ascontiguousarray(state.weight))
    found = nn.Dense(inputs, outputs, weight, has_bias=state.bias is not None, **bias)
    found.activation, found.activation_flag = dense.activation, dense.activation is not None
    return found
