"""Identities of channels, and which of them are unified: see :mod:`autocomp.primitives.tracing.channels`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import NetworkGraph, Node

STAYS = -1


def channel_axis(shape: tuple[int, ...]) -> int:
    """Axis 1 of images, the last axis of matrices and sequences."""
    return 1 if len(shape) >= 4 else len(shape) - 1


@dataclass(frozen=True)
class Carried:
    """Identities of the positions of one axis of a tensor; STAYS for a position that cannot be cut."""

    axis: int
    ids: np.ndarray

    @property
    def free(self) -> bool:
        """Whether any position may still be cut."""
        return bool((self.ids != STAYS).any())


class Identities:
    """Union-find over channels, with the identities that each node's output carries."""

    def __init__(self, graph: NetworkGraph, choices: Mapping[str, int]) -> None:
        self.graph, self.choices = graph, choices
        self.choices_of: dict[str, int] = {}  # reshape that splits the channel axis -> in how many ways it can be cut
        self.parted: dict[str, np.ndarray] = {}  # and their identities
        self.parent: list[int] = []
        self.reasons: dict[int, str] = {}  # root -> why it cannot be cut
        self.produced: dict[str, np.ndarray] = {}  # layer -> identities of its output channels
        self.consumed: dict[str, np.ndarray] = {}
        self.carried: list[Carried] = []

    def fresh(self, count: int) -> np.ndarray:
        start = len(self.parent)
        self.parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def unify(self, a: np.ndarray, b: np.ndarray, what: str) -> np.ndarray:
        """Unifies both, position by position; a channel that is unified with one that cannot be cut cannot be cut
        either."""
        for x, y in {*zip(a.tolist(), b.tolist(), strict=True)}:
            if x == STAYS or y == STAYS:
                self.freeze(np.array([max(x, y)]), what)
            else:
                low, high = sorted((self.root(x), self.root(y)))
                self.parent[high] = low
                if high in self.reasons:
                    self.reasons.setdefault(low, self.reasons[high])
        return np.where((a == STAYS) | (b == STAYS), STAYS, a)

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        for i in np.unique(ids).tolist():
            if i != STAYS:
                self.reasons.setdefault(self.root(i), reason)

    def refused(self) -> list[str]:
        """Reshapes that split the channel axis and of whose channels none can be cut."""
        return [name for name, ids in self.parted.items() if self._stay(ids)]

    def _stay(self, ids: np.ndarray) -> bool:
        return all(self.root(i) in self.reasons for i in np.unique(ids).tolist() if i != STAYS)

    # used by the rules ------------------------------------------------------------------------------------------------

    def inputs(self, node: Node) -> list[Carried]:
        return [self.carried[i] for i in node.inputs]

    def input_shape(self, node: Node) -> tuple[int, ...]:
        return self.graph.nodes[node.inputs[0]].shape

    def stays(self, node: Node) -> Carried:
        axis = channel_axis(node.shape)
        return Carried(max(axis, 0), np.full(node.shape[axis] if node.shape else 0, STAYS))

    def unknown(self, node: Node) -> Carried:
        return self.left(node, f"it reaches {node.op}, which is left as it is")

    def left(self, node: Node, reason: str) -> Carried:
        for carried in self.inputs(node):
            self.freeze(carried.ids, reason)
        return self.stays(node)

    def produce(self, layer: str, count: int) -> np.ndarray:
        if layer not in self.produced:
            self.produced[layer] = self.fresh(count)
        return self.produced[layer]
