"""A language model while it generates: one token runs, and attention reads those before it from a cache."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .graph import NetworkGraph, Node
from .node_attributes import WEIGHTED

MOVES = ("Tile", "BroadcastTo")  # besides kinds reshape, transpose and flatten: operators that only move or repeat
NO_TOKENS = "a context needs a network that reads tokens (n, length) as its first input, but it reads {}"
NO_ATTENTION = (
    "a context needs a network in which tokens attend to those before them, but none of its products of activations "
    "reads tokens by tokens"
)


class CachedTensor(NamedTuple):
    """A tensor that later tokens read again: keys or values of one attention.

    node: its index. depth: numbers of a token and head. product: name of the first product that reads it.
    """

    node: int
    depth: int
    product: str = ""


class CachedRead(NamedTuple):
    """A product of two activations whose second operand is read from the cache.

    product: its index. source: the operand's node. depth: numbers of a token and head. keys: whether it reads keys, of
    which each token is a column, or values, over whose tokens it sums.
    """

    product: int
    source: int
    depth: int
    keys: bool


class CachedAttention(NamedTuple):
    """One attention of a language model.

    name: the path of the cell that holds the layers which make its keys and values, or the name of its first product
    where there is none, or another attention has this path, too. products: names of the product that reads keys and of
    the one that reads values. depth: as above, one that is odd, or else the keys'.
    """

    name: str
    products: tuple[str, str]
    depth: int


@dataclass(frozen=True)
class Decoding:
    """graph: nodes and knobs as traced, with the shapes of a run of one token; keys and values have all tokens of the
    context. cached: what the cache holds."""

    graph: NetworkGraph
    context: int
    cached: tuple[CachedTensor, ...]


class _Tokens(NamedTuple):
    """Axes of a tensor. own: of the tokens that run. seen: of those that they attend to."""

    own: int | None = None
    seen: int | None = None


def decoding(graph: NetworkGraph, context: int) -> Decoding:
    """The graph of one token's run behind ``context`` tokens, itself among them.

    Tokens are followed from the first input, (1, length). A product whose second operand has tokens of its own on the
    columns, or sums over them, reads keys or values: what that operand is made of by moves alone is cached.

    ValueError: the first input has no tokens, or nothing attends to them.
    """
    length = _length(graph)
    if not length:
        first = next((node for node in graph.nodes if node.kind == "input"), None)
        raise ValueError(NO_TOKENS.format("none" if first is None else first.shape))
    axes, reads = _followed(graph, length)
    wide: set[int] = set()
    cached: dict[int, CachedTensor] = {}
    for read in reads:
        for i in _moved_from(graph, read.source):
            wide.add(i)
        cached.setdefault(i, CachedTensor(i, read.depth, graph.nodes[read.product].name))
    if not cached:
        raise ValueError(NO_ATTENTION)
    nodes = tuple(_of_one_token(node, axes[i], context, i in wide) for i, node in enumerate(graph.nodes))
    return Decoding(replace(graph, nodes=nodes), context, tuple(cached.values()))


def attentions(graph: NetworkGraph) -> tuple[CachedAttention, ...]:
    """Those that read earlier tokens, in execution order; none where the first input has no tokens (1, length)."""
    length = _length(graph)
    if not length:
        return ()
    keys: dict[int, CachedRead] = {}
    found: list[tuple[CachedRead, CachedRead]] = []
    for read in _followed(graph, length)[1]:
        if graph.nodes[read.product].name not in graph.products:
            continue
        if read.keys:
            keys[read.product] = read
        elif (before := _key_product(graph, read.product, keys)) is not None:
            found.append((keys[before], read))
    cells = [graph.cell_before((key.source, value.source)) for key, value in found]
    names = [graph.nodes[key.product].name for key, _ in found]
    return tuple(
        CachedAttention(
            cell if cell and cells.count(cell) == 1 else name,
            (name, graph.nodes[value.product].name),
            next((one.depth for one in (key, value) if one.depth % 2), key.depth),
        )
        for (key, value), cell, name in zip(found, cells, names, strict=True)
    )


def _key_product(graph: NetworkGraph, product: int, keys: Mapping[int, CachedRead]) -> int | None:
    """The nearest product that reads keys, of which a product's first operand is made."""
    waiting, seen = [graph.nodes[product].arguments[0].value], set()
    while waiting:
        i = max(waiting)
        waiting.remove(i)
        if i in keys:
            return int(i)
        seen.add(i)
        waiting += [source for source in set(graph.nodes[i].inputs) if source not in seen and source not in waiting]
    return None


def _length(graph: NetworkGraph) -> int:
    """The tokens of the first input, (1, length); 0 where it has none."""
    first = next((node for node in graph.nodes if node.kind == "input"), None)
    return first.shape[1] if first is not None and len(first.shape) == 2 and first.shape[1] > 1 else 0


