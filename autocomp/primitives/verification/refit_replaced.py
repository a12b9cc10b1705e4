"""Fits a network in which other cells replace layers to the original network, one layer at a time.

It moves, in the order of execution, the convolutions and dense layers from the first replaced one on, and in the new
cells the layers that compute the old layer's outputs. They move by the ridge solution of
:mod:`autocomp.primitives.verification.refit` towards the layer's outputs for the same images in the original network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import numpy as np

from autocomp.primitives.cells.fake_quant import assign
from autocomp.primitives.cells.layer_pass import inputs_of_calls
from autocomp.primitives.numerics.patches import MOST_WIDTH, patch_width
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at
from autocomp.search_spaces import NetworkGraph, Node

from .refit import Batch, fitted_to, sampled


@dataclass(frozen=True, eq=False)
class Part:
    """A layer of a new cell whose outputs replace some of the old cell's outputs.

    name: its path within the new cell, "" for the cell itself. rows: (outputs,), their places among the old ones.
    """

    name: str
    rows: np.ndarray


def refit(
    whole: Any,
    graph: NetworkGraph,
    net: Any,
    smaller: NetworkGraph,
    parts: Mapping[str, Sequence[Part]],
    batches: Sequence[Batch],
) -> None:
    """Move weights and biases of ``net``; a copy of it runs.

    whole, graph: the original network; net, smaller: the network with new cells; parts: of the new cells, by path.
        batches: of the inputs.
    """
    wanted = _outputs(copy_network(whole).set_train(False), graph, _layers(graph, parts), batches)
    runner = copy_network(net).set_train(False)
    copies = {p.name: p for p in runner.get_parameters()}
    for layer, outputs in wanted.items():
        everything = Part("", np.arange(outputs.shape[1]))
        for part in parts.get(layer, (everything,)):
            path = f"{layer}.{part.name}" if part.name else layer
            node, cell = smaller.nodes[smaller.layers[path]], cell_at(net, path)
            weight, bias = _moved(node, cell, _seen(runner, path, node, batches), outputs[:, part.rows])
            moved = {cell.weight: weight} if bias is None else {cell.weight: weight, cell.bias: bias}
            for parameter, value in moved.items():
                assign(parameter, value)
                assign(copies[parameter.name], value)


def _layers(graph: NetworkGraph, parts: Mapping[str, Sequence[Part]]) -> list[str]:
    changed = dropwhile(lambda path: path not in parts, graph.layers)
    nodes = {path: graph.nodes[graph.layers[path]] for path in changed}
    return [
        path
        for path, node in nodes.items()
        if node.kind in ("conv", "dense") and not node.transposed and patch_width(node) <= MOST_WIDTH
    ]


def _outputs(net: Any, graph: NetworkGraph, layers: Sequence[str], batches: Sequence[Batch]) -> dict[str, np.ndarray]:
    """(n, out) of each layer that is called as a cell, at the places of the patches of :func:`_seen`."""
    cells = {path: cell_at(net, path) for path in layers}
    found: dict[str, list[np.ndarray]] = {path: [] for path in layers}
    for i, batch in enumerate(batches):
        for path, calls in inputs_of_calls(net, cells, batch).items():
            patches = sampled(graph.nodes[graph.layers[path]], calls, i)
            weight = cells[path].weight.asnumpy().reshape(patches.shape[1], -1, patches.shape[2])
            outputs = np.einsum("ngk,gok->ngo", patches, weight, optimize=True).reshape(len(patches), -1)
            found[path].append(outputs + cells[path].bias.asnumpy() if cells[path].has_bias else outputs)
    return {path: np.concatenate(outputs) for path, outputs in found.items() if outputs}


def _seen(net: Any, path: str, node: Node, batches: Sequence[Batch]) -> np.ndarray:
    """(n, groups, k): patches of the layer's inputs."""
    cells = {path: cell_at(net, path)}
    return np.concatenate(
        [sampled(node, inputs_of_calls(net, cells, batch)[path], i) for i, batch in enumerate(batches)]
    )


def _moved(node: Node, cell: Any, seen: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """seen: (n, groups, k); wanted: (n, out)."""
    weight, bias = cell.weight.asnumpy(), cell.bias.asnumpy() if cell.has_bias else None
    groups = seen.shape[1]
    split = [np.split(values, groups, axis) for values, axis in ((wanted, 1), (weight.reshape(len(weight), -1), 0))]
    biases = [None] * groups if bias is None else np.split(bias, groups)
    fits = [fitted_to(*some) for some in zip(split[0], seen.swapaxes(0, 1), split[1], biases, strict=True)]
    found = np.concatenate([one for one, _ in fits]).reshape(weight.shape)
    return found, None if bias is None else np.concatenate([one for _, one in fits if one is not None])
