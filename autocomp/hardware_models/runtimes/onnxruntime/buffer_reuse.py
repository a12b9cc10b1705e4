"""Free buffers that onnxruntime keeps for a later tensor of the same shape.

``FindReusableTensor`` in its core/framework/allocation_planner.cc uses such a buffer where it can, and a buffer that
will be used again is not released before. Activations of one shape follow each other directly, so that few of their
buffers are kept. For the floats of integer weights this matters: where a network repeats one of its blocks, the floats
of a large layer are kept while the layers up to the next one of its shape run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from autocomp.hardware_models.gemm import gemm_of
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.rates import FLOAT, UNPACKED
from autocomp.search_spaces import WEIGHTED

CHANNELS = 1 << 24  # more than a layer has: its weight's shape is one number


def repeated(lowered: LoweredNetwork) -> list[tuple[int, ...]]:
    """Positions of operators whose weights have the same shape before pruning, in order, two or more each."""
    found: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for position, operator in enumerate(lowered.program.operators):
        node = lowered.graph.nodes[operator.head]
        if node.kind in WEIGHTED and node.weight_shape:
            found[node.kind, node.weight_shape].append(position)
    return [tuple(positions) for positions in found.values() if len(positions) > 1]


def unpacked_weight(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n, 2): the bytes of an operator's weight in floats and a number for its shape after pruning.

    Both are 0 where the weight is used as it is stored.
    """
    head = lowered.program.operators[position].head
    layer = gemm_of(lowered, head)
    size = layer.weights * lowered.device.bytes_per_element[FLOAT]
    shape = layer.channels_out * CHANNELS + layer.channels_in
    return np.where((lowered.precision(head) == UNPACKED)[:, None], np.stack([size, shape], axis=1), 0.0)


def reusable_bytes(weights: Mapping[int, np.ndarray], groups: list[tuple[int, ...]], operators: int) -> np.ndarray:
    """(operators, n) bytes that are kept for a later operator while each operator runs.

    weights: the result of ``unpacked_weight`` for each position of the groups.
    """
    plans = np.arange(len(next(iter(weights.values()))))
    change = np.zeros((operators + 1, len(plans)))
    for positions in groups:
        for i, start in enumerate(positions[:-1]):
            later = np.array(positions[i + 1 :])
            sizes, shape = weights[start].T
            same = np.stack([weights[position][:, 1] == shape for position in later])
            taken = np.where(same.any(axis=0) & (shape > 0), sizes, 0.0)
            change[start + 1] += taken
            change[later[same.argmax(axis=0)], plans] -= taken
    return np.cumsum(change, axis=0)[:-1]
