"""Patches of a layer's input, which its weight is multiplied with, and their moments.

The output error of a rounded weight, E|(W' - W) x|^2, depends on the input through E[x x^T] alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

PATCHES = 8_000  # of a layer's input, from which its second moments are computed
MOST_WIDTH = 512 * 9  # numbers in a patch; rounding a layer of that width takes about ten seconds
MOST_MOMENTS = 100_000_000  # float32 numbers of all layers together
RIDGE, DOUBT = 0.01, 0.2  # in mean variances; DOUBT is multiplied by numbers in a patch / patches


@dataclass(frozen=True)
class Hessian:
    """Moments over images and output positions, for each group of a convolution.

    mean: (groups, k), covariance: (groups, k, k), float32, k = in / groups * kh * kw in the order of the weight.
    count: number of patches.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def of(self, places: np.ndarray) -> Hessian:
        """The moments of some of a patch's numbers; places: (k,) bool."""
        if places.all():
            return self
        return Hessian(self.mean[:, places], self.covariance[:, places][:, :, places], self.count)

    def divided(self, scale: np.ndarray) -> Hessian:
        """The moments where the input of a dense layer is divided by these numbers, (k,)."""
        factor = (1 / scale).astype(np.float32)
        return Hessian(self.mean * factor, self.covariance * np.outer(factor, factor), self.count)

    def shifted(self, shift: np.ndarray) -> Hessian:
        """The moments where these numbers, (k,), are subtracted from the input of a dense layer."""
        return Hessian((self.mean - shift).astype(np.float32), self.covariance, self.count)

    def parted(self, groups: int) -> Hessian:
        """Of one group the moments in so many groups, each of which reads an equal part of the patch."""
        parts = np.split(np.arange(self.mean.shape[1]), groups)
        covariance = np.stack([self.covariance[0][np.ix_(part, part)] for part in parts])
        return Hessian(self.mean.reshape(groups, -1), covariance, self.count)

    def mean_output(self, weight: np.ndarray) -> np.ndarray:
        """(out,): the mean output of a weight (out, in / groups, ...) for the patches."""
        rows = weight.reshape(len(self.mean), -1, self.mean.shape[1])
        return np.asarray((rows @ self.mean[:, :, None]).reshape(-1), np.float32)

    def damped(self, centred: bool) -> np.ndarray:
        """(groups, k, k) float64: E[x x^T], or the covariance, with a ridge on the diagonal.

        The ridge is larger for fewer patches: with few patches the moments of a wide layer are partly chance.
        """
        moment = self.covariance.astype(np.float64)
        width = moment.shape[-1]
        if not centred:
            mean = self.mean.astype(np.float64)
            moment += mean[:, :, None] * mean[:, None, :]
        ridge = (RIDGE + DOUBT * width / max(self.count, 1)) * np.trace(moment, axis1=1, axis2=2) / width
        moment[:, np.arange(width), np.arange(width)] += ridge[:, None]
        return moment


class PatchSums:
    """Sums over patches, which are added as (n, groups, k)."""

    def __init__(self) -> None:
        self.count, self._first, self._second = 0, np.zeros(1), np.zeros(1)

    def add(self, patches: np.ndarray) -> None:
        columns = patches.astype(np.float64).transpose(1, 2, 0)
        self.count += len(patches)
        self._first = self._first + columns.sum(2)
        self._second = self._second + columns @ columns.transpose(0, 2, 1)

    def moments(self) -> Hessian:
        mean = self._first / self.count
        covariance = self._second / self.count - mean[:, :, None] * mean[:, None, :]
        return Hessian(mean.astype(np.float32), covariance.astype(np.float32), self.count)


