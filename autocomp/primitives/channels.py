"""Which channels must be cut together: identities of channels, carried from the producing layers through the graph.

Every output channel of a convolution or dense layer gets an identity. Operators pass identities on (an activation),
line them up (a concat), repeat them (a flatten) or make two of them one (an add: union-find). What is left in the end
are sets of channels that stand or fall together; layers that share such sets form a channel group. Identities that
reach an output of the network, or an operator that is not understood, stay whole, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..search_spaces import ChannelGroup, NetworkGraph, Node

STAYS = -1


def channel_axis(shape: tuple[int, ...]) -> int:
    """Axis 1 of images, the last of matrices and sequences."""
    return 1 if len(shape) >= 4 else len(shape) - 1


def group_channels(graph: NetworkGraph, left_whole: dict[str, str] | None = None) -> NetworkGraph:
    """The graph with its channel groups, and each node's ``units``. ``left_whole``: layers not to cut, with reasons."""
    return _Channels(graph, left_whole or {}).grouped()


class _Channels:
    def __init__(self, graph: NetworkGraph, left_whole: dict[str, str]) -> None:
        self.graph = graph
        self.parent: list[int] = []
        self.reasons: dict[int, str] = {}  # root -> why it stays
        self.produced: dict[str, np.ndarray] = {}  # layer -> identities of its output channels
        self.consumed: dict[str, np.ndarray] = {}
        self.ids: list[np.ndarray] = []
        self.left_whole = left_whole

    def grouped(self) -> NetworkGraph:
        for node in self.graph.nodes:
            rule = RULES.get(node.kind, _Channels.unknown)
            ids = rule(self, node)
            self.ids.append(np.asarray(ids, np.int64))
        for output in self.graph.outputs:
            self.freeze(self.ids[output], "it is an output of the network")
        for layer, reason in self.left_whole.items():
            self.freeze(self.produced[layer], reason)
        return self.result()

    # union-find ------------------------------------------------------------------------------------------------------

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
        """Both made one, position by position; next to a channel that stays, a channel stays."""
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            if x == STAYS or y == STAYS:
                self.freeze(np.array([max(x, y)]), what)
            else:
                low, high = sorted((self.root(x), self.root(y)))
                self.parent[high] = low
                if high in self.reasons:
                    self.reasons.setdefault(low, self.reasons[high])
        return np.where((a == STAYS) | (b == STAYS), STAYS, a)

    def freeze(self, ids: np.ndarray, reason: str) -> None:
        for i in ids.tolist():
            if i != STAYS:
                self.reasons.setdefault(self.root(i), reason)

    # rules, one for each kind of operator ----------------------------------------------------------------------------

    def inputs(self, node: Node) -> list[np.ndarray]:
        return [self.ids[i] for i in node.inputs]

    def width(self, node: Node) -> int:
        return node.shape[channel_axis(node.shape)] if node.shape else 0

    def stays(self, node: Node) -> np.ndarray:
        return np.full(self.width(node), STAYS)

    def unknown(self, node: Node) -> np.ndarray:
        for ids in self.inputs(node):
            self.freeze(ids, f"it reaches {node.op}, which is left as it is")
        return self.stays(node)

    def layer(self, node: Node) -> np.ndarray:
        if node.layer is None or node.weight_shape is None or len(node.inputs) != 1:
            return self.unknown(node)
        source = self.ids[node.inputs[0]]
        if node.layer in self.consumed:  # a cell used twice
            if len(self.consumed[node.layer]) != len(source):
                return self.unknown(node)
            self.unify(self.consumed[node.layer], source, f"{node.layer} is used twice, once after channels that stay")
        self.consumed[node.layer] = source
        if node.kind == "conv" and node.groups > 1:
            return self.grouped_conv(node, source)
        return self.produce(node.layer, node.weight_shape[0])

    def produce(self, layer: str, count: int) -> np.ndarray:
        if layer not in self.produced:
            self.produced[layer] = self.fresh(count)
        return self.produced[layer]

    def grouped_conv(self, node: Node, source: np.ndarray) -> np.ndarray:
        """Depthwise: each channel goes on as itself. Grouped: the same places are cut in every group."""
        assert node.layer is not None and node.weight_shape is not None
        out = node.weight_shape[0]
        if node.depthwise:
            ids = np.repeat(source, out // node.groups)
            self.produced.setdefault(node.layer, ids)
            return ids
        if (source == STAYS).any():
            self.freeze(source, f"it feeds the grouped convolution {node.layer} beside channels that stay")
        else:
            places = source.reshape(node.groups, -1)
            for other in places[1:]:
                self.unify(places[0], other, "")
        produced = self.produce(node.layer, out)
        rows = produced.reshape(node.groups, -1)
        for other in rows[1:]:
            self.unify(rows[0], other, "")
        return produced

    def batchnorm(self, node: Node) -> np.ndarray:
        return self.inputs(node)[0] if node.layer is not None else self.unknown(node)

    def activation(self, node: Node) -> np.ndarray:
        if node.attributes.get("parameters") and node.layer is None:
            return self.unknown(node)
        if len(node.inputs) != 1:
            return self.unknown(node)
        return self.inputs(node)[0]

    def elementwise(self, node: Node) -> np.ndarray:
        sources = [i for i in node.inputs if self.graph.nodes[i].elements > 1]
        if not sources:
            return self.stays(node)
        if any(_wide(value) for value in node.attributes.get("constants", ())) or node.attributes.get("parameters"):
            return self.unknown(node)
        shapes = [self.graph.nodes[i].shape for i in sources]
        width = self.width(node)
        if any(len(shape) != len(node.shape) for shape in shapes):
            return self.unknown(node)
        ids = [self.ids[i] for i in sources if len(self.ids[i]) == width]
        if not ids:
            return self.unknown(node)
        if len(ids) < len(sources) and any(len(self.ids[i]) not in (1, width) for i in sources):
            return self.unknown(node)
        result = ids[0]
        for other in ids[1:]:
            result = self.unify(result, other, f"{node.op} joins it with channels that stay")
        return result

    def concat(self, node: Node) -> np.ndarray:
        axis = next((value for value in node.attributes["constants"] if isinstance(value, int)), None)
        shapes = [self.graph.nodes[i].shape for i in node.inputs]
        if axis is None or node.op != "Concat" or len({len(shape) for shape in shapes}) != 1:
            return self.unknown(node)
        if axis % len(node.shape) == channel_axis(node.shape):
            ids = np.concatenate(self.inputs(node))
            return ids if len(ids) == self.width(node) else self.unknown(node)
        result = self.inputs(node)[0]
        for other in self.inputs(node)[1:]:
            result = self.unify(result, other, "it is concatenated along another axis with channels that stay")
        return result

    def pool(self, node: Node) -> np.ndarray:
        ids = self.inputs(node)[0]
        source = self.graph.nodes[node.inputs[0]]
        keeps = len(source.shape) == len(node.shape) == 4 and source.shape[1] == node.shape[1] and len(node.inputs) == 1
        return ids if keeps else self.unknown(node)

    def mean(self, node: Node) -> np.ndarray:
        source = self.graph.nodes[node.inputs[0]]
        axes = next((value for value in node.attributes["constants"] if isinstance(value, (int, tuple))), ())
        axes = (axes,) if isinstance(axes, int) else axes
        spatial = {axis % len(source.shape) for axis in axes} == {2, 3} if len(source.shape) == 4 and axes else False
        return self.inputs(node)[0] if spatial else self.unknown(node)

    def reshape(self, node: Node) -> np.ndarray:
        """(n, c, h, w) -> (n, c * h * w), and (n, c) <-> (n, c, 1, 1)."""
        source, ids = self.graph.nodes[node.inputs[0]].shape, self.inputs(node)[0]
        if len(node.inputs) != 1 or len(source) not in (2, 4) or source[0] != node.shape[0]:
            return self.unknown(node)
        pixels = int(np.prod(source[2:], dtype=int))
        flat = len(node.shape) == 2 and node.shape[1] == len(ids) * pixels
        if flat:
            return np.repeat(ids, pixels)
        same = len(node.shape) == 4 and node.shape[1] == len(ids) and node.shape[2:] in ((1, 1), source[2:])
        return ids if same else self.unknown(node)

    def input(self, node: Node) -> np.ndarray:
        return self.stays(node)

    # the answer ------------------------------------------------------------------------------------------------------

    def result(self) -> NetworkGraph:
        roots = {layer: np.array([self.root(int(i)) for i in ids]) for layer, ids in self._full().items()}
        components = self._components(roots)
        units = {root: STAYS for rows in roots.values() for root in rows.tolist()}
        groups, start = [], 0
        for layers, members in components:
            for unit, root in enumerate(members):
                units[root] = start + unit
            groups.append(ChannelGroup(layers[0], tuple(layers), start, start + len(members)))
            start += len(members)
        nodes = [
            replace(node, units=self._units(ids, units)) for node, ids in zip(self.graph.nodes, self.ids, strict=True)
        ]
        return replace(self.graph, nodes=tuple(nodes), channel_groups=tuple(groups), whole=self._whole(roots))

    def _full(self) -> dict[str, np.ndarray]:
        """Layers all of whose output channels have an identity."""
        return {layer: ids for layer, ids in self.produced.items() if (ids != STAYS).all()}

    def _components(self, roots: dict[str, np.ndarray]) -> list[tuple[list[str], list[int]]]:
        """Layers that share a set of channels, with the sets that may be cut; only where two sets or more may be."""
        free = {layer: {r for r in rows.tolist() if r not in self.reasons} for layer, rows in roots.items()}
        components: list[tuple[list[str], set[int]]] = []
        for layer, members in free.items():
            if not members:
                continue
            touching = [c for c in components if c[1] & members]
            merged = ([name for c in touching for name in c[0]] + [layer], members.union(*(c[1] for c in touching)))
            components = [c for c in components if c not in touching] + [merged]
        order = {layer: i for i, layer in enumerate(self.produced)}
        components = [(sorted(layers, key=order.__getitem__), members) for layers, members in components]
        components.sort(key=lambda c: order[c[0][0]])
        return [(layers, sorted(members)) for layers, members in components if len(members) > 1]

    def _whole(self, roots: dict[str, np.ndarray]) -> dict[str, str]:
        return {
            layer: self.reasons[int(rows[0])]
            for layer, rows in roots.items()
            if all(r in self.reasons for r in rows.tolist())
        }

    def _units(self, ids: np.ndarray, units: dict[int, int]) -> np.ndarray:
        return np.array([STAYS if i == STAYS else units.get(self.root(i), STAYS) for i in ids.tolist()], np.int64)


def _wide(value: object) -> bool:
    """A constant with a value for each channel."""
    return isinstance(value, np.ndarray) and value.size > 1


RULES: dict[str, Callable[[_Channels, Node], np.ndarray]] = {
    "input": _Channels.input,
    "conv": _Channels.layer,
    "dense": _Channels.layer,
    "batchnorm": _Channels.batchnorm,
    "activation": _Channels.activation,
    "add": _Channels.elementwise,
    "mul": _Channels.elementwise,
    "concat": _Channels.concat,
    "pool": _Channels.pool,
    "mean": _Channels.mean,
    "flatten": _Channels.reshape,
    "reshape": _Channels.reshape,
}
