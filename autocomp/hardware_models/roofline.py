"""Work, bytes and energy of one operator for many plans at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node, Workload

from .layers import Layer, layer_of, multiplied
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
        shape, images = self.graph.nodes[node], self.images(node)
        if not len(shape.units):
            return np.full(len(self.workload), float(shape.elements * images))
        return self.workload.channels_of(node) * (shape.elements / len(shape.units) * images)

    def images(self, node: int) -> int:
        """How often a node's shape, as traced, is there: what is made of parameters alone, once for the whole batch."""
        return self.workload.batch if self.graph.fed[node] else 1

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
    """Multiply-accumulates of an operator, each (n,); the matrix unit's by precision, padding included.

    layer: what is multiplied, None where nothing is.
    """

    macs: np.ndarray
    layer: Layer | None
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
    first = node.layer is None or traced.graph.layers.get(node.layer, operator.head) == operator.head
    if layer is not None and first:
        weights = layer.weights
        stored, bias = _stored(traced, operator.head, layer)
    arithmetic = _arithmetic(traced, operator)
    demand = _demand(traced, position, arithmetic)
    resident = _resident_width(traced, operator.head, demand.precision)
    return Work(
        demand=demand,
        file_bytes=stored + (bias + _folded(traced, operator, layer, norms, params)) * 4,
        memory_bytes=weights * resident + (bias + params) * 4,
        energy_j=_energy(traced, operator, demand, arithmetic.macs),
        macs=arithmetic.macs,
        params=weights + bias + params,
    )


def _arithmetic(traced: Traced, operator: Operator) -> Arithmetic:
    none, layer = np.zeros(len(traced.workload)), multiplied(traced, operator.head)
    matrix = dict.fromkeys(PRECISIONS, none)
    if layer is None:
        return Arithmetic(none, None, matrix, none)
    if traced.device.thin_outside and _thin(traced, operator.head, layer):
        return Arithmetic(layer.macs, layer, matrix, layer.macs)
    units = traced.device.matrix
    matrix |= {name: layer.matrix_macs(units, name) for name in traced.device.rates.macs_per_s}
    return Arithmetic(layer.macs, layer, matrix, none)


def _thin(traced: Traced, index: int, layer: Layer) -> bool:
    """Whether a convolution's groups, as traced, are too thin for a GPU's matrix unit."""
    node = traced.graph.nodes[index]
    if node.weight_shape is not None:
        return node.groups > 1 and node.weight_shape[1] <= MOST_THIN
    return node.convolves and bool(layer.groups[0] > 1) and bool(layer.channels_in[0] <= MOST_THIN)


def _demand(traced: Traced, position: int, arithmetic: Arithmetic) -> Demand:
    operator, n, layer = traced.program.operators[position], len(traced.workload), arithmetic.layer
    node, precision = traced.graph.nodes[operator.head], traced.precision(operator.head)
    gathered, groups = np.zeros((2, n))
    weights = _parameters_read(traced, operator.head, layer)
    if layer is not None:
        gathered = layer.macs / layer.channels_out * (layer.kernel > 1) * (precision > FLOAT)
        groups = layer.groups * traced.workload.batch * (precision == UNPACKED) * (arithmetic.thin > 0)
    beside = traced.program.bystanders[position] * traced.workload.batch * traced.device.float_bits / 8
    traffic, widths = _traffic(traced, operator), traced.device.bytes_per_element
    return Demand(
        matrix=arithmetic.matrix,
        thin=arithmetic.thin,
        traffic=traffic,
        weights=weights * widths[precision],
        float_traffic=traffic + _widened(traced, operator),
        float_weights=weights * widths[FLOAT],
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
    traced: Traced, operator: Operator, layer: Layer | None, norms: list[int], params: np.ndarray
) -> np.ndarray:
    """(n,) parameters of an operator's BatchNorm in the file: folded into its layer they are the layer's bias."""
    if layer is None or not norms:
        return params
    return layer.channels_out * float(not traced.graph.nodes[operator.head].attributes.get("bias"))


def _parameters_read(traced: Traced, index: int, layer: Layer | None) -> np.ndarray:
    """(n,) elements of parameters: a layer's, an LSTM's, a matrix, rows of an embedding."""
    node = traced.graph.nodes[index]
    if layer is not None:
        if node.op == "LSTM":
            return layer.weights / layer.groups
        both = node.kind == "matmul" and sum(traced.graph.fed[i] for i in node.inputs) > 1
        return layer.weights * float(not both)
    gathers = node.op == "Gather" and node.attributes.get("parameters")
    return traced.elements(index) * float(bool(gathers))


def _traffic(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes of activations read and written; a residual that a layer adds may come for free."""
    share = traced.device.residual_share if traced.graph.nodes[operator.head].kind in WEIGHTED else 1.0
    total = traced.elements(operator.output) * traced.width(operator.output)
    for i, node in enumerate(operator.reads):
        total = total + traced.elements(node) * traced.width(node) * (share if i else 1.0)
    return total


def _widened(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes that a layer's input takes more in floats."""
    if traced.graph.nodes[operator.head].kind not in WEIGHTED:
        return np.zeros(len(traced.workload))
    source = operator.reads[0]
    return traced.elements(source) * (traced.device.bytes_per_element[FLOAT] - traced.width(source))


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
    outside = device.rates.spilled(demand.traffic, demand.bystanders) + demand.weights
    moved = outside * device.energy_pj["dram"] + demand.traffic * device.energy_pj["cache"]
    arithmetic = macs * picojoules[demand.precision] + traced.elements(operator.output) * device.energy_pj["vector"]
    return (arithmetic + moved) * 1e-12
