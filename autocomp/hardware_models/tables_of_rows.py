"""What an embedding saves whose table is stored in integers.

Its table is counted among the parameters of no layer, in floats; the operator that gives its rows subtracts this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import FLOAT_BITS

from .lowered import LoweredNetwork

SCALE, NUMBER = 4, 4  # bytes of a row's scale, and of a number in a file of floats


@dataclass(frozen=True)
class Saved:
    """Bytes less, each (n,): in the file, in memory, and of the weights as papers count them."""

    file: np.ndarray
    memory: np.ndarray
    weights: np.ndarray


def in_integers(lowered: LoweredNetwork, index: int) -> np.ndarray:
    """(n,) bool: whether the rows that a node gives are stored in integers."""
    bits, _ = lowered.workload.bits_of(index)
    return (bits <= 8) & (lowered.graph.nodes[index].attributes.table is not None)


def saved_by_table(lowered: LoweredNetwork, index: int) -> Saved:
    """Of the first node that reads the table; nothing for all other operators."""
    node, none = lowered.graph.nodes[index], np.zeros(len(lowered.workload))
    if node.attributes.table is None or lowered.graph.embeddings[str(node.layer)] != index:
        return Saved(none, none, none)
    (rows, width), container = node.table_shape, lowered.device.container
    bits, _ = lowered.workload.bits_of(index)
    rounded, floats = in_integers(lowered, index), lowered.device.float_bits
    file = rows * (width * (NUMBER - bits / 8) - SCALE) - container.of_table(lowered, index)
    memory = rows * (width * (floats - bits) / 8 - SCALE)
    if node.attributes.tied:  # the others read floats, which are made once
        file, memory = file * container.tied_tables, -rows * (width * bits / 8 + SCALE)
    return Saved(*(np.where(rounded, less, 0.0) for less in (file, memory, rows * width * (FLOAT_BITS - bits) / 8)))
