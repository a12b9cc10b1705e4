"""One layout for all weights: (out, in / groups, ...). MindSpore stores the weight of nn.Conv2dTranspose as (in, out /
groups, ...)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autocomp.search_spaces import Node


def to_out_first_layout(weight: np.ndarray, groups: int) -> np.ndarray:
    """(in, out / groups, kh, kw) as (out, in / groups, kh, kw), group by group; the same function also converts
    back."""
    rows, columns, *kernel = weight.shape
    parted = weight.reshape(groups, rows // groups, columns, *kernel)
    return np.ascontiguousarray(parted.swapaxes(1, 2).reshape(groups * columns, rows // groups, *kernel))


def weight_of(node: Node, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """A layer's weight as (out, in / groups, ...)."""
    weight = parameters[node.weight]
    return to_out_first_layout(weight, node.groups) if node.transposed else weight


def groups_left(node: Node, outputs: int) -> int:
    """The groups of a convolution that keeps ``outputs`` output channels. A depthwise one loses a group with each
    channel, others lose none."""
    assert node.weight_shape is not None
    return outputs * node.groups // node.weight_shape[0] if node.depthwise else node.groups
