"""Matrix products: those of layers and of activations, and how a chip pads and divides them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.search_spaces import WEIGHTED, Node

if TYPE_CHECKING:
    from .lowered import LoweredNetwork

TRANSPOSED = ("Conv2DTranspose", "Conv2DBackpropInput", "Conv3DTranspose", "Conv3DBackpropInput")
Shape = tuple[int, ...]


def padded(amount: np.ndarray, tile: int) -> np.ndarray:
    return -(-amount // tile) * tile


@dataclass(frozen=True)
class MatrixUnits:
    """How a chip divides a matrix product.

    tile: precision -> (rows, channels out, channels in).
    pack: channels of narrow groups that run together.
    grouped_depth: whether fewer channels in than a tile are multiplied without padding.
    whole_depth: whether the depth is padded over all kernel positions together.
    grouped_block: channels that a depthwise convolution in integers multiplies at once; each channel beyond a multiple
        of it takes as long as such a channel block.
    blocks, splits: tile blocks (rows, channels out) that one core computes, and the numbers of parts into which the
        depth may be split; the fastest is used. None: cores are idle only where the matrices of a product of
        activations cannot be divided evenly among them.
    alignments: (channels, share, share): by how much longer a layer in floats takes for each side, input or output,
        whose channels are no multiple of so many: with kernels of one position, and with others.
    """

    tile: Mapping[str, tuple[int, int, int]]
    pack: int
    whole_depth: bool = False
    grouped_depth: bool = False
    grouped_block: int = 1
    blocks: tuple[tuple[int, int], ...] = ()
    splits: tuple[int, ...] = (1,)
    cores: int = 1
    half_block: float = 0.0  # elements of a tile block at which a core reaches half its rate
    alignments: tuple[tuple[int, float, float], ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> MatrixUnits:
        tile = {name: tuple(shape) for name, shape in data["tile"].items()}
        blocks = tuple(map(tuple, data.get("blocks", ())))
        splits = tuple(data.get("splits", (1,)))
        names = ("whole_depth", "grouped_depth", "grouped_block", "cores", "half_block")
        known = {name: data[name] for name in names if name in data}
        alignments = tuple((count, one, several) for count, one, several in data.get("alignments", ()))
        return cls(tile, data["pack"], blocks=blocks, splits=splits, alignments=alignments, **known)

    def waves(
        self,
        rows: np.ndarray,
        width: np.ndarray,
        depth: np.ndarray,
        matrices: np.ndarray,
        step: int,
        block: tuple[int, int],
        split: int,
    ) -> np.ndarray:
        """(n,) multiply-accumulates of all cores, including idle ones; the parts of a split depth are added."""
        area = block[0] * block[1]
        blocks = np.ceil(rows / block[0]) * np.ceil(width / block[1]) * matrices * split
        part = padded(depth / split, step) + (step if split > 1 else 0)
        return np.ceil(blocks / self.cores) * self.cores * (area + self.half_block) * part


@dataclass(frozen=True)
class Gemm:
    """Sizes of a conv or dense layer under the given plans, each (n,)."""

    rows: np.ndarray  # positions at which the weight is applied, in the whole batch
    channels_in: np.ndarray  # of one group
    channels_out: np.ndarray  # of all groups
    groups: np.ndarray
    kernel: int  # positions

    @property
    def macs(self) -> np.ndarray:
        return self.rows * self.channels_out * self.channels_in * self.kernel

    @property
    def weights(self) -> np.ndarray:
        return self.channels_out * self.channels_in * self.kernel

    def matrix_macs(self, units: MatrixUnits, precision: str) -> np.ndarray:
        """Multiply-accumulates of the matrix units: sizes padded to their tile, in tile blocks spread over the cores.

        Groups that are too narrow for the unit run together as one matrix that contains zeros, up to ``pack`` channels;
        the best number of groups is used.
        """
        most = np.clip(units.pack // np.maximum(self.channels_in, 1), 1, self.groups)
        counts = range(1, int(most.max(initial=1)) + 1)
        return np.minimum.reduce([self._packed(units, precision, np.minimum(count, most)) for count in counts])

    def _packed(self, units: MatrixUnits, precision: str, together: np.ndarray) -> np.ndarray:
        """(n,): the multiply-accumulates with so many groups together."""
        rows, columns, depth = units.tile[precision]
        matrices = np.ceil(self.groups / together)
        width = np.ceil(self.channels_out / self.groups) * together
        if units.whole_depth:
            deep = padded(self.channels_in * together * self.kernel, depth)
        else:
            channels = self.channels_in * together
            as_it_is = units.grouped_depth & (channels < depth)
            deep = np.where(as_it_is, channels, padded(channels, depth)) * self.kernel
        if not units.blocks:
            return padded(self.rows, rows) * matrices * padded(width, columns) * deep
        return np.minimum.reduce(
            [
                units.waves(self.rows, width, deep, matrices, depth, block, split)
                for block in units.blocks
                for split in units.splits
            ]
        )


def multiplied(lowered: LoweredNetwork, index: int) -> Gemm | None:
    """The matrix product of a node; None where it has none."""
    node = lowered.graph.nodes[index]
    if node.kind in WEIGHTED and node.weight_shape:
        return gemm_of(lowered, index)
    if node.kind == "matmul" and node.inputs:
        return product_of(lowered, index)
    if node.op == "LSTM":
        return steps_of(lowered, index)
    return convolution_of(lowered, index) if node.convolves else None


def gemm_of(lowered: LoweredNetwork, index: int) -> Gemm:
    graph, workload = lowered.graph, lowered.workload
    node = graph.nodes[index]
    assert node.weight_shape is not None
    out, inner, *kernel = node.weight_shape
    channels_out = _kept(lowered, index, out)
    source = _kept(lowered, node.inputs[0], inner * node.groups)
    rows = np.full(len(workload), float(node.positions * lowered.images(index)))
    if node.depthwise:
        ones = np.ones(len(workload))
        return Gemm(rows, ones, channels_out, np.maximum(channels_out // (out // node.groups), 1), math.prod(kernel))
    groups = np.full(len(workload), float(node.groups))
    return Gemm(rows, source / groups, channels_out, groups, math.prod(kernel))


def _kept(lowered: LoweredNetwork, node: int, channels: int) -> np.ndarray:
    """(n,) channels; as traced where the node's channel axis is not the axis that the weight reads."""
    if len(lowered.graph.nodes[node].units) != channels:
        return np.full(len(lowered.workload), float(channels))
    return lowered.workload.channels_of(node).astype(float)


