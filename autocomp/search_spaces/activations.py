"""Activations that a ReLU can stand for, and the graph in which it does for some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .node_attributes import WEIGHTED, Argument, NodeAttributes

if TYPE_CHECKING:
    from .graph import NetworkGraph, Node

KEPT, RELU = "kept", "relu"  # values of a knob of kind ``activation``
LIKE_RELU = (
    *("HSwish", "SiLU", "GeLU", "GeluExt", "FastGeLU", "Mish"),
    *("Softplus", "Elu", "ELU", "LeakyReLU", "LeakyReLUExt"),
)
SECOND = {"Mul": ("Sigmoid",), "Maximum": ("Mul",)}  # operator -> those that with it are one function of a tensor
PASSING = ("batchnorm", "reshape")  # kinds between a layer and its activation


@dataclass(frozen=True)
class Activation:
    """A cell that computes a function of each element, nearly the element itself far above zero and a constant below.

    name: path of the cell. source: the node whose output it reads. output: the node whose output it returns. nodes:
        all nodes of the cell: one or two. layers: the layer before it.
    """

    name: str
    source: int
    output: int
    nodes: frozenset[int]
    layers: tuple[str, ...]

    @property
    def inner(self) -> frozenset[int]:
        """Its nodes without the output."""
        return self.nodes - {self.output}


def replaceable_activations(graph: NetworkGraph) -> Iterator[Activation]:
    """The cells that run once, behind a layer and maybe its BatchNorm, and compute HSwish, SiLU, GELU, Mish, Softplus,
    ELU or LeakyReLU, and nothing else."""
    inside: dict[str, set[int]] = {}
    for i, node in enumerate(graph.nodes):
        parts = node.cell.split(".") if node.cell else []
        for depth in range(1, len(parts) + 1):
            inside.setdefault(".".join(parts[:depth]), set()).add(i)
    for i, node in enumerate(graph.nodes):
        inner = _inner(graph, i)
        nodes = {i} if inner is None else {i, inner}
        if node.cell and inside[node.cell] == nodes and (inner is not None or node.op in LIKE_RELU) and graph.fed[i]:
            source = next((j for j in node.inputs if j != inner), None)
            layer = None if source is None else _layer_before(graph, source)
            if source is not None and layer is not None and graph.nodes[source].shape == node.shape:
                yield Activation(node.cell, source, i, frozenset(nodes), (layer,))


def _inner(graph: NetworkGraph, i: int) -> int | None:
    """The Sigmoid of a tensor that node i multiplies this tensor with, or the product of a tensor and a number of which
    it takes the greater one: both nodes are a SiLU, or a LeakyReLU."""
    node = graph.nodes[i]
    wanted = SECOND.get(node.op, ())
    if len(node.inputs) != 2 or any(one.kind != "node" or one.part for one in node.arguments):
        return None
    for inner, source in (node.inputs, node.inputs[::-1]):
        one = graph.nodes[inner]
        if one.op in wanted and one.inputs == (source,) and graph.consumers[inner] == (i,):
            return None if inner in graph.outputs else inner
    return None


def _layer_before(graph: NetworkGraph, i: int) -> str | None:
    while graph.nodes[i].kind in PASSING and len(graph.nodes[i].inputs) == 1:
        i = graph.nodes[i].inputs[0]
    node = graph.nodes[i]
    return node.layer if node.kind in WEIGHTED else None


def with_relus(graph: NetworkGraph, activations: Collection[Activation]) -> NetworkGraph:
    """The graph with a ReLU in the place of each of these activations' outputs. Their other nodes are still there, and
    nothing reads them."""
    nodes = list(graph.nodes)
    for one in activations:
        nodes[one.output] = _relu(nodes[one.output], one.source)
    return replace(graph, nodes=tuple(nodes)) if activations else graph


def _relu(node: Node, source: int) -> Node:
    own = node.attributes
    attributes = NodeAttributes(
        arguments=(Argument("node", source),), type=own.type, dtypes=own.dtypes, cell=own.cell, axis=own.axis,
        grows=own.grows,
    )  # fmt: skip
    return replace(node, kind="activation", op="ReLU", inputs=(source,), attributes=attributes)