def sample_patches(node: Node, values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(n, groups, k): ``count`` random patches of the input of a conv or dense layer, or all where there are fewer.

    values: (images, channels, height, width) of a conv, (..., in) of a dense layer.
    """
    if node.kind == "dense":
        rows = values.reshape(-1, values.shape[-1])
        return rows[rng.choice(len(rows), min(count, len(rows)), replace=False)][:, None]
    return _at(node, values, count, rng, 0)[:, 0]


def sample_around(node: Node, values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 9, k): random patches of the input of a convolution with one group, with those of the eight positions around
    each, row by row; zeros where these lie outside the output."""
    return _at(node, values, count, rng, 1)[:, :, 0]


def _at(node: Node, values: np.ndarray, count: int, rng: np.random.Generator, reach: int) -> np.ndarray:
    """(n, (2 reach + 1)^2, groups, k)"""
    window = node.convolution
    (kernel_y, kernel_x), (stride_y, stride_x), (dilation_y, dilation_x) = window.kernel, window.stride, window.dilation
    top, bottom, left, right = window.pad
    padded = np.pad(values.transpose(0, 2, 3, 1), ((0, 0), (top, bottom), (left, right), (0, 0)))
    height = (padded.shape[1] - dilation_y * (kernel_y - 1) - 1) // stride_y + 1
    width = (padded.shape[2] - dilation_x * (kernel_x - 1) - 1) // stride_x + 1
    places = len(values) * height * width
    image, y, x = np.unravel_index(rng.choice(places, min(count, places), replace=False), (len(values), height, width))
    found = []
    for step_y, step_x in itertools.product(range(-reach, reach + 1), repeat=2):
        inside = (y + step_y >= 0) & (y + step_y < height) & (x + step_x >= 0) & (x + step_x < width)
        at_y, at_x = np.where(inside, y + step_y, 0), np.where(inside, x + step_x, 0)
        rows_at = (at_y * stride_y)[:, None, None] + dilation_y * np.arange(kernel_y)[:, None]
        columns_at = (at_x * stride_x)[:, None, None] + dilation_x * np.arange(kernel_x)
        patches = padded[image[:, None, None], rows_at, columns_at]  # (n, kernel_y, kernel_x, channels)
        patches = patches.transpose(0, 3, 1, 2).reshape(len(image), node.groups, -1)
        found.append(patches if reach == 0 else patches * inside[:, None, None])
    return np.stack(found, 1)


def narrow_layers(graph: NetworkGraph, layers: Collection[str]) -> list[str]:
    """The layers whose moments fit into the memory for them, the narrowest first; transposed convolutions have no
    patches."""
    nodes = {layer: graph.nodes[i] for layer, i in graph.layers.items() if layer in layers}
    sizes = {
        layer: node.groups * width**2
        for layer, node in nodes.items()
        if not node.transposed and (width := patch_width(node)) <= MOST_WIDTH
    }
    order = sorted(sizes, key=lambda layer: sizes[layer])
    used = np.cumsum([sizes[layer] for layer in order])
    return [layer for layer, total in zip(order, used, strict=True) if total <= MOST_MOMENTS]


def patch_width(node: Node) -> int:
    assert node.weight_shape is not None
    return int(np.prod(node.weight_shape[1:]))


def normalised_layers(graph: NetworkGraph) -> frozenset[str]:
    """Layers whose output is read by BatchNorm alone: moving its statistics compensates a shift of their mean."""
    normalised: dict[str, bool] = {}
    for i, node in enumerate(graph.nodes):
        if node.weight_shape is not None and node.layer is not None:
            normalised[node.layer] = normalised.get(node.layer, True) and _normalised(graph, i)
    return frozenset(layer for layer, always in normalised.items() if always)


def _normalised(graph: NetworkGraph, i: int) -> bool:
    readers = [graph.nodes[reader] for reader in graph.consumers[i]]
    if i in graph.outputs or not readers:
        return False
    if all(reader.kind == "batchnorm" and reader.layer is not None for reader in readers):
        return True
    # BatchNorm1d normalises (n, c) as (n, c, 1, 1)
    return len(readers) == 1 and readers[0].kind == "reshape" and _normalised(graph, graph.consumers[i][0])