def product_of(lowered: LoweredNetwork, index: int) -> Gemm:
    """A product of two activations as a layer whose groups are the matrices of the whole batch.

    In a product with a parameter the parameter's matrices are the groups, and all other axes are rows.
    """
    node, ones = lowered.graph.nodes[index], np.ones(len(lowered.workload))
    (left, left_varies), (right, right_varies) = (_operand(lowered, node, i) for i in (0, 1))
    shape = (1, 1, *_as_matrix(node.shape, left, right))
    depth = left[-2] if node.turns[0] and len(left) > 1 else left[-1]
    sizes = [size * ones for size in (shape[-1], shape[-2], math.prod(shape[:-2]) * lowered.images(index))]
    if len(node.units):  # on the columns, the rows or, where they are heads, the matrices
        last = len(node.shape) - 1
        from_last = last - node.channel_axis + (len(right) == 1)
        sizes[min(from_last, 2)] *= lowered.workload.channels_of(index) / len(node.units)
    columns, rows, matrices = sizes
    if left_varies and right_varies:
        return Gemm(rows, depth * ones, columns * matrices, matrices, 1)
    own = math.prod((left if right_varies else right)[:-2]) * ones  # matrices of the parameter
    if right_varies:
        rows, columns = columns, rows
    return Gemm(rows * matrices / own, depth * ones, columns * own, own, 1)


def _operand(lowered: LoweredNetwork, node: Node, position: int) -> tuple[Shape, bool]:
    """The operand's shape, and whether it depends on the network's input."""
    kind, value, *_ = node.attributes.arguments[position]
    if kind == "node":
        return lowered.graph.nodes[value].shape, lowered.graph.fed[value]
    if kind == "parameter":
        return node.attributes.parameter_shapes[node.parameters.index(value)], False
    return np.shape(value), False


def _as_matrix(product: Shape, left: Shape, right: Shape) -> Shape:
    """The shape of a product, with a row for a vector on the left and a column for a vector on the right."""
    if len(right) == 1:
        product = (*product, 1)
    return (*product[:-1], 1, product[-1]) if len(left) == 1 else product


def convolution_of(lowered: LoweredNetwork, index: int) -> Gemm:
    """A convolution that is not a layer of the graph: with one or three spatial dimensions, or with a computed
    weight."""
    node, ones = lowered.graph.nodes[index], np.ones(len(lowered.workload))
    (image, _), (weight, _) = (_operand(lowered, node, i) for i in (0, 1))
    out, inner, *kernel = weight
    groups, places = image[1] // inner, node.elements // out
    if node.op in TRANSPOSED:
        groups, places = node.shape[1] // inner, math.prod(image) // image[1]
        out, inner = node.shape[1], out // groups
    rows = float(places * lowered.images(index)) * ones
    return Gemm(rows, inner * ones, out * ones, groups * ones, math.prod(kernel))


def steps_of(lowered: LoweredNetwork, index: int) -> Gemm:
    """An LSTM of one direction, output (steps, batch, hidden), as a layer whose groups are the steps.

    Each step multiplies the rows of its batch, with input and state concatenated, by the weights of four gates.
    """
    node, ones = lowered.graph.nodes[index], np.ones(len(lowered.workload))
    sizes = node.attributes.operator
    steps, rows, hidden = node.shape
    return Gemm(
        rows * lowered.images(index) * ones,
        (sizes["input_size"] + sizes["hidden_size"]) * ones,
        4 * hidden * steps * ones,
        steps * ones,
        1,
    )
