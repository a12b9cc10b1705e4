"""What the networks of a declared space cost on a device: thousands of them at once, put together from few graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.hardware_models import Cost, Device
from autocomp.hardware_models.model import contributions, cost_of
from autocomp.search_spaces import NetworkGraph, SearchSpace, Workload

from .merged_graph import MergedGraph, taken

FILE = 2  # the column of bytes in the file, to which each node adds a little


@dataclass(frozen=True)
class OperatorTable:
    """All operators of networks with the same widths.

    heads: (operators,) int, their nodes in the merged graph. columns: (operators, n), live: (operators,): see
    :class:`autocomp.hardware_models.model.Contributions`. constant: (n,). node_bytes: of each node, in the file.
    """

    heads: np.ndarray
    columns: np.ndarray
    live: np.ndarray
    constant: np.ndarray
    node_bytes: float


class NetworkCosts:
    """Costs of networks by their choices.

    An operator costs the same in all networks that have it with the same widths. So few networks, which have all
    operators between them, say what any network costs; where an operator is fused with another one that was chosen
    elsewhere, they may be wrong by a few per cent.
    """

    def __init__(self, merged: MergedGraph, device: Device, batch: int = 1) -> None:
        self.merged, self.device, self.batch = merged, device, batch
        self.choices = merged.space.choices
        self._slots = [name for name in self.choices if name not in merged.space.widths]
        self._allowed = self._found_allowed()
        self._covering = self._found_covering()
        self._tables: dict[tuple[int, ...], OperatorTable] = {}

    def of_network(self, choice: Mapping[str, Any]) -> Cost:
        """Of one network, from its own graph."""
        return self.device.costs(self._workload(self.merged.graph(choice)))[0]

    def _workload(self, graph: NetworkGraph) -> Workload:
        return Workload(SearchSpace(graph, ()), np.zeros((1, 0), np.int64), self.batch)

    def _found_allowed(self) -> np.ndarray:
        """(nodes, slots, values) bool: whether a network with this value may have the node."""
        most = max((len(self.choices[name]) for name in self._slots), default=1)
        allowed = np.zeros((len(self.merged.base.nodes), len(self._slots), most), bool)
        for i, name in enumerate(self._slots):
            for k, value in enumerate(self.choices[name]):
                allowed[:, i, k] = self.merged.kept({name: value})
        return allowed

    def _found_covering(self) -> list[np.ndarray]:
        """(slots,) int each: networks that have all nodes between them, places themselves left out."""
        left = self._allowed.any(2).all(1)
        left[[place.node for place in self.merged.places.values()]] = False
        left[[self.merged.base.nodes[place.node].inputs[0] for place in self.merged.places.values()]] = False
        used = np.zeros(self._allowed.shape[1:])
        found: list[np.ndarray] = []
        while left.any() or not found:
            allowed = self._allowed[np.argmax(left)]
            vector = np.where(allowed, used, np.inf).argmin(1) if len(self._slots) else np.zeros(0, np.int64)
            used[np.arange(len(vector)), vector] += 1
            found.append(vector)
            left &= ~self.merged.kept(self._chosen(vector))
        return found

    def _chosen(self, vector: np.ndarray) -> dict[str, Any]:
        return {name: self.choices[name][i] for name, i in zip(self._slots, vector.tolist(), strict=True)}

    def __call__(self, vectors: np.ndarray) -> Cost:
        """vectors: (n, choices) int, positions among the values of each choice."""
        count = len(self.choices) - len(self._slots)
        keys, of = np.unique(vectors[:, :count], axis=0, return_inverse=True)
        parts = np.empty((len(vectors), len(self._table(keys[0]).constant)))
        peak = np.empty(len(vectors))
        for i, key in enumerate(keys):
            rows = np.flatnonzero(np.ravel(of) == i)
            parts[rows], peak[rows] = self._sums(self._table(key), vectors[rows, count:])
        return cost_of(parts, peak)

    def _sums(self, table: OperatorTable, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, columns) and (n,) bytes of live activations, of networks with the table's widths."""
        nodes = np.ones((len(vectors), len(self._allowed)), bool)
        for i in range(vectors.shape[1]):
            nodes &= self._allowed[:, i, vectors[:, i]].T
        present = nodes[:, table.heads]
        totals = table.constant + present @ table.columns
        totals[:, FILE] += table.node_bytes * nodes.sum(1)
        return totals, np.where(present, table.live, 0.0).max(1)

    def _table(self, key: np.ndarray) -> OperatorTable:
        known = tuple(key.tolist())
        if known not in self._tables:
            self._tables[known] = self._made({
                name: self.choices[name][i] for name, i in zip(self.merged.space.widths, known, strict=True)
            })  # fmt: skip
        return self._tables[known]

    def _made(self, widths: Mapping[str, int]) -> OperatorTable:
        merged, nodes = self.merged, self.merged.nodes(widths)
        covered, rows, constants, counts = np.zeros(len(nodes), bool), [], [], []
        for vector in self._covering:
            choice = self._chosen(vector)
            kept = merged.kept(choice)
            graph = taken(nodes, kept, merged.renamed(choice), merged.base.outputs)
            found = contributions(self.device, self._workload(graph))
            heads = np.flatnonzero(kept)[found.heads]
            new = ~covered[heads]
            rows.append((heads[new], found.columns[new], found.live[new]))
            constants.append(found.constant)
            counts.append(kept.sum())
            covered |= kept
        heads, columns, live = (np.concatenate(part) for part in zip(*rows, strict=True))
        files, counts_of = np.array(constants)[:, FILE], np.array(counts, float)
        spread = np.ptp(counts_of)
        per_node = float(np.polyfit(counts_of, files, 1)[0]) if spread else 0.0
        constant = np.mean(constants, axis=0)
        constant[FILE] = (files - per_node * counts_of).mean()
        return OperatorTable(heads, columns, live, constant, per_node)
