"""Where an orthogonal matrix R can be merged into parameters: the axes of tensors that R multiplies.

Computational invariance (SliceGPT, Ashkboos et al., ICLR 2024, arXiv:2401.15024; QuaRot, arXiv:2404.00456): a residual
stream x is written by layers and embeddings, added up, and read through a norm without gains, which commutes with R. If
all that write it are multiplied by R and all that read it by R^T, the network computes the same. The norm's gains move
into the layers that read it. An RMSNorm keeps every rotation; a LayerNorm keeps those that map the vector of ones to
itself, since it subtracts the mean.

The same holds for the channels of a head between values and output projection: softmax(q k^T) V W_o = (softmax(q k^T)
(V R)) (R^T W_o).

The walk starts at a tensor and follows it to all that makes and reads it. Along one axis, blocks of ``block`` channels
are multiplied by R each.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from autocomp.search_spaces import Argument, NetworkGraph, Node

from .moved_axes import (
    CENTRING,
    COMMUTING,
    FACTORS,
    LOOKUPS,
    MEANS,
    NORMS,
    RESHAPES,
    SUMS,
    NotRotated,
    axis_after,
    is_square,
    order_of,
    reduced_axes,
    scales_all,
    vectors,
)

Place = tuple[str, int]  # a parameter, and one of its axes


POST_NORM = "so that no rotation cancels out: blocks must read the stream through norms of their own (pre-norm)"


@dataclass(frozen=True)
class Reader:
    """What multiplies a tensor: its parameter, the axis of the channels that it reads, its bias if it has one, and
    whether nothing else reads the parameter."""

    weight: str
    axis: int
    bias: str | None
    alone: bool


@dataclass(frozen=True)
class Gain:
    """What a norm multiplies channels by, and adds to them; both are (channels,).

    cell: path of the norm. moves: whether all readers can take in the gain; elsewhere a dense layer R diag(scale) R^T
    must stand behind the norm, as where the head's weight is the embedding's table.
    """

    scale: str
    shift: str | None
    readers: tuple[Reader, ...]
    cell: str

    @property
    def moves(self) -> bool:
        return all(one.alone and (self.shift is None or one.bias is not None) for one in self.readers)


@dataclass(frozen=True)
class RotatedAxes:
    """places: parameters and their axes that are multiplied by a matrix of ``block`` channels. gains: of the norms that
    read the tensor. keeps_mean: whether the matrix must map ones to ones. start: name of the node where it was found.
    """

    start: str
    block: int
    places: frozenset[Place]
    gains: tuple[Gain, ...] = ()
    keeps_mean: bool = False


def residual_streams(graph: NetworkGraph) -> tuple[list[RotatedAxes], list[str]]:
    """The streams that norms read, and for those that cannot be rotated the reasons."""
    seeds = [i for i, node in enumerate(graph.nodes) if node.op in NORMS or _squares_mean(graph, node)]
    return _found(graph, [(graph.nodes[i].inputs[0], -1) for i in seeds], ())


def value_heads(graph: NetworkGraph, taken: Collection[Place] = ()) -> list[RotatedAxes]:
    """The channels of heads between values and output projections; one for each product of attention that has them.

    taken: places that are rotated already.
    """
    products = [i for i in graph.products.values() if not any(graph.nodes[i].turns)]
    return _found(graph, [(i, -1) for i in products], taken)[0]


def _squares_mean(graph: NetworkGraph, node: Node) -> bool:
    """Whether it is the mean of squares over channels, as an RMSNorm written out has it."""
    return node.op in MEANS and len(node.inputs) == 1 and is_square(graph.nodes[node.inputs[0]])


def _found(
    graph: NetworkGraph, seeds: list[tuple[int, int]], taken: Collection[Place]
) -> tuple[list[RotatedAxes], list[str]]:
    found: list[RotatedAxes] = []
    reasons: dict[str, None] = {}
    seen: set[int] = set()
    used = set(taken)
    for seed, axis in seeds:
        source = graph.nodes[seed].inputs[0] if is_square(graph.nodes[seed]) else seed
        if source in seen:
            continue
        walk = _Walk(graph, source, axis % len(graph.nodes[source].shape))
        try:
            axes = walk.run()
        except NotRotated as reason:
            reasons.setdefault(str(reason))
        else:
            if not used & axes.places:
                found.append(axes)
                used |= axes.places
        seen |= walk.axes.keys()
    return found, list(reasons)


@dataclass
class _Walk:
    graph: NetworkGraph
    start: int
    axis: int
    axes: dict[int, int] = field(default_factory=dict)
    claims: dict[str, tuple[int, set[int]]] = field(default_factory=dict)  # parameter -> its axis, nodes that read it
    gains: list[Gain] = field(default_factory=list)
    keeps_mean: bool = False
    waiting: list[int] = field(default_factory=list)

    @property
    def block(self) -> int:
        return self.graph.nodes[self.start].shape[self.axis]

    def run(self) -> RotatedAxes:
        if self.block < 2:
            raise NotRotated("the tensor has one channel")
        self.visit(self.start, self.axis)
        while self.waiting:
            i = self.waiting.pop()
            if i in self.graph.outputs:
                raise NotRotated(f"the network returns the output of {self._place(i)}, which would be rotated")
            self._made(i, self.axes[i])
            for reader in dict.fromkeys(self.graph.consumers[i]):
                self._read(reader, i, self.axes[i])
        self._check_claims()
        places = frozenset((name, axis) for name, (axis, _) in self.claims.items())
        name = self.graph.nodes[self.start].name
        return RotatedAxes(name, self.block, places, tuple(self.gains), self.keeps_mean)

    def visit(self, i: int, axis: int) -> None:
        shape = self.graph.nodes[i].shape
        if not 0 <= axis < len(shape) or shape[axis] % self.block or self.axes.setdefault(i, axis) != axis:
            raise NotRotated(f"{self._place(i)} does not keep the channels together")
        if self.axes[i] == axis and i not in self._queued:
            self._queued.add(i)
            self.waiting.append(i)

    def __post_init__(self) -> None:
        self._queued: set[int] = set()

    def claim(self, name: str, axis: int, node: int) -> None:
        """A parameter that is multiplied along an axis; node: that reads it."""
        known, nodes = self.claims.setdefault(name, (axis, set()))
        if known != axis:
            raise NotRotated(f"{name} would be rotated along two axes")
        nodes.add(node)

    def _check_claims(self) -> None:
        for name, (_, nodes) in self.claims.items():
            if any(name in node.parameters and i not in nodes for i, node in enumerate(self.graph.nodes)):
                raise NotRotated(f"{name} is read by an operator that does not follow the rotation")
        for gain in self.gains:
            if gain.scale in self.claims or not self._alone(gain.scale):
                raise NotRotated(f"{gain.scale} is the gain of several norms")

    def _place(self, i: int) -> str:
        node = self.graph.nodes[i]
        return node.layer or (f"{node.op} in {node.cell}" if node.cell else node.op)

    def _made(self, i: int, axis: int) -> None:
        node = self.graph.nodes[i]
        if node.kind in ("dense", "conv") and node.layer is not None:
            self._written_by_layer(i, node, axis)
        elif node.kind == "matmul" or node.op == "Dense":
            self._written_by_product(i, node, axis)
        elif node.op in LOOKUPS and node.parameters and node.arguments[0].kind == "parameter":
            self._written_by_table(i, node, axis)
        elif node.op in SUMS or (node.op in FACTORS and not is_square(node)):
            self._made_of_operands(i, node, axis)
        else:
            self._passed_on(i, node, axis)

    def _written_by_layer(self, i: int, node: Node, axis: int) -> None:
        if node.kind == "dense" and axis != len(node.shape) - 1:
            raise NotRotated(f"{node.layer} does not write the channels")
        if node.kind == "conv" and (node.groups > 1 or node.transposed or axis != 1):
            raise NotRotated(f"{node.layer} convolves channels apart")
        self.claim(node.weight, 0, i)
        if node.bias is not None:
            self.claim(node.bias, 0, i)

    def _written_by_product(self, i: int, node: Node, axis: int) -> None:
        (first, second), (turn_a, turn_b) = self._operands(node), self._turns(node)
        operand, turned, last = (second, turn_b, 1) if axis == len(node.shape) - 1 else (first, not turn_a, 0)
        rank = len(self._shape(node, operand))
        own = rank - 2 if turned else rank - 1
        if axis < len(node.shape) - 2 or (operand.kind == "parameter" and not last):
            raise NotRotated(f"{self._place(i)} does not write the channels")
        self._follow(operand, own, i)
        if node.op == "Dense" and len(node.parameters) > 1:
            self.claim(node.parameters[1], 0, i)

    def _written_by_table(self, i: int, node: Node, axis: int) -> None:
        shape = node.attributes.parameter_shapes[0]
        if len(shape) != 2 or axis != len(node.shape) - 1 or shape[1] != node.shape[axis]:
            raise NotRotated(f"{self._place(i)} does not give rows of a table")
        self.claim(node.parameters[0], 1, i)

    def _made_of_operands(self, i: int, node: Node, axis: int) -> None:
        """A sum of rotated tensors, or one times a number for each row."""
        if not scales_all(node) and self._has_wide_constant(node, axis):
            raise NotRotated(self._reason(i, node))
        operands = self._tensors(node)
        wide = [one for one in operands if self._size(node, axis, one) > 1]
        if node.op in FACTORS:
            if any(one.kind == "parameter" for one in wide):
                raise NotRotated(f"{self._place(i)} gives the stream a gain for each channel, {POST_NORM}")
            if len(wide) != 1 or (node.op not in COMMUTING and wide != operands[:1]):
                raise NotRotated(self._reason(i, node))
        for operand in operands:
            if operand in wide:
                self._follow(operand, axis - len(node.shape) + len(self._shape(node, operand)), i)
            elif node.op in SUMS:
                self._subtracts_mean(i, operand)

    def _size(self, node: Node, axis: int, operand: Argument) -> int:
        """Of an operand along the axis of the output; 1 where it is the same for all channels."""
        shape = self._shape(node, operand)
        own = axis - len(node.shape) + len(shape)
        return shape[own] if own >= 0 else 1

    def _has_wide_constant(self, node: Node, axis: int) -> bool:
        """Whether a constant operand differs between channels, or is added to them."""
        if len(self._tensors(node)) > 1:
            return False
        from_end = axis - len(node.shape)
        shapes = [np.shape(one) for one in node.attributes.constants if isinstance(one, (int, float, np.ndarray))]
        wide = [len(shape) >= -from_end and shape[from_end] > 1 for shape in shapes]
        return any(wide) or (node.op in SUMS and bool(wide) and not node.parameters)

    def _subtracts_mean(self, i: int, operand: Argument) -> None:
        """One number is added to all channels of a row, as where a mean is subtracted."""
        if operand.kind != "node":
            raise NotRotated(f"{self._place(i)} adds a number to all channels")
        self.keeps_mean = True

    def _passed_on(self, i: int, node: Node, axis: int) -> None:
        for operand in self._tensors(node):
            shape = self._shape(node, operand)
            before = [
                a
                for a in range(len(shape))
                if shape[a] % self.block == 0 and axis_after(self.block, node, shape, a) == axis
            ]
            if not before:
                raise NotRotated(self._reason(i, node))
            self._follow(operand, before[0], i)
        if not self._tensors(node):
            raise NotRotated(self._reason(i, node))

    def _reason(self, i: int, node: Node) -> str:
        if node.op in NORMS:
            return f"{self._place(i)} normalises the stream itself, {POST_NORM}"
        return f"{self._place(i)} changes channels one by one, so that a rotation would not cancel out"

    def _follow(self, operand: Argument, axis: int, reader: int) -> None:
        if operand.kind == "parameter":
            self.claim(operand.value, axis, reader)
        else:
            self.visit(operand.value, axis)

    def _read(self, i: int, source: int, axis: int) -> None:
        node = self.graph.nodes[i]
        if (reader := self._reader(i, source, axis)) is not None:
            self.claim(reader.weight, reader.axis, i)
        elif node.op in NORMS:
            self._through_norm(i, node, axis)
        elif is_square(node):
            self._summed(i, axis)
        elif node.op in MEANS and axis in reduced_axes(node, len(self.graph.nodes[source].shape)):
            self.keeps_mean = True
        elif node.op in FACTORS and any(self._is_vector(node, axis, one) for one in self._tensors(node)):
            self._gain(i, node, axis)
        elif node.kind == "matmul":
            self._multiplied(i, node, source, axis)
        elif node.op in SUMS or node.op in FACTORS:
            self.visit(i, axis + len(node.shape) - len(self.graph.nodes[source].shape))
        else:
            after = axis_after(self.block, node, self.graph.nodes[source].shape, axis)
            if after is None:
                raise NotRotated(self._reason(i, node))
            self.visit(i, after)

    def _reader(self, i: int, source: int, axis: int) -> Reader | None:
        """A layer, or a product with a parameter, that reads the channels."""
        node, rank = self.graph.nodes[i], len(self.graph.nodes[source].shape)
        if node.kind in ("dense", "conv") and node.layer is not None:
            reads = axis == rank - 1 if node.kind == "dense" else axis == 1 and node.groups == 1 and not node.transposed
            if not reads:
                raise NotRotated(f"{node.layer} does not read the channels as one axis")
            return Reader(node.weight, 1, node.bias, self._alone(node.weight))
        if node.kind != "matmul" and node.op != "Dense":
            return None
        first, second = self._operands(node)
        turn_a, turn_b = self._turns(node)
        if first.value != source or axis != (rank - 2 if turn_a else rank - 1):
            return None
        return self._times_parameter(i, second, turn_b)

    def _times_parameter(self, i: int, operand: Argument, turned: bool) -> Reader | None:
        """The parameter that is multiplied, which may be transposed before."""
        shape = self._shape(self.graph.nodes[i], operand)
        axis = len(shape) - 1 if turned else len(shape) - 2
        if operand.kind == "node":
            source = operand.value
            node = self.graph.nodes[source]
            if node.inputs or len(node.parameters) != 1 or node.kind != "transpose":
                return None
            axis, operand = order_of(node)[axis], Argument("parameter", node.parameters[0])
            if set(self.graph.consumers[source]) == {i}:
                self.claim(operand.value, axis, source)
        return Reader(operand.value, axis, None, self._alone(operand.value))

    def _alone(self, name: str) -> bool:
        return sum(name in node.parameters for node in self.graph.nodes) == 1

    def _summed(self, i: int, axis: int) -> None:
        """Squares: only their sum over all channels stays the same."""
        for reader in self.graph.consumers[i]:
            node = self.graph.nodes[reader]
            if node.op not in MEANS or axis not in reduced_axes(node, len(self.graph.nodes[i].shape)):
                raise NotRotated(f"{self._place(i)} squares channels one by one")

    def _multiplied(self, i: int, node: Node, source: int, axis: int) -> None:
        """A product of two tensors: rotated along the axes that are summed over nothing changes."""
        operands, turns = self._operands(node), self._turns(node)
        for place, (operand, other) in enumerate(zip(operands, reversed(operands), strict=True)):
            if operand.kind != "node" or operand.value != source:
                continue
            rank, turned = len(self._shape(node, operand)), turns[place]
            summed = rank - 1 if bool(place) == turned else rank - 2
            if axis == summed:
                far = len(self._shape(node, other))
                self._follow(other, far - 2 if (place == 0) != turns[1 - place] else far - 1, i)
            elif axis >= rank - 2:
                self.visit(i, len(node.shape) - (1 if place else 2))
            else:
                raise NotRotated(self._reason(i, node))

    def _through_norm(self, i: int, node: Node, axis: int) -> None:
        names = [name for name, shape in vectors(node) if math.prod(shape) == node.shape[-1]]
        if axis != len(node.shape) - 1 or not names or len(names) != len(node.parameters):
            raise NotRotated(f"{self._place(i)} does not normalise the channels with gains of its own")
        self.keeps_mean |= node.op in CENTRING
        self._add_gain(i, names[0], names[1] if len(names) > 1 else None, axis)

    def _is_vector(self, node: Node, axis: int, operand: Argument) -> bool:
        shape = self._shape(node, operand)
        from_end = axis - len(node.shape)
        return operand.kind == "parameter" and len(shape) >= -from_end and math.prod(shape) == shape[from_end] > 1

    def _gain(self, i: int, node: Node, axis: int) -> None:
        """An RMSNorm's or LayerNorm's that is written out: a product with a parameter, maybe a sum with another."""
        if node.op != "Mul":
            raise NotRotated(f"{self._place(i)} divides channels one by one")
        readers = self.graph.consumers[i]
        following = self.graph.nodes[readers[0]] if len(readers) == 1 else None
        scale, shift, last = node.parameters[0], None, i
        adds = following is not None and following.op in SUMS[:2]
        if (
            following is not None
            and adds
            and any(self._is_vector(following, axis, v) for v in self._tensors(following))
        ):
            shift, last = following.parameters[0], readers[0]
        self._add_gain(last, scale, shift, axis)

    def _add_gain(self, last: int, scale: str, shift: str | None, axis: int) -> None:
        node = self.graph.nodes[last]
        found = [reader for _, reader in self._gained(last, axis)]
        self.gains.append(Gain(scale, shift, tuple(dict.fromkeys(found)), scale.rpartition(".")[0]))
        if not self.gains[-1].moves and (node.layer or node.cell) != self.gains[-1].cell:
            raise NotRotated(f"{scale} is no parameter of a norm that a layer could stand behind")

    def _gained(self, i: int, axis: int) -> Iterator[tuple[int, Reader]]:
        """Who reads a tensor with gains."""
        if i in self.graph.outputs:
            raise NotRotated(f"the network returns the output of {self._place(i)}, which would be rotated")
        for reader in dict.fromkeys(self.graph.consumers[i]):
            if (found := self._reader(reader, i, axis)) is not None:
                self.claim(found.weight, found.axis, reader)
                yield reader, found
                continue
            node = self.graph.nodes[reader]
            after = None if node.kind == "matmul" else axis_after(self.block, node, self.graph.nodes[i].shape, axis)
            if after is None or len(self._tensors(node)) > 1:
                raise NotRotated(f"{self._place(reader)} reads a norm's output with its gains, {POST_NORM}")
            yield from self._gained(reader, after)

    def _tensors(self, node: Node) -> list[Argument]:
        """The operands that are nodes or parameters, also those in a tuple."""
        found: list[Argument] = []
        for argument in node.arguments:
            found += argument.value if argument.kind == "tuple" else [argument]
        tensors = [one for one in found if one.kind in ("node", "parameter")]
        return tensors[:1] if node.op in (*LOOKUPS, *RESHAPES) else tensors

    def _operands(self, node: Node) -> tuple[Argument, Argument]:
        if len(node.arguments) < 2 or any(one.kind not in ("node", "parameter") for one in node.arguments[:2]):
            raise NotRotated(f"{node.op} in {node.cell} multiplies by a constant")
        first, second = node.arguments[:2]
        return first, second

    def _turns(self, node: Node) -> tuple[bool, bool]:
        return (False, True) if node.op == "Dense" else node.turns

    def _shape(self, node: Node, operand: Argument) -> tuple[int, ...]:
        if operand.kind == "node":
            return self.graph.nodes[operand.value].shape
        return node.attributes.parameter_shapes[node.parameters.index(operand.value)]
