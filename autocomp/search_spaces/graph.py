"""The network as data: operators in execution order, and which channels must be cut together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Any, TypeVar

import numpy as np

from .blocks import ResidualBlock
from .node_attributes import FLOAT32, WEIGHTED, Argument, Convolution, NodeAttributes, Normalization, SplitPart
from .quantized_tensors import IntegerFlow

Held = TypeVar("Held")
NEVER_NEGATIVE = ("ReLU", "ReLUExt", "ReLU6", "Sigmoid", "HSigmoid", "Softmax")
NAMING = ("name", "names")  # suffixes of attributes that MindSpore numbers differently in each process


@dataclass(frozen=True)
class Node:
    """One operator.

    name: unique; the cell's path for layers (``"stages.0.conv1"``), else the operator and its number.
    kind: ``input conv dense batchnorm layernorm activation add mul concat pool mean flatten matmul softmax
        reshape transpose slice pad other``; hardware models cost by kind.
    op: the MindSpore operator, ``"Conv2D"``.
    inputs: indices of the producing nodes, in argument order; constants and parameters are left out.
    shape: of the output, batch first; ``elements`` is its product.
    layer: path of the cell that owns the operator's parameters, None where there are none. An embedding has one,
        too, although it is no layer.
    weight_shape: ``(out, in / groups, kh, kw)`` of a conv, ``(out, in)`` of a dense layer, else None.
    attributes: what the operator reads, how it is set, and what tracing found out about it.
    units: ``(channels,)`` int: for each position on the channel axis (axis 1; of a matrix the last) the prunable
        unit it belongs to, -1 for a channel that always stays. After a Flatten each unit occurs once for each pixel.
    """

    name: str
    kind: str
    op: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    layer: str | None = None
    weight_shape: tuple[int, ...] | None = None
    attributes: NodeAttributes = field(default_factory=NodeAttributes)
    units: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), compare=False)

    @property
    def convolution(self) -> Convolution:
        return self._required(self.attributes.convolution, "a convolution with a weight of its own")

    @property
    def normalization(self) -> Normalization:
        return self._required(self.attributes.normalization, "a BatchNorm with statistics of its own")

    @property
    def part(self) -> SplitPart:
        return self._required(self.attributes.part, "a part of a split")

    def _required(self, value: Held | None, what: str) -> Held:
        """ValueError where the node's kind of operator does not have the attribute."""
        if value is None:
            raise ValueError(f"{self.name} must be {what}, but it is a {self.op} of kind {self.kind}")
        return value

    @property
    def place(self) -> str:
        """What a format is chosen for at this node: its layer, or the node itself, as a product of two activations."""
        return self.layer or self.name

    @property
    def cell(self) -> str:
        """Path of the cell whose code runs the operator; empty for that of the network itself."""
        return self.attributes.cell.rpartition(":")[0]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return self.attributes.arguments

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters that the operator reads."""
        return self.attributes.parameters

    @property
    def weight(self) -> str:
        """The name of a layer's weight."""
        return self._required(self.attributes.weight, "a layer with a weight of its own")

    @property
    def table(self) -> str:
        """The name of an embedding's table."""
        return self._required(self.attributes.table, "an embedding with a table of its own")

    @property
    def table_shape(self) -> tuple[int, int]:
        """Rows and width of an embedding's table."""
        rows, width = self.attributes.parameter_shapes[self.parameters.index(self.table)]
        return rows, width

    @property
    def bias(self) -> str | None:
        """The name of a layer's bias, if it has one."""
        return self.attributes.bias

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def groups(self) -> int:
        window = self.attributes.convolution
        return 1 if window is None else window.groups

    @property
    def depthwise(self) -> bool:
        return self.kind == "conv" and self.groups > 1 and self.weight_shape is not None and self.weight_shape[1] == 1

    @property
    def channelwise(self) -> bool:
        """Whether each channel is convolved alone, into one channel."""
        return self.depthwise and self.weight_shape is not None and self.weight_shape[0] == self.groups

    @property
    def repeats_channels(self) -> bool:
        """Whether each channel is convolved alone, into several."""
        return self.depthwise and not self.channelwise and not self.transposed

    @property
    def transposed(self) -> bool:
        return self.attributes.convolution is not None and self.attributes.convolution.transposed

    @property
    def channel_axis(self) -> int:
        """The axis of the output that has the channels, the last where they were not followed."""
        return len(self.shape) - 1 if self.attributes.axis is None else self.attributes.axis

    @property
    def has_phases(self) -> bool:
        """Whether it is a transposed convolution whose pixels a convolution computes, phase by phase of its stride."""
        if not self.transposed or self.groups > 1 or self.convolution.dilation != (1, 1):
            return False
        window, found = self.convolution, []
        for axis, (before, after) in enumerate((window.pad[:2], window.pad[2:])):
            kernel, stride, size = window.kernel[axis], window.stride[axis], self.shape[2 + axis]
            steps = (size - kernel + before + after) // stride  # between the pixels that it reads
            found.append(before + size <= (steps - (-kernel // stride)) * stride)
        return all(found)

    @property
    def convolves(self) -> bool:
        """Whether the operator is a convolution. One with three spatial dimensions has kind ``other`` and no knobs."""
        return self.kind == "conv" or (self.kind == "other" and self.op.startswith("Conv"))

    @property
    def turns(self) -> tuple[bool, bool]:
        """Whether a matrix product transposes its first operand, and whether its second."""
        flags = [value for value in self.attributes.constants if isinstance(value, bool)] + [False, False]
        operator = self.attributes.operator
        return bool(operator.get("transpose_a", flags[0])), bool(operator.get("transpose_b", flags[1]))

    @property
    def positions(self) -> int:
        """How often a layer's weight is applied: once for each output pixel or row; of a transposed conv once for each
        input pixel."""
        assert self.weight_shape is not None
        positions = self.attributes.positions
        return self.elements // self.weight_shape[0] if positions is None else positions

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run, for the shape at which the network was traced."""
        if self.weight_shape is None or self.kind not in WEIGHTED:
            return 0
        return self.positions * math.prod(self.weight_shape)


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels can only be cut together.

    Its units are the rows ``start`` to ``stop`` of the graph's units; cutting a unit removes every channel, in
    whatever layer, that ``Node.units`` says belongs to it.
    """

    name: str
    layers: tuple[str, ...]
    start: int
    stop: int

    @property
    def units(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class NetworkGraph:
    """A traced network.

    nodes: in execution order; an index into it is how nodes refer to each other.
    outputs: indices of the nodes that the network returns.
    channel_groups: what can be pruned.
    whole: layers whose output channels cannot be pruned, with the reason.
    unknown: operators that autocomp does not interpret, with the number of their occurrences.
    other_params: elements of parameters that belong to no conv or dense weight or bias (BatchNorm, embeddings...).
    blocks: parts that plans may skip.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    channel_groups: tuple[ChannelGroup, ...] = ()
    whole: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    other_params: int = 0
    blocks: tuple[ResidualBlock, ...] = ()

    @cached_property
    def layers(self) -> dict[str, int]:
        """Path of each conv or dense layer -> index of its (first) node."""
        found: dict[str, int] = {}
        for i, node in enumerate(self.nodes):
            if node.kind in WEIGHTED and node.layer is not None:
                found.setdefault(node.layer, i)
        return found

    @cached_property
    def embeddings(self) -> dict[str, int]:
        """Path of each cell whose operator gives rows of a table -> index of its (first) node."""
        found: dict[str, int] = {}
        for i, node in enumerate(self.nodes):
            if node.attributes.table is not None and node.layer is not None:
                found.setdefault(node.layer, i)
        return found

    @cached_property
    def products(self) -> dict[str, int]:
        """Name of each matrix product of two activations, as attention has two of them -> index of its node."""
        return {node.name: i for i, node in enumerate(self.nodes) if self._multiplies_activations(node)}

    def _multiplies_activations(self, node: Node) -> bool:
        operands = node.arguments[:2]
        return (
            node.kind == "matmul"
            and node.op != "Dense"
            and node.attributes.type == FLOAT32
            and len(operands) == 2
            and all(one.kind == "node" and not one.part and self._is_matrix(one.value) for one in operands)
        )

    def _is_matrix(self, i: int) -> bool:
        return self.fed[i] and len(self.nodes[i].shape) > 1

    @cached_property
    def multiplying(self) -> dict[str, int]:
        """The layers and the products of two activations, which may run in integers -> index of the (first) node."""
        return {**self.layers, **self.products}

    @property
    def rounded_places(self) -> tuple[str, ...]:
        """The layers, the embeddings and the products of two activations: all that a format can be chosen for."""
        return (*self.layers, *self.embeddings, *self.products)

    def places_within(self, cells: Container[str]) -> frozenset[str]:
        """Of these the ones that belong to these cells; a product belongs to the cell whose code computes it."""
        inside = {name for name, i in self.products.items() if self.cell_of(i) in cells}
        return frozenset(inside.union(place for place in self.rounded_places if place in cells))

    def cell_of(self, i: int) -> str:
        """Path of the cell whose code runs an operator. MindSpore gives those of repeated blocks the path in the first
        block: where the layers before it lie elsewhere, it is the cell that holds them."""
        own, near = self.nodes[i].cell, self.cell_before(self.nodes[i].inputs)
        within = f"{own}.".startswith(f"{near}.") or f"{near}.".startswith(f"{own}.")
        return own if within or not own or not near else near

    def cell_before(self, nodes: Sequence[int]) -> str:
        """Path of the cell that holds the nearest layers before these nodes, themselves among them; empty for none."""
        waiting, paths, seen = list(nodes), list[list[str]](), set(nodes)
        while waiting:
            node = self.nodes[waiting.pop()]
            if node.layer is not None and node.kind in WEIGHTED:
                paths.append(node.layer.split(".")[:-1])
                continue
            new = [source for source in node.inputs if source not in seen]
            seen.update(new)
            waiting += new
        return ".".join(parts[0] for parts in takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False)))

    def calls(self, layer: str) -> list[Node]:
        """The nodes of a conv or dense layer, in execution order: several where it runs several times."""
        return [node for node in self.nodes if node.layer == layer and node.weight_shape is not None]

    def around(self, i: int) -> tuple[int, int]:
        """Of a layer in a chain, before the last: the node that it reads, and the last node of the chain."""
        last = self.consumers[i][0]
        while self.nodes[last].attributes.narrowing is not None:
            last = self.consumers[last][0]
        return self.nodes[i].inputs[0], last

    def starts_chain(self, i: int) -> bool:
        """Whether a layer of a chain is its first: it reads what the replaced layer read."""
        node = self.nodes[i]
        layer = node.attributes.replaces
        return layer is not None and self.nodes[node.inputs[0]].attributes.replaces != layer

    def never_negative(self, i: int) -> bool:
        """Whether the node's output cannot be negative: it is a ReLU or similar, or a pooling of one."""
        node = self.nodes[i]
        if node.kind in ("pool", "mean", "flatten", "reshape") and len(node.inputs) == 1:
            return self.never_negative(node.inputs[0])
        return node.op in NEVER_NEGATIVE

    @cached_property
    def unit_count(self) -> int:
        return max((group.stop for group in self.channel_groups), default=0)

    @cached_property
    def fed(self) -> tuple[bool, ...]:
        """For each node whether it depends on an input of the network; the other nodes depend on parameters alone.

        An operator without known inputs may depend on one: control flow that depends on numbers splits the graph into
        parts.
        """
        found: list[bool] = []
        for node in self.nodes:
            unknown = node.kind == "other" and not node.inputs and not node.parameters
            found.append(node.kind == "input" or unknown or any(found[i] for i in node.inputs))
        return tuple(found)

    @cached_property
    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For each node the nodes that read its output, once per read."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for source in node.inputs:
                readers[source].append(i)
        return tuple(tuple(r) for r in readers)

    @cached_property
    def integer_flow(self) -> IntegerFlow:
        return IntegerFlow.of(self)

    @property
    def macs(self) -> int:
        return sum(node.macs for node in self.nodes)

    def input_units(self, node: Node) -> np.ndarray:
        """The units on the channel axis of the node's first input, which are the channels that its weight consumes.

        A weight that reads another axis (the tokens of an MLP-Mixer) consumes no units: all are -1.
        """
        units = self.nodes[node.inputs[0]].units
        if node.weight_shape is None or len(units) == node.weight_shape[1] * node.groups:
            return units
        return np.full(node.weight_shape[1] * node.groups, -1)

    @cached_property
    def key(self) -> str:
        """Changes with what the network computes, but not with the values of its parameters."""
        digest = hashlib.blake2b(digest_size=16)
        for node in self.nodes:
            operator = {k: v for k, v in node.attributes.operator.items() if not k.endswith(NAMING)}
            arguments, constants = tuple(a.plain for a in node.arguments), node.attributes.constants
            computed = (node.op, node.inputs, node.shape, node.layer, arguments, constants, sorted(operator.items()))
            digest.update(repr(_plain(computed)).encode())
        digest.update(repr(self.outputs).encode())
        return digest.hexdigest()

    def group(self, name: str) -> ChannelGroup:
        for group in self.channel_groups:
            if group.name == name:
                return group
        raise ValueError(f"unknown channel group {name!r}; known: {', '.join(g.name for g in self.channel_groups)}")


def _plain(value: Any) -> Any:
    """The value with each array replaced by its dtype, shape and hash."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.blake2b(value.tobytes()).hexdigest()
    return tuple(map(_plain, value)) if isinstance(value, (tuple, list)) else value
