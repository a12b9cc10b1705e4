"""Work, bytes and energy of one operator for many plans at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.runtimes.blocks import pooled_in_blocks, pooled_in_integers, reordered
from autocomp.hardware_models.runtimes.kernels import beside, one_by_one
from autocomp.search_spaces import WEIGHTED, Node

from .gemm import Layer, layer_of, multiplied
from .lowered import Traced
from .operators import Operator
from .rates import FLOAT, PRECISIONS, UNPACKED, Demand


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
MOST_THIN = 4  # channels of a group that a GPU convolves outside its matrix unit


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
    """Whether a convolution's groups, as traced, are too thin for the matrix unit; onnxruntime has kernels of their own
    for those of one channel alone."""
    node = traced.graph.nodes[index]
    if node.weight_shape is not None:
        return node.groups > 1 and node.weight_shape[1] <= (1 if traced.device.integer_chain else MOST_THIN)
    return node.convolves and bool(layer.groups[0] > 1) and bool(layer.channels_in[0] <= MOST_THIN)


def _demand(traced: Traced, position: int, arithmetic: Arithmetic) -> Demand:
    operator, n, layer = traced.program.operators[position], len(traced.workload), arithmetic.layer
    node, precision = traced.graph.nodes[operator.head], traced.precision(operator.head)
    thin = arithmetic.thin
    floats = float(traced.device.bytes_per_element[FLOAT])
    weights = _parameters_read(traced, operator.head, layer)
    if layer is not None:
        thin = thin * one_by_one(layer, precision, traced.device.matrix.thin_block)
    others = traced.program.bystanders[position] * traced.workload.batch * traced.device.float_bits / 8
    traffic, widths = _traffic(traced, operator), traced.device.bytes_per_element
    bits, _ = traced.workload.bits_of(operator.head)
    return Demand(
        matrix=arithmetic.matrix,
        thin=thin,
        traffic=traffic,
        weights=weights * widths[precision],
        float_traffic=traffic + _widened(traced, operator),
        float_weights=weights * widths[FLOAT],
        bystanders=np.full(n, others),
        vector=_vector(traced, operator),
        soft=sum((traced.elements(i) * SOFT.get(traced.graph.nodes[i].op, 0) for i in operator.nodes), np.zeros(n)),
        reduced=traced.stored_bytes(operator.head, floats) / floats * float(node.kind in REDUCED),
        in_place=np.full(n, node.kind == "concat" and traced.device.concat_in_place),
        precision=precision,
        unpacked=weights * (precision == UNPACKED) * (bits > 4),
        unpacked4=weights * (precision == UNPACKED) * (bits <= 4),
        reordered=reordered(traced, position),
        pooled=_window_elements(traced, operator) * pooled_in_integers(traced, operator),
        rounded=traced.rounded(operator),
        activated=_activated(traced, operator, precision),
        windowed=np.full(n, layer is not None and layer.kernel > 1),
        idle=_idle(traced, operator.head, layer),
        **beside(node, layer, precision, thin),
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
    total = traced.stored_bytes(operator.output)
    for i, node in enumerate(operator.reads):
        total = total + traced.stored_bytes(node) * (share if i else _touched(traced, operator))
    return total


def _touched(traced: Traced, operator: Operator) -> float:
    """Of an image's rows those that a kernel smaller than its stride looks at."""
    node = traced.graph.nodes[operator.head]
    source = traced.graph.nodes[operator.reads[0]].shape
    if node.kind != "conv" or node.weight_shape is None or len(source) != 4:
        return 1.0
    return min(1.0, node.shape[2] * node.weight_shape[2] / source[2])


def _idle(traced: Traced, index: int, layer: Layer | None) -> np.ndarray:
    """(n,) how many times as long as on all cores a product of activations or a softmax takes: its matrices are spread
    over them whole, or each over as many cores as there are for it."""
    node, ones, cores = traced.graph.nodes[index], np.ones(len(traced.workload)), traced.device.matrix.cores
    spread = index in traced.program.products and node.kind in ("matmul", "softmax") and len(node.shape) > 2
    if traced.device.matrix.blocks or not spread:
        return ones
    matrices = layer.groups if layer is not None else traced.elements(index) / math.prod(node.shape[-2:])
    several = np.ceil(matrices / cores) * cores / matrices
    return np.where(matrices >= cores, several, cores / (matrices * np.maximum(cores // matrices, 1)))


def _widened(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes that a layer's input takes more in floats."""
    if traced.graph.nodes[operator.head].kind not in WEIGHTED:
        return np.zeros(len(traced.workload))
    source, floats = operator.reads[0], float(traced.device.bytes_per_element[FLOAT])
    return (traced.stored_bytes(source, floats) - traced.stored_bytes(source)) * _touched(traced, operator)


def _vector(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) elementwise operations of what is no layer."""
    node = traced.graph.nodes[operator.head]
    if node.kind == "pool":
        return _pooled(traced, operator)
    if node.kind == "mean" and operator.reads:
        return traced.elements(operator.reads[0])
    free = (*WEIGHTED, *REDUCED, "matmul", "transpose", "slice", "pad")
    return traced.elements(operator.output) * (0.0 if node.kind in free else 1.0)


def _pooled(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) operations of a pool's windows; where channels lie in blocks each is one."""
    whole = _window_elements(traced, operator)
    if not traced.device.integer_chain:
        return whole
    plain = np.where(pooled_in_blocks(traced, operator), traced.elements(operator.head), whole)
    return np.where(pooled_in_integers(traced, operator), 0.0, plain)


def _window_elements(traced: Traced, operator: Operator) -> np.ndarray:
    node = traced.graph.nodes[operator.head]
    return traced.elements(operator.head) * (window(node) if node.kind == "pool" else 0)


def _activated(traced: Traced, operator: Operator, precision: np.ndarray) -> np.ndarray:
    """(n,) elements that fused activations go over behind a layer in floats; rounding to integers clips on its way."""
    free, nodes = traced.device.free_activations, (traced.graph.nodes[i] for i in operator.nodes[1:])
    passes = 0 if free is None else sum(node.kind == "activation" and node.op not in free for node in nodes)
    return traced.elements(operator.output) * passes * (precision == FLOAT)


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