def _followed(graph: NetworkGraph, length: int) -> tuple[list[_Tokens], list[CachedRead]]:
    """The axes of tokens of each node, and the products that read the cache."""
    axes: list[_Tokens] = []
    reads: list[CachedRead] = []
    for i, node in enumerate(graph.nodes):
        axes.append(_axes(graph, i, axes, length))
        if node.kind == "matmul" and (found := _cached_operand(graph, i, axes)) is not None:
            reads.append(found)
    return axes, reads


def _moved_from(graph: NetworkGraph, i: int) -> list[int]:
    """The node, and those that it is made of by moves alone, back to the one that computes."""
    found = [i]
    while _moves(graph.nodes[found[-1]]) and len(graph.nodes[found[-1]].inputs) == 1:
        found.append(graph.nodes[found[-1]].inputs[0])
    return found


def _moves(node: Node) -> bool:
    return node.kind in ("reshape", "transpose", "flatten") or node.op in MOVES


def _of_one_token(node: Node, tokens: _Tokens, context: int, wide: bool) -> Node:
    shape = list(node.shape)
    attributes = node.attributes
    if tokens.own is not None:
        shape[tokens.own] = 1
        if node.kind in WEIGHTED and node.weight_shape is not None:  # it still runs for one token
            attributes = replace(attributes, positions=math.prod(shape) // node.weight_shape[0])
        shape[tokens.own] = context if wide else 1
    if tokens.seen is not None:
        shape[tokens.seen] = context
    return replace(node, shape=tuple(shape), attributes=attributes)


def _axes(graph: NetworkGraph, i: int, axes: Sequence[_Tokens], length: int) -> _Tokens:
    node = graph.nodes[i]
    if node.kind == "input":
        return _Tokens(1 if node.shape[1:2] == (length,) else None)
    if node.kind == "matmul" and len(node.arguments) > 1:
        return _of_product(graph, node, axes)
    own = seen = None
    for source in node.inputs:
        before = graph.nodes[source].shape
        own = _after(node, before, axes[source].own) if own is None else own
        seen = _after(node, before, axes[source].seen) if seen is None else seen
    return _Tokens(own, seen)


def _after(node: Node, before: tuple[int, ...], axis: int | None) -> int | None:
    """Where an axis of the input is in the output."""
    if axis is None:
        return None
    after, size = node.shape, before[axis]
    if node.kind in ("reshape", "flatten") and node.op != "Part":
        outer = math.prod(before[:axis])
        fits = (j for j, other in enumerate(after) if other == size and math.prod(after[:j]) == outer)
        return next(fits, None)
    if node.kind == "transpose":
        order = next((value for value in node.attributes.constants if isinstance(value, tuple)), ())
        places = [place % len(after) for place in order]
        return places.index(axis) if axis in places else None
    gathers = node.attributes.table is not None or (node.op == "Gather" and node.arguments[0].kind != "node")
    place = axis if gathers else axis + len(after) - len(before)  # rows of a table have further axes behind
    if len(after) < len(before):  # an axis is gone
        gone = next((j for j in range(len(before)) if before[:j] + before[j + 1 :] == after), None)
        place = axis if gone is None or gone > axis else axis - 1
        if gone == axis:
            return None
    return place if 0 <= place < len(after) and after[place] == size else None


def _places(graph: NetworkGraph, node: Node, axes: Sequence[_Tokens], number: int) -> tuple[_Tokens, int, int, bool]:
    """Of an operand: its tokens, its axes of rows (or columns) and of the sum, and whether an input feeds it."""
    argument = node.arguments[number]
    if argument.kind != "node":
        return _Tokens(), -1, -1, False
    rank, turned = len(graph.nodes[argument.value].shape), node.turns[number]
    summed = rank - 1 if number == 0 else rank - 2
    free = rank - 2 if number == 0 else rank - 1
    if turned:
        summed, free = free, summed
    return axes[argument.value], free, summed, graph.fed[argument.value]


def _of_product(graph: NetworkGraph, node: Node, axes: Sequence[_Tokens]) -> _Tokens:
    (left, row, _, _), (right, column, _, both) = (_places(graph, node, axes, number) for number in (0, 1))
    rank = len(node.shape)
    own = rank - 2 if left.own is not None and left.own == row else None
    if own is None and right.own is not None and right.own == column and left.own is None:
        return _Tokens(rank - 1)  # a parameter on the left
    seen = rank - 1 if both and own is not None and right.own == column else None
    return _Tokens(own, seen)


def _cached_operand(graph: NetworkGraph, i: int, axes: Sequence[_Tokens]) -> CachedRead | None:
    """The second operand of a product that reads tokens by tokens: keys, whose tokens are its columns, or values, which
    it sums over."""
    node = graph.nodes[i]
    if len(node.arguments) < 2:
        return None
    (left, row, summed_left, one), (right, column, summed, two) = (_places(graph, node, axes, n) for n in (0, 1))
    if not (one and two) or right.own is None:
        return None
    source = node.arguments[1].value
    if left.own == row and right.own == column:
        return CachedRead(i, source, graph.nodes[source].shape[summed], keys=True)
    if left.seen == summed_left and right.own == summed:
        return CachedRead(i, source, node.shape[-1], keys=False)
    return None
