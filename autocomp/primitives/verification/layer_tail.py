"""What a network does with a layer's output: a BatchNorm, the sum with a shortcut, a ReLU; each may be missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.primitives.numerics.folding import norm_factors
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.search_spaces import NetworkGraph

RELUS = ("ReLU", "ReLUExt")
LEAST = 1e-3  # of the mean square of a BatchNorm's factors: an output that it nearly removes moves little


@dataclass(frozen=True, eq=False)
class LayerTail:
    """``relu(factor * y + shift + shortcut)`` of a convolution's output y.

    factor, shift: (kept out,). shortcut: the node that is added, or None. rectified: whether a ReLU follows. settled:
        whether no layer that runs later than this one changes the shortcut.
    """

    factor: np.ndarray
    shift: np.ndarray
    shortcut: int | None
    rectified: bool
    settled: bool

    @classmethod
    def of(
        cls, graph: NetworkGraph, i: int, parameters: Parameters, compressed: CompressedWeights, outputs: int
    ) -> LayerTail:
        """Behind node i of the graph, which runs once; outputs: kept ones of it."""
        start, shortcut = i, None
        factor, shift = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        if (reader := _reader(graph, i)) is not None and graph.nodes[reader].kind == "batchnorm":
            (factor, shift), i = norm_factors(graph.nodes[reader], parameters, compressed), reader
        reader = _reader(graph, i)
        if reader is not None and (shortcut := _shortcut(graph, reader, i)) is not None:
            reader = _reader(graph, reader)
        rectified = reader is not None and graph.nodes[reader].op in RELUS
        return cls(factor, shift, shortcut, rectified, shortcut is None or _settled(graph, shortcut, start))

    def behind(self, outputs: np.ndarray, shortcut: np.ndarray | None) -> np.ndarray:
        """(n, out): what the next layers read, before the ReLU."""
        found = outputs * self.factor + self.shift
        return found if shortcut is None else found + shortcut

    def before(self, difference: np.ndarray) -> np.ndarray:
        """(n, out): the difference of the layer's outputs that makes this difference behind the BatchNorm."""
        squares = np.square(self.factor)
        return difference * (self.factor / (squares + max(LEAST * float(squares.mean()), 1e-30)))


def _reader(graph: NetworkGraph, i: int) -> int | None:
    """The one node that reads this one; None where others do, or the network returns it."""
    readers = graph.consumers[i]
    return readers[0] if len(readers) == 1 and i not in graph.outputs else None


def _settled(graph: NetworkGraph, i: int, start: int) -> bool:
    """Whether node i depends on no layer behind node ``start`` in the order of execution."""
    if i <= start:
        return True
    node = graph.nodes[i]
    return node.weight_shape is None and all(_settled(graph, source, start) for source in node.inputs)


def _shortcut(graph: NetworkGraph, add: int, i: int) -> int | None:
    """What a node adds to node i; None where it does not add one tensor of the same shape."""
    others = [source for source in graph.nodes[add].inputs if source != i]
    if graph.nodes[add].kind != "add" or len(others) != 1 or graph.nodes[others[0]].kind == "split":
        return None
    return others[0] if graph.nodes[others[0]].shape == graph.nodes[i].shape else None
