"""The network with one node for each function, however its code writes it."""

from __future__ import annotations

import weakref
from dataclasses import replace

from autocomp.search_spaces import Argument, NetworkGraph, Node

from .regions import Region, computable, function_of, regions
from .shapes import moves_nothing, pools_all, without_turn

_KNOWN: dict[int, tuple[weakref.ref[NetworkGraph], NetworkGraph]] = {}  # by identity, while the network lives


def canonical(graph: NetworkGraph) -> NetworkGraph:
    """A network with the same nodes at the same indices.

    Of several operators that compute one function the last has that function's kind and operator; the others are free.
    Operators that move nothing are free, too. Pools over whole images are means.
    """
    known = _KNOWN.get(id(graph))
    if known is not None and known[0]() is graph:
        return known[1]
    found = _rewritten(graph)
    key = id(graph)
    _KNOWN[key] = (weakref.ref(graph, lambda _: _KNOWN.pop(key, None) and None), found)
    return found


def _rewritten(graph: NetworkGraph) -> NetworkGraph:
    nodes, taken = list(graph.nodes), set()
    for last in range(len(nodes) - 1, -1, -1):
        found = None if last in taken or not computable(nodes[last]) else _largest(graph, last)
        if found is not None:
            region, (kind, op) = found
            taken |= set(region.nodes)
            for i in region.nodes:
                nodes[i] = _free(nodes[i], region.source)
            nodes[last] = _one(graph.nodes[last], kind, op, region.source)
    nodes = [_simple(graph, nodes, i) for i in range(len(nodes))]
    return replace(graph, nodes=tuple(nodes))


def _largest(graph: NetworkGraph, last: int) -> tuple[Region, tuple[str, str]] | None:
    """The largest region of several operators that ends in a node and computes a known function, and the function."""
    found = None
    for region in regions(graph, last):
        function = function_of(graph, region) if len(region.nodes) > 1 else None
        found = found if function is None else (region, function)
    return found


def _simple(graph: NetworkGraph, nodes: list[Node], i: int) -> Node:
    node = nodes[i]
    if len(node.inputs) != 1 or node.kind in ("input", "reshape"):
        return node
    source = graph.nodes[node.inputs[0]]
    if node.kind == "transpose" and all(graph.nodes[reader].kind == "matmul" for reader in graph.consumers[i]):
        node = replace(node, attributes=replace(node.attributes, constants=(without_turn(node),)))
    if moves_nothing(node, source):
        return _free(node, node.inputs[0])
    return replace(node, kind="mean", op="ReduceMean") if pools_all(node, source) else node


def _free(node: Node, source: int) -> Node:
    return replace(node, kind="reshape", op="Reshape", inputs=(source,))


def _one(node: Node, kind: str, op: str, source: int) -> Node:
    attributes = replace(node.attributes, arguments=(Argument("node", source),), constants=(), operator={})
    return replace(node, kind=kind, op=op, inputs=(source,), attributes=attributes)
