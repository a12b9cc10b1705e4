"""A plan carried out for real: channels sliced off, BatchNorm folded, weights in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..search_spaces import NetworkGraph, Node
from .cells import QuantizedConv2d, QuantizedDense, RoundedInput, ms
from .folding import fold, foldable, norm_factors, norm_parameters
from .mindir import copy_network
from .realise import LayerState, Parameters, Realisation, kept_channels
from .surgery import cell_at, rename_parameters, replace_cells

nn = ms.nn


def convert(net: Any, graph: NetworkGraph, parameters: Parameters, realisation: Realisation, folds: bool = True) -> Any:
    """A new Cell that computes what the plan promises.

    parameters: of the float network, by name. folds: whether BatchNorm is folded into the layer before it.
    """
    twin = copy_network(net).set_train(False)
    folded = {layer: bn for bn, layer in foldable(graph).items()} if folds else {}
    norms = {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer}
    new: dict[str, Any] = {}
    for layer, state in realisation.layers.items():
        node = graph.nodes[graph.layers[layer]]
        if layer in folded:
            norm = norms[folded[layer]]
            state = fold(state, *norm_factors(norm, parameters, realisation))
            new[folded[layer]] = nn.Identity()
        new[layer] = _layer(cell_at(twin, layer), node, state)
    for name, node in norms.items():
        if name not in new:
            new[name] = _batchnorm(cell_at(twin, name), node, parameters, realisation)
    for node in graph.nodes:
        if node.op == "PReLU" and node.layer is not None:
            new[node.layer] = _prelu(node, parameters, realisation)
    replace_cells(twin, new)
    rename_parameters(twin)
    return twin


def _layer(cell: Any, node: Node, state: LayerState) -> Any:
    groups = len(state.weight) if node.depthwise and node.groups == len(node.units) else _groups(node, state)
    if node.kind == "conv":
        new = _conv(cell, state, groups) if state.quantized is None else QuantizedConv2d(
            cell, state.quantized, state.bias, groups)  # fmt: skip
    else:
        new = _dense(cell, state) if state.quantized is None else QuantizedDense(cell, state.quantized, state.bias)
    return new if state.activation is None else nn.SequentialCell(RoundedInput(state.activation), new)


def _groups(node: Node, state: LayerState) -> int:
    """Depthwise layers with several outputs a channel lose groups; other grouped layers keep theirs."""
    assert node.weight_shape is not None
    return len(state.weight) * node.groups // node.weight_shape[0] if node.depthwise else node.groups


def _conv(like: Any, state: LayerState, groups: int) -> Any:
    bias = {} if state.bias is None else {"bias_init": ms.Tensor(state.bias)}
    return nn.Conv2d(
        state.weight.shape[1] * groups,
        state.weight.shape[0],
        like.kernel_size,
        like.stride,
        like.pad_mode,
        like.padding,
        like.dilation,
        groups,
        has_bias=state.bias is not None,
        weight_init=ms.Tensor(np.ascontiguousarray(state.weight)),
        **bias,
    )


def _dense(like: Any, state: LayerState) -> Any:
    outputs, inputs = state.weight.shape
    bias = {} if state.bias is None else {"bias_init": ms.Tensor(state.bias)}
    dense = nn.Dense(
        inputs, outputs, ms.Tensor(np.ascontiguousarray(state.weight)), has_bias=state.bias is not None, **bias
    )
    dense.activation, dense.activation_flag = like.activation, like.activation_flag
    return dense


def _batchnorm(like: Any, node: Node, parameters: Parameters, realisation: Realisation) -> Any:
    gamma, beta, mean, variance = norm_parameters(node, parameters, realisation)
    return type(like)(
        len(gamma),
        eps=node.attributes["epsilon"],
        gamma_init=ms.Tensor(gamma),
        beta_init=ms.Tensor(beta),
        moving_mean_init=ms.Tensor(mean),
        moving_var_init=ms.Tensor(variance),
    ).set_train(False)


def _prelu(node: Node, parameters: Parameters, realisation: Realisation) -> Any:
    slope = parameters[node.attributes["parameters"][0]]
    kept = kept_channels(node.units, realisation.kept)
    new = nn.PReLU(1)
    new.w = ms.Parameter(ms.Tensor(slope[kept] if len(slope) > 1 else slope), name="w")
    return new
