"""Fits layers that read pruned units to their outputs before pruning: least squares in the pruned network itself.

For each such layer, in the order of execution: X' are the patches that its weight is multiplied with in the pruned
network, in which the layers before it are fitted already. Y are the layer's outputs for the same images in the unpruned
network. The weight of the kept inputs moves by the ridge solution

    dW = (Y - W X') X'^T (X' X'^T + ridge)^-1

(He et al., ICCV 2017, section 3.1, where Y is also that of the unpruned network). It also compensates the errors of the
layers before it, which :mod:`autocomp.primitives.numerics.reconstruction`, the source of W, does not include.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.numerics.patches import DOUBT, RIDGE, narrow_layers, sample_patches
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, parameters_of
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import NetworkGraph, Node

PATCHES = 8_000  # of a layer's input, in all batches together
RECONSTRUCTED = 128  # images to fit on, CHUNK at a time
CHUNK = 32

Batch = tuple[np.ndarray, ...]


def to_fit_on(batches: Iterable[Batch]) -> list[Batch]:
    """The first images of these batches."""
    return list(islice(rebatched(batches, CHUNK), RECONSTRUCTED // CHUNK))


def rebatched(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same samples in batches of at most this size."""
    for batch in batches:
        for start in range(0, len(batch[0]), size):
            yield tuple(column[start : start + size] for column in batch)


def refitted(
    net: Any, graph: NetworkGraph, compressed: CompressedWeights, batches: Sequence[Batch]
) -> CompressedWeights:
    """The same weights, with other weights and biases for the layers that read cut units.

    Grouped and transposed convolutions, sparse and very wide layers are not fitted.

    net: with all its weights. compressed: a cut without rounding. batches: of the network's inputs.
    """
    readers = _readers(graph, compressed)
    elastic, layers = ElasticNetwork(net, graph), dict(compressed.layers)
    wanted = _outputs(elastic, readers, batches, parameters_of(net))
    elastic.set(compressed)
    for path, node in readers.items():
        patches = np.concatenate([_patches(elastic, {path: node}, batch, i)[path] for i, batch in enumerate(batches)])
        layers[path] = _fitted(layers[path], patches, wanted[path])
        elastic.set(replace(compressed, layers=layers))
    return replace(compressed, layers=layers)


def _readers(graph: NetworkGraph, compressed: CompressedWeights) -> dict[str, Node]:
    cut = [path for path, state in compressed.layers.items() if not state.columns.all() and not state.sparse]
    narrow = set(narrow_layers(graph, cut))
    nodes = {path: graph.nodes[i] for path, i in graph.layers.items() if path in narrow}
    return {path: node for path, node in nodes.items() if node.groups == 1}


def _outputs(
    elastic: ElasticNetwork, readers: Mapping[str, Node], batches: Sequence[Batch], parameters: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """(n, out) of each layer in the unpruned network, at the places of the patches of :func:`_patches`."""
    found: dict[str, list[np.ndarray]] = {path: [] for path in readers}
    for i, batch in enumerate(batches):
        for path, patches in _patches(elastic, readers, batch, i).items():
            node = readers[path]
            weight = weight_of(node, parameters)
            bias = np.float32(0) if node.bias is None else parameters[node.bias]
            found[path].append(patches @ weight.reshape(len(weight), -1).T + bias)
    return {path: np.concatenate(parts) for path, parts in found.items()}


def _patches(elastic: ElasticNetwork, readers: Mapping[str, Node], batch: Batch, seed: int) -> dict[str, np.ndarray]:
    """(n, k) for each layer; the same seed gives the same places."""
    seen = elastic.layer_inputs(batch, readers)
    return {path: sampled(node, seen[path], seed)[:, 0] for path, node in readers.items()}


def sampled(node: Node, calls: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """(n, groups, k): patches of the inputs of a layer's calls in a batch; the same seed gives the same places of their
    outputs."""
    count, rng = PATCHES * CHUNK // (RECONSTRUCTED * len(calls)), np.random.default_rng(seed)
    return np.concatenate([sample_patches(node, values, count, rng) for values in calls])


def _fitted(state: LayerState, patches: np.ndarray, wanted: np.ndarray) -> LayerState:
    """patches: (n, k); wanted: (n, out)."""
    seen = patches[:, np.repeat(state.columns, state.weight[0, 0].size)]
    weight, bias = fitted_to(wanted[:, state.rows], seen, state.weight.reshape(len(state.weight), -1), state.bias)
    return replace(state, weight=weight.reshape(state.weight.shape), bias=bias)


def fitted_to(
    wanted: np.ndarray, seen: np.ndarray, weight: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The weight and the bias, moved so that ``seen @ weight.T + bias`` is near ``wanted``; float32.

    wanted: (n, out); seen: (n, k); weight: (out, k); bias: (out,), or None.
    """
    return Regression.on(seen, bias is not None).fitted(wanted, weight, bias)


@dataclass(frozen=True, eq=False)
class Regression:
    """Ridge regression of outputs on patches that are known once.

    seen: (n, k) float64. mean: (k,), which a bias takes up, or zeros. moment: (k, k), with the ridge.
    """

    seen: np.ndarray
    mean: np.ndarray
    moment: np.ndarray

    @classmethod
    def on(cls, seen: np.ndarray, biased: bool) -> Regression:
        seen = seen.astype(np.float64)
        mean = seen.mean(0) if biased else np.zeros(seen.shape[1])
        centred = seen - mean
        moment = centred.T @ centred
        width = len(moment)
        ridge = (RIDGE + DOUBT * width / len(seen)) * max(float(np.trace(moment)) / width, 1e-12)
        return cls(seen, mean, moment + ridge * np.eye(width))

    def outputs(self, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """(n, out)"""
        return np.asarray(self.seen @ weight.astype(np.float64).T + (0 if bias is None else bias))

    def fitted(
        self, wanted: np.ndarray, weight: np.ndarray, bias: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See :func:`fitted_to`."""
        missing = wanted - self.outputs(weight, bias)
        moved = np.linalg.solve(self.moment, (self.seen - self.mean).T @ missing).T
        if bias is not None:
            bias = (bias + missing.mean(0) - moved @ self.mean).astype(np.float32)
        return (weight + moved).astype(np.float32), bias
