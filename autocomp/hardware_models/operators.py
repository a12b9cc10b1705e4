"""From nodes to the operators that a device runs: which nodes its compiler fuses, and which cost nothing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from autocomp.search_spaces import IntegerFlow, NetworkGraph

from .canonical_form import canonical
from .layouts import converted, images, products

FREE = ("flatten", "reshape")
ELEMENTWISE = ("batchnorm", "activation", "add", "mul")
FUSES_ELEMENTWISE = ("conv", "dense", "matmul", *ELEMENTWISE)
FUSED_POOLS = ("MaxPool", "MaxPool3DWithArgmax", "MaxPoolWithArgmaxV2")


@dataclass(frozen=True)
class Operator:
    """One launch on the device.

    nodes: indices; first the node with the work, then the nodes fused into it; the last one's output is written.
    reads: nodes whose outputs are read, the main input first.
    """

    nodes: tuple[int, ...]
    reads: tuple[int, ...]

    @property
    def head(self) -> int:
        return self.nodes[0]

    @property
    def output(self) -> int:
        return self.nodes[-1]


@dataclass(frozen=True)
class Program:
    """A network as a device runs it.

    graph: the network with one node for each function, where the runtime recognises functions.
    operators: in execution order.
    readers: node whose output is stored in memory -> positions of the operators that read it.
    kept: nodes whose outputs the network returns.
    other_live_activations: for each operator the live elements, as traced, except those that it reads and writes.
    writer: node whose output is stored in memory -> position of the operator that writes it.
    flow: where integers flow, for runtimes that keep them between layers.
    images, products: nodes whose layout in memory may have partly empty layout blocks.
    converted: for each operator the nodes whose tensors it reads in another layout than that in which they are.
    """

    graph: NetworkGraph
    operators: tuple[Operator, ...]
    readers: dict[int, tuple[int, ...]]
    kept: frozenset[int]
    other_live_activations: tuple[int, ...]
    writer: dict[int, int]
    flow: IntegerFlow
    images: frozenset[int] = frozenset()
    products: frozenset[int] = frozenset()
    converted: tuple[tuple[int, ...], ...] = ()

    def last_reader(self, node: int) -> int:
        """Position of the operator after which the memory of the node's output may be used again."""
        return len(self.operators) if node in self.kept else max(self.readers[node], default=-1)


def lower(graph: NetworkGraph, pools: bool = False, recognises: bool = False) -> Program:
    """Fuses elementwise nodes into the operator before them, where that has no other reader.

    With ``pools`` it also fuses a max pool into its convolution. With ``recognises`` several nodes that compute one
    function are one. Nodes that depend on parameters alone are no operators: compilers compute them once.
    """
    flow = graph.integer_flow  # of the file, in which the function is written as in the network
    if recognises:
        graph = canonical(graph)
    stored = _stored(graph)
    uses: dict[int, int] = defaultdict(int)
    for node in graph.nodes:
        if node.kind not in FREE:
            for source in node.inputs:
                uses[stored[source]] += 1
    for output in graph.outputs:
        uses[stored[output]] += 1
    nodes: list[list[int]] = []
    reads: list[list[int]] = []
    writer: dict[int, int] = {}
    for i, node in enumerate(graph.nodes):
        if node.kind == "input" or node.kind in FREE or not graph.fed[i]:
            continue
        sources = [stored[source] for source in node.inputs if graph.fed[source]]
        last = max((source for source in sources if source in writer), key=lambda s: writer[s], default=None)
        if last is not None and uses[last] == 1 and _fuses(graph, pools, i, nodes[writer[last]]):
            position = writer[last]
            nodes[position].append(i)
            reads[position] += [source for source in sources if source != last]
        else:
            position = len(nodes)
            nodes.append([i])
            reads.append(sources)
        writer[i] = position
    operators = tuple(Operator(tuple(n), tuple(r)) for n, r in zip(nodes, reads, strict=True))
    readers: dict[int, list[int]] = {stored[i]: [] for i, node in enumerate(graph.nodes) if node.kind == "input"}
    readers |= {operator.output: [] for operator in operators}
    for position, operator in enumerate(operators):
        for source in operator.reads:
            readers[source].append(position)
    kept = frozenset(stored[output] for output in graph.outputs)
    written = {operator.output: position for position, operator in enumerate(operators)}
    program = Program(
        graph,
        operators,
        {node: tuple(positions) for node, positions in readers.items()},
        kept,
        (),
        written,
        flow,
    )
    blocked = images(graph)
    return replace(
        program,
        other_live_activations=_other_live_activations(graph, program),
        images=blocked,
        products=products(graph),
        converted=tuple(converted(graph, blocked, operator.head, operator.reads) for operator in operators),
    )


def _other_live_activations(graph: NetworkGraph, program: Program) -> tuple[int, ...]:
    written = {operator.output for operator in program.operators}
    live = {node for node in program.readers if node not in written}
    found = []
    for position, operator in enumerate(program.operators):
        own = {*operator.reads, operator.output}
        live |= own
        found.append(sum(graph.nodes[node].elements for node in live - own))
        live = {node for node in live if program.last_reader(node) > position}
    return tuple(found)


def _stored(graph: NetworkGraph) -> list[int]:
    """For each node the node in whose memory its output is stored."""
    stored: list[int] = []
    for i, node in enumerate(graph.nodes):
        stored.append(stored[node.inputs[0]] if node.kind in FREE and node.inputs else i)
    return stored


def _fuses(graph: NetworkGraph, pools: bool, i: int, operator: list[int]) -> bool:
    """Whether node i is computed in the operator of these nodes, which wrote its input and still holds it."""
    node, head, last = graph.nodes[i], graph.nodes[operator[0]], graph.nodes[operator[-1]]
    if node.op in FUSED_POOLS:
        return pools and head.kind == "conv" and not any(graph.nodes[other].kind == "pool" for other in operator)
    return (
        node.kind in ELEMENTWISE
        and (head.kind in FUSES_ELEMENTWISE or head.convolves)
        and node.elements == last.elements
    )
