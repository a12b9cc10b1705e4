"""Importances of units that are measured on labelled samples, for the channel groups of a search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autocomp.search_spaces import NetworkGraph

BATCH = 32
BATCHES = 16  # of labelled samples, for gradients
STEPS = 100  # of SCOP's knockoff phase


def measured_importance(
    net: Any, graph: NetworkGraph, names: Iterable[str], x: np.ndarray, classes: np.ndarray
) -> dict[str, np.ndarray]:
    """(units,) for each of these measures: "taylor", "fisher" or "scop", of the cross entropy of the network's classes.

    x: (n, ...), inputs of the network; classes: (n,) int. At most STEPS batches of 32 are used, from the beginning.
    """
    from autocomp.primitives.cells.layers import ms

    from .channel_pruner import ChannelPruner
    from .scop import SCOP

    names = tuple(names)
    count = min(len(x), (STEPS if "scop" in names else BATCHES) * BATCH)
    batches = [
        (x[i : i + BATCH], classes[i : i + BATCH].astype(np.int32)) for i in range(0, count - count % BATCH, BATCH)
    ] or [(x, classes.astype(np.int32))]
    loss = ms.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    found = {}
    for name in names:
        algorithm = SCOP(keep_ratio=0.5, steps=STEPS) if name == "scop" else ChannelPruner(name, keep_ratio=0.5)
        used = batches if name == "scop" else batches[:BATCHES]
        found[name] = algorithm.importance(algorithm.applied(net, graph), used, loss)
    return found
