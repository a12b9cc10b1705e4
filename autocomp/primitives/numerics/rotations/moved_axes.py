"""How operators move the axis of a tensor's channels: what carries it on, and what sums over it."""

from __future__ import annotations

import math

import numpy as np

from autocomp.search_spaces import Node

NORMS = ("LayerNorm", "LayerNormExt", "RmsNorm")
CENTRING = ("LayerNorm", "LayerNormExt")
SUMS = ("Add", "AddExt", "Sub", "SubExt", "BiasAdd")
FACTORS = ("Mul", "Muls", "Div", "Divs", "RealDiv")
COMMUTING = ("Mul", "Muls")
SAME = ("Identity", "Neg", "Cast", "Split", "SplitWithSize", "SplitTensor", "Chunk")
RESHAPES = ("Reshape", "ExpandDims", "Squeeze", "View", "Flatten", "FlattenExt")
MEANS = ("ReduceMean", "MeanExt", "ReduceSum", "SumExt")
LOOKUPS = ("Gather", "EmbeddingLookup")


class NotRotated(Exception):
    """Why a tensor cannot be multiplied by a matrix that cancels out."""


def is_square(node: Node) -> bool:
    if node.op in ("Pow", "PowTensorScalar"):
        return 2 in [value for value in node.attributes.constants if isinstance(value, (int, float))]
    return node.op == "Square" or (node.op == "Mul" and len(node.inputs) == 2 and len({*node.inputs}) == 1)


def axis_after(block: int, node: Node, shape: tuple[int, ...], axis: int) -> int | None:
    """The axis of the output that has the channels of this axis of an input; None where they are not all there."""
    if node.op in RESHAPES:
        return _reshaped(block, shape, node.shape, axis)
    after: int | None = None
    if node.kind == "transpose":
        after = order_of(node).index(axis)
    elif node.op in SAME or (node.op in FACTORS and scales_all(node)):
        after = axis
    elif node.op == "Concat":
        after = None if _axis_of(node) % len(shape) == axis else axis
    elif node.op in ("Tile", "BroadcastTo"):
        after = axis + len(node.shape) - len(shape)
    elif node.op in MEANS:
        gone = reduced_axes(node, len(shape))
        kept = len(node.shape) == len(shape)
        after = None if axis in gone else axis if kept else axis - sum(one < axis for one in gone)
    elif node.kind == "slice" or node.op == "Part":
        lost = len(shape) - len(node.shape)
        picked = node.attributes.picked or ()
        after = axis - (sum(one < axis for one in picked) if picked else lost) if lost >= 0 else None
    fits = after is not None and 0 <= after < len(node.shape) and node.shape[after] == shape[axis]
    return after if fits else None


def _reshaped(block: int, shape: tuple[int, ...], target: tuple[int, ...], axis: int) -> int | None:
    """The axis of the target with as many numbers behind each of its positions."""
    behind = math.prod(shape[axis + 1 :])
    fits = [b for b in range(len(target)) if math.prod(target[b + 1 :]) == behind and target[b] % block == 0]
    return fits[0] if fits else None


def vectors(node: Node) -> list[tuple[str, tuple[int, ...]]]:
    return list(zip(node.parameters, node.attributes.parameter_shapes, strict=True))


def order_of(node: Node) -> list[int]:
    """Of a transpose: for each axis of the output that of the input."""
    rank = len(node.shape)
    given = next(
        (value for value in node.attributes.constants if isinstance(value, tuple) and len(value) == rank), None
    )
    if given is None:
        raise NotRotated(f"the order of {node.op} is not known")
    return [int(axis) % rank for axis in given]


def scales_all(node: Node) -> bool:
    """Whether all channels are multiplied by one number."""
    constants = node.attributes.constants
    return (
        len(node.inputs) == 1
        and not node.parameters
        and bool(constants)
        and all(np.size(one) == 1 for one in constants)
    )


def _axis_of(node: Node) -> int:
    numbers = [value for value in node.attributes.constants if isinstance(value, int) and not isinstance(value, bool)]
    return int(node.attributes.operator.get("axis", numbers[-1] if numbers else 0))


def reduced_axes(node: Node, rank: int) -> set[int]:
    """The axes that a mean or a sum is over."""
    given = [v for v in node.attributes.constants if isinstance(v, (int, tuple)) and not isinstance(v, bool)]
    axes = given[0] if given else ()
    axes = axes if isinstance(axes, tuple) else (axes,)
    return {int(axis) % rank for axis in axes} or set(range(rank))
