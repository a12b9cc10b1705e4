"""Work, bytes and energy of one operator for many plans at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node, Workload

from .operators import PASSES_INTEGERS, Operator, Program
from .rates import FLOAT, INT4, INT8, PRECISIONS, UNPACKED, Demand

if TYPE_CHECKING:
    from .device import Device


@dataclass(frozen=True)
class Container:
    """Bytes of an exported file beside the numbers in it.

    node: attributes and shape of an operator. integers, packed: the operators that turn a layer's integers, or two of
    them in a byte, into its weight. rounded: those that round its input.
    """

    node: int
    integers: int
    packed: int
    rounded: int


CONTAINERS = {
    "mindir": Container(335, 314, 883, 734),  # fitted to 30 plans of three small networks, largest miss 600 bytes
    "onnx": Container(109, 182, 213, 319),  # to 30 plans of three ImageNet networks, largest miss 1,800 bytes
}
SOFT = dict.fromkeys(  # transcendental functions for each element of the output
    ("SiLU", "Sigmoid", "Tanh", "GeLU", "GeluExt", "Exp", "Log", "Erf", "HSwish", "HSigmoid", "Mish", "Softplus"), 1
) | {"LSTM": 5}
REDUCED = ("softmax", "layernorm")
KEEPS_INTEGERS = ("ReLU", "ReLU6")  # activations that rounding to unsigned integers carries out on its way
MOST_THIN = 4  # channels of a group that a GPU convolves outside its matrix unit


def padded(amount: np.ndarray, tile: int) -> np.ndarray:
    return -(-amount // tile) * tile


@dataclass(frozen=True)
class Traced:
    """A network, how a device runs it, and the plans at hand."""

    device: Device
    program: Program
    workload: Workload

    @property
    def graph(self) -> NetworkGraph:
        return self.workload.graph

    @cached_property
    def norm_params_per_channel(self) -> int:
        """BatchNorm has four parameters a channel, or two where the moving statistics are no parameters."""
        channels = sum(len(node.units) for node in self.graph.nodes if node.kind == "batchnorm")
        return min(4, self.graph.other_params // channels) if channels else 0

    def elements(self, node: int) -> np.ndarray:
        """(n,) of the whole batch."""
        shape = self.graph.nodes[node]
        batch = self.workload.batch
        if not len(shape.units):
            return np.full(len(self.workload), float(shape.elements * batch))
        return self.workload.channels_of(node) * (shape.elements / len(shape.units) * batch)

    def asked(self, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: the arithmetic that the layer's format asks for, of those that the device has."""
        weight, activation = self.workload.bits_of(layer)
        found = np.zeros(len(self.workload), np.intp)
        for code, bits in ((INT8, 8), (INT4, 4)):
            if PRECISIONS[code] in self.device.rates.macs_per_s:
                found[(weight <= bits) & (activation <= bits)] = code
        return found

    def precision(self, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: in which arithmetic the device carries a layer out.

        Where that needs an ``integer_chain`` its output must be read in integers alone, and its weights have bytes.
        """
        asked = self.asked(layer)
        if not self.device.integer_chain:
            return asked
        weight, _ = self.workload.bits_of(layer)
        chained = (asked > FLOAT) & (weight > 4) & self._read_in_integers(layer)
        chained &= self.graph.nodes[layer].kind in self.device.integer_chain
        unpacked = UNPACKED if PRECISIONS[UNPACKED] in self.device.rates.macs_per_s else FLOAT
        return np.where(chained, asked, np.where(weight <= 8, unpacked, FLOAT))

    def _read_in_integers(self, layer: int) -> np.ndarray:
        """(n,) bool: whether all that read what the layer's operator writes ask for integers."""
        operator = self.operator_of(layer)
        heads = self.program.integer_readers.get(operator.output)
        fused = [self.graph.nodes[i] for i in operator.nodes[1:]]
        if not heads or any(node.kind != "batchnorm" and node.op not in KEEPS_INTEGERS for node in fused):
            return np.zeros(len(self.workload), bool)
        return np.logical_and.reduce([self.asked(head) > FLOAT for head in heads])

    def operator_of(self, head: int) -> Operator:
        return next(operator for operator in self.program.operators if operator.head == head)

    def origin(self, node: int) -> int | None:
        """The layer whose integers a reader of the node finds, through operators that pass them; None without one."""
        while node in self.program.writer:
            operator = self.program.operators[self.program.writer[node]]
            if self.graph.nodes[operator.head].kind in WEIGHTED:
                return operator.head
            if self.graph.nodes[operator.head].op not in PASSES_INTEGERS or not operator.reads:
                return None
            node = operator.reads[0]
        return None

    def rounded(self, operator: Operator) -> np.ndarray:
        """(n,) elements that operators of their own turn into integers, and back, before a layer."""
        none = np.zeros(len(self.workload))
        if self.graph.nodes[operator.head].kind not in WEIGHTED or not self.device.integer_chain:
            return none
        _, bits = self.workload.bits_of(operator.head)
        origin = self.origin(operator.reads[0])
        floats = none == 0 if origin is None else self.precision(origin) != INT8
        back = self.precision(operator.head) == UNPACKED
        return np.where(bits <= 8, self.elements(operator.reads[0]) * (floats * 1.0 + back), 0.0)

    def width(self, node: int) -> np.ndarray:
        """(n,) bytes of an element of the node's output in memory: the widest that any reader asks for."""
        widths = self.device.bytes_per_element
        if node in self.program.kept or not self.program.readers[node]:
            return np.full(len(self.workload), widths[FLOAT])
        if self.device.integer_chain:
            origin = self.origin(node)
            return np.full(len(self.workload), widths[FLOAT]) if origin is None else widths[self.precision(origin)]
        widest = np.zeros(len(self.workload))
        for position in self.program.readers[node]:
            operator = self.program.operators[position]
            if self.graph.nodes[operator.head].kind in WEIGHTED and operator.reads[0] == node not in operator.reads[1:]:
                widest = np.maximum(widest, widths[self.asked(operator.head)])
            else:
                widest = np.full(len(self.workload), widths[FLOAT])
        return widest

    def knobs(self, operator: Operator) -> tuple[int, ...]:
        """Positions of the knobs that decide what the operator costs."""
        touched = (*operator.nodes, *operator.reads, *self.graph.nodes[operator.head].inputs)
        neighbours = {
            self.program.operators[p].head
            for node in (*operator.reads, operator.output)
            for p in self.program.readers[node]
        }
        if self.device.integer_chain:
            neighbours |= self._chain(operator)
        return self.workload.knobs_of(touched, {operator.head, *neighbours})

    def _chain(self, operator: Operator) -> set[int]:
        """Layers whose formats decide in which arithmetic the operator and the one before it run."""
        found = set(self.program.integer_readers.get(operator.output) or ())
        return found.union(*(self.deciding(node) for node in operator.reads))

    def deciding(self, node: int) -> set[int]:
        """Layers whose formats decide whether the node's output is in integers."""
        origin = self.origin(node)
        if origin is None:
            return set()
        return {origin, *(self.program.integer_readers.get(self.operator_of(origin).output) or ())}


@dataclass(frozen=True)
class MatrixUnits:
    """How a chip cuts a product of matrices.

    tile: precision -> (rows, channels out, channels in).
    pack: channels of thin groups that run side by side.
    thin_depth: whether fewer channels in than a tile are multiplied as they are.
    whole_depth: whether the depth is padded over all kernel positions together.
    blocks, splits: (rows, channels out) that one core computes, and into how many parts the depth may be cut; the
        quickest is taken. None: cores never idle.
    """

    tile: Mapping[str, tuple[int, int, int]]
    pack: int
    whole_depth: bool = False
    thin_depth: bool = False
    blocks: tuple[tuple[int, int], ...] = ()
    splits: tuple[int, ...] = (1,)
    cores: int = 1
    half_block: float = 0.0  # elements of a block at which a core reaches half its rate

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> MatrixUnits:
        tile = {name: tuple(shape) for name, shape in data["tile"].items()}
        blocks = tuple(map(tuple, data.get("blocks", ())))
        splits = tuple(data.get("splits", (1,)))
        known = {name: data[name] for name in ("whole_depth", "thin_depth", "cores", "half_block") if name in data}
        return cls(tile, data["pack"], blocks=blocks, splits=splits, **known)

    def waves(
        self,
        rows: np.ndarray,
        width: np.ndarray,
        depth: np.ndarray,
        matrices: np.ndarray,
        step: int,
        block: tuple[int, int],
        split: int,
    ) -> np.ndarray:
        """(n,) multiply-accumulates of all cores, idle ones included; parts of a split depth are added up."""
        area = block[0] * block[1]
        blocks = np.ceil(rows / block[0]) * np.ceil(width / block[1]) * matrices * split
        part = padded(depth / split, step) + (step if split > 1 else 0)
        return np.ceil(blocks / self.cores) * self.cores * (area + self.half_block) * part


@dataclass(frozen=True)
class Layer:
    """Sizes of a conv or dense layer under the plans at hand, each (n,)."""

    rows: np.ndarray  # positions of the whole batch at which the weight is applied
    channels_in: np.ndarray  # of one group
    channels_out: np.ndarray  # of all groups
    groups: np.ndarray
    kernel: int  # positions

    @property
    def macs(self) -> np.ndarray:
        return self.rows * self.channels_out * self.channels_in * self.kernel

    @property
    def weights(self) -> np.ndarray:
        return self.channels_out * self.channels_in * self.kernel

    def matrix_macs(self, units: MatrixUnits, precision: str) -> np.ndarray:
        """What the matrix units carry out: sizes filled up to their tile, in blocks spread over the cores.

        Groups too thin for the unit run side by side as one matrix with zeros in it, up to ``pack`` channels, as many
        as is best.
        """
        most = np.clip(units.pack // np.maximum(self.channels_in, 1), 1, self.groups)
        counts = range(1, int(most.max(initial=1)) + 1)
        return np.minimum.reduce([self._packed(units, precision, np.minimum(count, most)) for count in counts])

    def _packed(self, units: MatrixUnits, precision: str, together: np.ndarray) -> np.ndarray:
        """With so many groups side by side, (n,)."""
        rows, columns, depth = units.tile[precision]
        matrices = np.ceil(self.groups / together)
        width = np.ceil(self.channels_out / self.groups) * together
        if units.whole_depth:
            deep = padded(self.channels_in * together * self.kernel, depth)
        else:
            channels = self.channels_in * together
            as_it_is = units.thin_depth & (channels < depth)
            deep = np.where(as_it_is, channels, padded(channels, depth)) * self.kernel
        if not units.blocks:
            return padded(self.rows, rows) * matrices * padded(width, columns) * deep
        return np.minimum.reduce(
            [
                units.waves(self.rows, width, deep, matrices, depth, block, split)
                for block in units.blocks
                for split in units.splits
            ]
        )


def layer_of(traced: Traced, index: int) -> Layer:
    graph, workload = traced.graph, traced.workload
    node = graph.nodes[index]
    assert node.weight_shape is not None
    out, inner, *kernel = node.weight_shape
    channels_out = _kept(traced, index, out)
    source = _kept(traced, node.inputs[0], inner * node.groups)
    rows = np.full(len(workload), float(node.positions * workload.batch))
    if node.depthwise:
        ones = np.ones(len(workload))
        return Layer(rows, ones, channels_out, np.maximum(channels_out // (out // node.groups), 1), math.prod(kernel))
    groups = np.full(len(workload), float(node.groups))
    return Layer(rows, source / groups, channels_out, groups, math.prod(kernel))


def _kept(traced: Traced, node: int, channels: int) -> np.ndarray:
    """(n,) channels; as traced where the node's channel axis is not the one that the weight sees."""
    if len(traced.graph.nodes[node].units) != channels:
        return np.full(len(traced.workload), float(channels))
    return traced.workload.channels_of(node).astype(float)


@dataclass(frozen=True)
class Work:
    """What an operator costs, each (n,)."""

    demand: Demand
    file_bytes: np.ndarray
    memory_bytes: np.ndarray
    energy_j: np.ndarray
    macs: np.ndarray
    params: np.ndarray


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-accumulates of an operator, each (n,); the matrix unit's by precision, padding included."""

    macs: np.ndarray
    matrix: dict[str, np.ndarray]
    thin: np.ndarray


def work(traced: Traced, position: int) -> Work:
    """Of the operator at a position of the program."""
    operator = traced.program.operators[position]
    node = traced.graph.nodes[operator.head]
    n = len(traced.workload)
    norms = [i for i in operator.nodes if traced.graph.nodes[i].kind == "batchnorm"]
    params = sum((traced.workload.channels_of(i) * float(traced.norm_params_per_channel) for i in norms), np.zeros(n))
    layer = layer_of(traced, operator.head) if node.kind in WEIGHTED and node.weight_shape else None
    weights, stored, bias = np.zeros((3, n))
    if layer is not None:
        weights = layer.weights
        stored, bias = _stored(traced, operator.head, layer)
    arithmetic = _arithmetic(traced, operator, layer)
    demand = _demand(traced, position, layer, arithmetic)
    first = node.layer is None or traced.graph.layers.get(node.layer, operator.head) == operator.head
    resident = _resident_width(traced, operator.head, demand.precision)
    return Work(
        demand=demand,
        file_bytes=(stored + (bias + _folded(operator, layer, norms, bias, params)) * 4) * first,
        memory_bytes=(weights * resident + (bias + params) * 4) * first,
        energy_j=_energy(traced, operator, demand, arithmetic.macs),
        macs=arithmetic.macs,
        params=(weights + bias + params) * first,
    )


def _arithmetic(traced: Traced, operator: Operator, layer: Layer | None) -> Arithmetic:
    node, none = traced.graph.nodes[operator.head], np.zeros(len(traced.workload))
    matrix = dict.fromkeys(PRECISIONS, none)
    if layer is None and node.kind == "matmul" and node.inputs:
        layer = product_of(traced, operator.head)
    elif node.op == "LSTM":
        layer = steps_of(traced, operator.head)
    if layer is None:
        return Arithmetic(none, matrix, none)
    grouped = node.groups > 1 and node.weight_shape is not None and node.weight_shape[1] <= MOST_THIN
    if traced.device.thin_outside and grouped:
        return Arithmetic(layer.macs, matrix, layer.macs)
    units = traced.device.matrix
    matrix |= {name: layer.matrix_macs(units, name) for name in traced.device.rates.macs_per_s}
    return Arithmetic(layer.macs, matrix, none)


def _demand(traced: Traced, position: int, layer: Layer | None, arithmetic: Arithmetic) -> Demand:
    operator, n = traced.program.operators[position], len(traced.workload)
    node, precision = traced.graph.nodes[operator.head], traced.precision(operator.head)
    gathered, groups = np.zeros((2, n))
    weights = _parameters_read(traced, operator.head) if layer is None else layer.weights
    if layer is not None:
        gathered = layer.macs / layer.channels_out * (layer.kernel > 1) * (precision > FLOAT)
        groups = layer.groups * traced.workload.batch * (precision == UNPACKED) * (arithmetic.thin > 0)
    beside = traced.program.bystanders[position] * traced.workload.batch * traced.device.float_bits / 8
    return Demand(
        matrix=arithmetic.matrix,
        thin=arithmetic.thin,
        traffic=_traffic(traced, operator),
        weights=weights * traced.device.bytes_per_element[precision],
        bystanders=np.full(n, beside),
        vector=_vector(traced, operator),
        soft=sum((traced.elements(i) * SOFT.get(traced.graph.nodes[i].op, 0) for i in operator.nodes), np.zeros(n)),
        reduced=traced.elements(operator.head) * float(node.kind in REDUCED),
        in_place=np.full(n, node.kind == "concat" and traced.device.concat_in_place),
        precision=precision,
        unpacked=weights * (precision == UNPACKED),
        rounded=traced.rounded(operator),
        gathered=gathered,
        groups=groups,
    )


def _resident_width(traced: Traced, index: int, precision: np.ndarray) -> np.ndarray:
    """(n,) bytes of a weight in memory: what is unpacked at each inference stays in integers between them."""
    bits = traced.workload.bits_of(index)[0]
    return np.where(precision == UNPACKED, np.where(bits <= 4, 0.5, 1.0), traced.device.bytes_per_element[precision])


def _stored(traced: Traced, index: int, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of a layer's weights in the file, with a scale for each channel and the operators that make numbers of
    them where they are integers; its biases."""
    bits, activation_bits = traced.workload.bits_of(index)
    width = np.where(bits <= 4, 0.5, np.where(bits <= 8, 1.0, 4.0))
    bias = layer.channels_out * float(bool(traced.graph.nodes[index].attributes.get("bias")))
    container = traced.device.container
    unpacked = np.where(bits <= 4, container.packed, container.integers)
    stored = layer.weights * width + np.where(bits <= 8, layer.channels_out * 4 + unpacked, 0)
    return stored + np.where(activation_bits <= 8, container.rounded, 0), bias


def _folded(
    operator: Operator, layer: Layer | None, norms: list[int], bias: np.ndarray, params: np.ndarray
) -> np.ndarray:
    """(n,) parameters of an operator's BatchNorm in the file: folded into its layer they are the layer's bias."""
    if layer is None or not norms:
        return params
    return np.where(bias > 0, 0.0, layer.channels_out)


def product_of(traced: Traced, index: int) -> Layer:
    """A product of two activations as a layer whose groups are the matrices of the whole batch."""
    node = traced.graph.nodes[index]
    ones = np.ones(len(traced.workload))
    last = len(node.shape) - 1
    matrices = node.elements / (node.shape[-2] * node.shape[-1]) * traced.workload.batch
    sizes = [size * ones for size in (node.shape[-1], node.shape[-2], matrices)]
    if len(node.units):  # on the columns, the rows or, where they are heads, the matrices
        behind = last - int(node.attributes.get("axis", last))
        sizes[min(behind, 2)] *= traced.workload.channels_of(index) / len(node.units)
    depth = traced.graph.nodes[node.inputs[0]].shape[-1]
    if len(node.inputs) == 1:  # by a parameter: the rows of all matrices are one
        return Layer(sizes[1] * sizes[2], depth * ones, sizes[0], ones, 1)
    return Layer(sizes[1], depth * ones, sizes[0] * sizes[2], sizes[2], 1)


def steps_of(traced: Traced, index: int) -> Layer:
    """An LSTM of one direction, output (steps, batch, hidden), as a layer whose groups are the steps: each multiplies
    the rows of its batch, input and state side by side, by the weights of four gates."""
    node, ones = traced.graph.nodes[index], np.ones(len(traced.workload))
    sizes = node.attributes["operator"]
    steps, rows, hidden = node.shape
    return Layer(
        rows * traced.workload.batch * ones,
        (sizes["input_size"] + sizes["hidden_size"]) * ones,
        4 * hidden * steps * ones,
        steps * ones,
        1,
    )


def _parameters_read(traced: Traced, index: int) -> np.ndarray:
    """(n,) elements of parameters that what is no layer reads: an LSTM's, a matrix, rows of an embedding."""
    node = traced.graph.nodes[index]
    if node.op == "LSTM":
        layer = steps_of(traced, index)
        return layer.weights / layer.groups
    if node.kind == "matmul" and len(node.inputs) == 1:
        return product_of(traced, index).weights
    gathers = node.op == "Gather" and node.attributes.get("parameters")
    return traced.elements(index) * float(bool(gathers))


def _traffic(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes of activations read and written; a residual that a layer adds may come for free."""
    share = traced.device.residual_share if traced.graph.nodes[operator.head].kind in WEIGHTED else 1.0
    total = traced.elements(operator.output) * traced.width(operator.output)
    for i, node in enumerate(operator.reads):
        total = total + traced.elements(node) * traced.width(node) * (share if i else 1.0)
    return total


def _vector(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) elementwise operations of what is no layer."""
    node = traced.graph.nodes[operator.head]
    if node.kind == "pool":
        return traced.elements(operator.head) * window(node)
    if node.kind == "mean" and operator.reads:
        return traced.elements(operator.reads[0])
    free = (*WEIGHTED, *REDUCED, "matmul", "transpose", "slice", "pad")
    return traced.elements(operator.output) * (0.0 if node.kind in free else 1.0)


def window(node: Node) -> int:
    """Positions that a pool looks at for one of its outputs."""
    size = node.attributes.get("operator", {}).get("kernel_size") or node.attributes.get("kernel")
    if size is None:
        size = next((c for c in node.attributes.get("constants", ()) if isinstance(c, tuple)), (1,))
    return math.prod(int(n) for n in size) if isinstance(size, (tuple, list)) else int(size) ** 2


def _energy(traced: Traced, operator: Operator, demand: Demand, macs: np.ndarray) -> np.ndarray:
    device = traced.device
    picojoules = np.array([device.energy_pj["mac"].get(name, device.energy_pj["mac"]["float"]) for name in PRECISIONS])
    outside = device.rates.spilled(demand) + demand.weights
    moved = outside * device.energy_pj["dram"] + demand.traffic * device.energy_pj["cache"]
    arithmetic = macs * picojoules[demand.precision] + traced.elements(operator.output) * device.energy_pj["vector"]
    return (arithmetic + moved) * 1e-12
