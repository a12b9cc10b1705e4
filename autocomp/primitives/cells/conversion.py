"""Applies a plan to a network: removes pruned channels, folds BatchNorm, stores weights in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.primitives.numerics.folding import fold, norm_factors, norm_parameters
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels
from autocomp.primitives.tracing.dead_layers import Width, dead_layers
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.weight_layout import groups_left, to_out_first_layout
from autocomp.search_spaces import NetworkGraph, Node, foldable

from .activations import put_relus
from .blocks import skip_blocks
from .chains import put_chains
from .layer_pass import DividedInput, ScaledLayer
from .layers import (
    QuantizedConv2d,
    QuantizedConv2dTranspose,
    QuantizedDense,
    RoundedInput,
    RoundedLayer,
    RowsInput,
    StandIn,
    ms,
)
from .one_dimensional import QuantizedConv1d, QuantizedConv1dTranspose, float_conv1d, is_one_dimensional
from .tables import QuantizedEmbedding, table_of

nn, ops = ms.nn, ms.ops
MADE_OF = "_autocomp_made_of"


def convert(
    net: Any, graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, folds: bool = True
) -> Any:
    """A new Cell that computes what the compressed weights define.

    parameters: of the float network, by name. folds: whether BatchNorm is folded into the layer before it.
    """
    graph = compressed.graph or graph
    twin = copy_network(net).set_train(False)
    put_relus(twin, compressed.relus)
    skip_blocks(twin, compressed.skipped)
    put_chains(twin, graph)
    folded = {layer: bn for bn, layer in foldable(graph).items()} if folds else {}
    norms = {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer}
    new: dict[str, Any] = {}
    for layer, state in compressed.layers.items():
        node = graph.nodes[graph.layers[layer]]
        if layer in folded:
            norm = norms[folded[layer]]
            state = fold(state, *norm_factors(norm, parameters, compressed))
            new[folded[layer]] = nn.Identity()
        changed = _changes(state) or (compressed.relus and _moves(state, node, parameters))
        if layer in folded or changed or node.attributes.replaces is not None:
            new[layer] = _layer(cell_at(twin, layer), node, state)
    for name, node in norms.items():
        cut = not kept_channels(node.units, compressed.kept).all()
        if name not in new and (cut or name in compressed.statistics):
            new[name] = _batchnorm(cell_at(twin, name), node, parameters, compressed)
    for path, table in compressed.tables.items():
        if graph.nodes[graph.embeddings[path]].attributes.tied:  # others read it as floats
            table_of(cell_at(twin, path)).set_data(ms.Tensor(table.dequantized()))
        else:
            new[path] = QuantizedEmbedding(table)
            _train_alike(new[path], cell_at(twin, path))
    for node in graph.nodes:
        if node.op == "PReLU" and node.layer is not None:
            new[node.layer] = _prelu(cell_at(twin, node.layer), node, parameters, compressed)
    if not compressed.kept.all():
        new |= {path: DeadLayer(cell_at(twin, path), width) for path, width in dead_layers(twin, graph).items()}
    replace_cells(twin, new)
    rename_parameters(twin)
    if compressed.tables or any(_stores_integers(state) for state in compressed.layers.values()):
        object.__setattr__(twin, MADE_OF, MadeOf(graph, parameters, compressed))
    return twin


@dataclass(frozen=True)
class MadeOf:
    """What a converted network in integers was made of; its operators are no longer those of the graph."""

    graph: NetworkGraph
    parameters: Parameters
    compressed: CompressedWeights

    def __deepcopy__(self, memo: dict[int, Any]) -> MadeOf:
        return self


def converted(net: Any) -> MadeOf | None:
    """None for a network in floats, which can be traced as it is."""
    return getattr(net, MADE_OF, None)


class DeadLayer(StandIn):
    """A layer that no output depends on: it takes any number of channels. width: those of the whole network."""

    def __init__(self, layer: Any, width: Width) -> None:
        super().__init__()
        self.layer = layer
        self.axis, self.channels = width

    def construct(self, x: Any, *others: Any) -> Any:
        before, after = x.shape[: self.axis], x.shape[self.axis :][1:]
        return self.layer(ops.zeros((*before, self.channels, *after), x.dtype), *others)


def _stores_integers(state: LayerState) -> bool:
    return state.quantized is not None or state.activation is not None


def _changes(state: LayerState) -> bool:
    whole = state.rows.all() and state.columns.all()
    return not whole or state.sparse or state.quantized is not None or state.activation is not None


def _moves(state: LayerState, node: Node, parameters: Parameters) -> bool:
    """Whether a layer that is whole takes in what a ReLU before it shifts."""
    return node.bias is not None and state.bias is not None and not np.array_equal(state.bias, parameters[node.bias])


def _layer(cell: Any, node: Node, state: LayerState) -> Any:
    groups = groups_left(node, len(state.weight))
    if state.quantized is None:
        new = _dense(cell, state) if node.kind == "dense" else _conv(cell, node, state, groups)
    elif node.transposed:
        form = QuantizedConv1dTranspose if is_one_dimensional(cell) else QuantizedConv2dTranspose
        new = form(cell, state.quantized, state.bias, groups)
    elif node.kind == "conv":
        kind = QuantizedConv1d if is_one_dimensional(cell) else QuantizedConv2d
        new = kind(cell, state.quantized, state.bias, groups)
    else:
        new = QuantizedDense(cell, state.quantized, state.bias)
    _train_alike(new, cell)
    new = new if state.activation is None else RoundedLayer(RoundedInput(state.activation), new)
    new = new if state.row_bits is None else RoundedLayer(RowsInput(state.row_bits), new)
    return new if state.scale is None else ScaledLayer(DividedInput(state.scale, state.shift), new)


def _train_alike(new: Any, like: Any) -> None:
    """Parameters that are frozen in ``like`` are frozen in the new cell, too."""
    trains = {name: parameter.requires_grad for name, parameter in like.parameters_and_names(expand=False)}
    for name, parameter in new.parameters_and_names(expand=False):
        parameter.requires_grad = trains.get(name, parameter.requires_grad)


def _conv(like: Any, node: Node, state: LayerState, groups: int) -> Any:
    """A convolution of the class of ``like``; only a transposed one has an output padding."""
    window: dict[str, Any] = {"group": groups}
    if state.bias is not None:
        window |= {"has_bias": True, "bias_init": ms.Tensor(state.bias)}
    weight, cell, channels = state.weight, nn.Conv2d, (state.weight.shape[1] * groups, state.weight.shape[0])
    if node.transposed:
        weight, cell = to_out_first_layout(weight, groups), nn.Conv2dTranspose
    if is_one_dimensional(like):
        return float_conv1d(like, node.transposed, channels, weight, window)
    window |= {"pad_mode": like.pad_mode, "padding": like.padding, "dilation": like.dilation}
    if node.transposed:
        window["output_padding"] = like.output_padding
    return cell(
        *channels,
        like.kernel_size,
        like.stride,
        weight_init=ms.Tensor(np.ascontiguousarray(weight)),
        **window,
    )


def _dense(like: Any, state: LayerState) -> Any:
    outputs, inputs = state.weight.shape
    bias = {} if state.bias is None else {"bias_init": ms.Tensor(state.bias)}
    dense = nn.Dense(
        inputs, outputs, ms.Tensor(np.ascontiguousarray(state.weight)), has_bias=state.bias is not None, **bias
    )
    dense.activation, dense.activation_flag = like.activation, like.activation_flag
    return dense


def _batchnorm(like: Any, node: Node, parameters: Parameters, compressed: CompressedWeights) -> Any:
    gamma, beta, mean, variance = norm_parameters(node, parameters, compressed)
    new = type(like)(
        len(gamma),
        eps=node.normalization.epsilon,
        momentum=1 - like.momentum,  # MindSpore stores 1 - momentum
        use_batch_statistics=like.use_batch_statistics,
        gamma_init=ms.Tensor(gamma),
        beta_init=ms.Tensor(beta),
        moving_mean_init=ms.Tensor(mean),
        moving_var_init=ms.Tensor(variance),
    )
    _train_alike(new, like)
    return new.set_train(False)


def _prelu(like: Any, node: Node, parameters: Parameters, compressed: CompressedWeights) -> Any:
    slope = parameters[node.parameters[0]]
    kept = kept_channels(node.units, compressed.kept)
    new = nn.PReLU(1)
    new.w = ms.Parameter(ms.Tensor(slope[kept] if len(slope) > 1 else slope), name="w")
    _train_alike(new, like)
    return new
