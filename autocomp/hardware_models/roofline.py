"""Work, bytes and energy of one operator for many plans at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autocomp.search_spaces import WEIGHTED, Node

from .gemm import Gemm, gemm_of, multiplied
from .layouts import contiguous, whole_blocks
from .lowered import LoweredNetwork
from .operators import Operator
from .rates import FLOAT, INT8, PRECISIONS, Demand
from .runtimes.base import MOST_GROUPED
from .tables_of_rows import in_integers, saved_by_table

TRANSCENDENTAL = dict.fromkeys(  # transcendental functions for each element of the output
    ("SiLU", "Sigmoid", "Tanh", "GeLU", "GeluExt", "Exp", "Log", "Erf", "HSwish", "HSigmoid", "Mish", "Softplus"), 1
) | {"LSTM": 5}
SOFTMAX_LAYERNORM = ("softmax", "layernorm")


@dataclass(frozen=True)
class Work:
    """The costs of an operator, each (n,)."""

    demand: Demand
    file_bytes: np.ndarray
    memory_bytes: np.ndarray
    energy_j: np.ndarray
    macs: np.ndarray
    params: np.ndarray
    bops: np.ndarray
    weight_bytes: np.ndarray


@dataclass(frozen=True)
class Arithmetic:
    """Multiply-accumulates of an operator, each (n,); those of the matrix unit by precision, including padding.

    layer: the matrix product, None where there is none.
    """

    macs: np.ndarray
    layer: Gemm | None
    matrix: dict[str, np.ndarray]
    grouped: np.ndarray


def work(lowered: LoweredNetwork, position: int) -> Work:
    """The work of the operator at a position of the program."""
    operator = lowered.program.operators[position]
    node = lowered.graph.nodes[operator.head]
    n = len(lowered.workload)
    norms = [i for i in operator.nodes if lowered.graph.nodes[i].kind == "batchnorm"]
    params = sum((lowered.workload.channels_of(i) * float(lowered.norm_params_per_channel) for i in norms), np.zeros(n))
    layer = gemm_of(lowered, operator.head) if node.kind in WEIGHTED and node.weight_shape else None
    weights, held, stored, bias = np.zeros((4, n))
    first = node.layer is None or lowered.graph.layers.get(node.layer, operator.head) == operator.head
    if layer is not None and first:
        weights = layer.weights
        held = lowered.device.runtime.arranged(lowered, operator.head, layer).weights
        stored, bias = _stored(lowered, operator.head, layer)
    stored = stored + lowered.device.container.of_tensors(lowered, operator)
    arithmetic = _arithmetic(lowered, operator)
    demand = _demand(lowered, position, arithmetic)
    saved = saved_by_table(lowered, operator.head)
    resident = lowered.device.runtime.weight_bytes(lowered, operator.head)
    bits, activation_bits = lowered.workload.bits_of(operator.head)
    return Work(
        demand=demand,
        file_bytes=stored - saved.file + (bias + _folded(lowered, operator, layer, norms, params)) * 4,
        memory_bytes=held * resident - saved.memory + (bias + params) * 4,
        energy_j=_energy(lowered, operator, demand, arithmetic.macs),
        macs=arithmetic.macs,
        params=weights + bias + params,
        bops=arithmetic.macs * bits * activation_bits,
        weight_bytes=weights * bits / 8 - saved.weights,
    )


def _arithmetic(lowered: LoweredNetwork, operator: Operator) -> Arithmetic:
    none, own = np.zeros(len(lowered.workload)), multiplied(lowered, operator.head)
    matrix = dict.fromkeys(PRECISIONS, none)
    if own is None:
        return Arithmetic(none, None, matrix, none)
    layer = lowered.device.runtime.arranged(lowered, operator.head, own)
    if lowered.device.grouped_outside and _grouped(lowered, operator.head, layer):
        return Arithmetic(own.macs, layer, matrix, layer.macs)
    units = lowered.device.matrix
    matrix |= {name: layer.matrix_macs(units, name) for name in lowered.device.rates.macs_per_s}
    return Arithmetic(own.macs, layer, matrix | _of_product(lowered, operator.head, matrix), none)


def _of_product(lowered: LoweredNetwork, index: int, matrix: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Multiply-accumulates of a product of two activations, where its runtime takes another time for it in integers
    than for a layer: so many that they take that time, in whatever precision."""
    share, rates = lowered.device.runtime.product_share, lowered.device.rates.macs_per_s
    if share is None or "int8" not in rates or not lowered.is_product(index):
        return {}
    floats = matrix["float"] * np.where(lowered.precision(index) == INT8, share, 1.0)
    return {"float": floats, "int8": floats * (rates["int8"] / rates["float"])}


def _grouped(lowered: LoweredNetwork, index: int, layer: Gemm) -> bool:
    """Whether a convolution's groups, as traced, are too narrow for the matrix unit."""
    node = lowered.graph.nodes[index]
    if node.weight_shape is not None:
        return node.groups > 1 and node.weight_shape[1] <= lowered.device.runtime.most_grouped
    return node.convolves and bool(layer.groups[0] > 1) and bool(layer.channels_in[0] <= MOST_GROUPED)


def _demand(lowered: LoweredNetwork, position: int, arithmetic: Arithmetic) -> Demand:
    operator, n, layer = lowered.program.operators[position], len(lowered.workload), arithmetic.layer
    node, precision = lowered.graph.nodes[operator.head], lowered.precision(operator.head)
    grouped, runtime = arithmetic.grouped, lowered.device.runtime
    floats = float(lowered.device.bytes_per_element[FLOAT])
    weights = _parameters_read(lowered, operator.head, layer)
    if layer is not None:
        grouped = grouped * runtime.grouped_macs(lowered, layer, precision)
    others = lowered.program.other_live_activations[position] * lowered.workload.batch * lowered.device.float_bits / 8
    widths, before = lowered.device.bytes_per_element, lowered.divisions(operator.head)
    divided = before * lowered.elements(operator.reads[0]) if operator.reads else 0.0 * before
    traffic = _traffic(lowered, position) + 2 * floats * divided + _packed_operands(lowered, operator)
    windows, traffic_each = _window_elements(lowered, operator), _bytes_read(lowered, operator.head)
    return Demand(
        matrix=arithmetic.matrix,
        grouped=grouped,
        traffic=traffic,
        weights=weights * traffic_each,
        float_traffic=traffic + _widened(lowered, operator),
        float_weights=weights * np.where(runtime.reads_stored(lowered, operator.head), traffic_each, widths[FLOAT]),
        other_live_activations=np.full(n, others),
        vector=_vector(lowered, operator) + divided,
        transcendental=sum(
            (lowered.elements(i) * TRANSCENDENTAL.get(lowered.graph.nodes[i].op, 0) for i in operator.nodes),
            np.zeros(n),
        ),
        softmax_layernorm=lowered.stored_bytes(operator.head, floats) / floats * float(node.kind in SOFTMAX_LAYERNORM),
        transposed=_transposed(lowered, operator.head),
        in_place=np.full(n, _in_place(lowered, operator.head)),
        misaligned=_misaligned(lowered, operator.head, layer),
        precision=precision,
        windowed=np.full(n, layer is not None and layer.kernel > 1),
        idle=_idle(lowered, operator.head, layer),
        sparse=lowered.workload.sparse_of(operator.head),
        before=before + lowered.device.runtime.operators_beside(lowered, operator.head, before),
        runtime=runtime.work(lowered, position, layer, grouped, weights, windows),
    )


def _stored(lowered: LoweredNetwork, index: int, layer: Gemm) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of a layer's weights in the file, and its number of biases.

    Integer weights include a scale for each channel and the operators that convert them to numbers.
    """
    container, (bits, _) = lowered.device.container, lowered.workload.bits_of(index)
    bias = layer.channels_out * float(bool(lowered.graph.nodes[index].bias))
    stored = layer.weights * container.stored_bits(bits) / 8
    stored = stored + container.of_division(lowered, index)
    return stored + container.of_layer(lowered, index, layer.channels_out), bias


def _folded(
    lowered: LoweredNetwork, operator: Operator, layer: Gemm | None, norms: list[int], params: np.ndarray
) -> np.ndarray:
    """(n,) parameters of an operator's BatchNorm in the file: folded into its layer they are the layer's bias."""
    if layer is None or not norms:
        return params
    return layer.channels_out * float(not lowered.graph.nodes[operator.head].bias)


def _parameters_read(lowered: LoweredNetwork, index: int, layer: Gemm | None) -> np.ndarray:
    """(n,) elements of parameters that are read: a layer's, an LSTM's, a matrix, rows of an embedding."""
    node = lowered.graph.nodes[index]
    if layer is not None:
        if node.op == "LSTM":
            return layer.weights / layer.groups
        both = node.kind == "matmul" and sum(lowered.graph.fed[i] for i in node.inputs) > 1
        return layer.weights * float(not both)
    gathers = node.op == "Gather" and node.attributes.parameters
    return lowered.elements(index) * float(bool(gathers) or node.attributes.table is not None)


def _bytes_read(lowered: LoweredNetwork, index: int) -> np.ndarray:
    """(n,) bytes whose reading takes as long as that of an element of a layer's weight, or of a row."""
    found = lowered.device.runtime.weight_traffic(lowered, index)
    if lowered.graph.nodes[index].attributes.table is None:
        return found
    bits, _ = lowered.workload.bits_of(index)
    return np.where(in_integers(lowered, index), bits / 8, found)


def _traffic(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n,) bytes of activations that are read and written; a residual that a layer adds may cost nothing."""
    operator = lowered.program.operators[position]
    share = lowered.device.residual_share if lowered.graph.nodes[operator.head].kind in WEIGHTED else 1.0
    total = lowered.stored_bytes(operator.output) + _converted(lowered, position)
    for i, node in enumerate(operator.reads):
        total = total + lowered.stored_bytes(node) * (share if i else 1.0)
    return total


def _packed_operands(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) more bytes of a product's operands in integers, where its kernel gains nothing from them: as in floats."""
    if lowered.device.runtime.product_share is None or not lowered.is_product(operator.head):
        return np.zeros(len(lowered.workload))
    floats = float(lowered.device.bytes_per_element[FLOAT])
    both = (lowered.stored_bytes(node, floats) - lowered.stored_bytes(node) for node in operator.reads[:2])
    return sum(both, np.zeros(len(lowered.workload)))


def _misaligned(lowered: LoweredNetwork, index: int, layer: Gemm | None) -> np.ndarray:
    """(n,): how many times as long a layer takes because of the numbers of its channels. Colours of an image and
    narrow groups have kernels of their own."""
    node, factor = lowered.graph.nodes[index], np.ones(len(lowered.workload))
    if layer is None or node.kind not in WEIGHTED or node.groups > 1:
        return factor
    first = bool(node.inputs) and lowered.graph.nodes[node.inputs[0]].kind == "input"
    for count, one, several in lowered.device.matrix.alignments:
        sides = (layer.channels_out % count > 0) * 1.0 + (layer.channels_in % count > 0) * (not first)
        factor = factor + sides * (several if layer.kernel > 1 else one)
    return factor


def _in_place(lowered: LoweredNetwork, index: int) -> bool:
    """Whether an operator only joins tensors that lie one after the other in memory."""
    if lowered.graph.nodes[index].kind != "concat" or not lowered.device.concat_in_place:
        return False
    graph = lowered.graph
    joined = (graph.nodes[i] for source in set(graph.nodes[index].inputs) for i in graph.consumers[source])
    alone = sum(node.kind == "concat" for node in joined) == len(set(graph.nodes[index].inputs))
    return alone and (not lays_out(lowered) or whole_blocks(graph, index))


def lays_out(lowered: LoweredNetwork) -> bool:
    """Whether images have a layout of their own on the device."""
    return lowered.device.layout.channels > 1


def _converted(lowered: LoweredNetwork, position: int) -> np.ndarray:
    """(n,) bytes that are read and written to bring tensors into the layout in which the operator reads them."""
    none = np.zeros(len(lowered.workload))
    if not lays_out(lowered):
        return none
    found = sum((2 * lowered.stored_bytes(node) for node in lowered.program.converted[position]), none)
    nodes, padding = _matrices_apart(lowered, lowered.program.operators[position])
    return sum((padding * lowered.stored_bytes(node) for node in nodes), found)


def _matrices_apart(lowered: LoweredNetwork, operator: Operator) -> tuple[tuple[int, ...], float]:
    """What a matrix product reads and writes where the rows of an image, or the channels of a group, fill no whole
    tiles: it is brought into the unit's layout or back. And by how much the tiles are larger."""
    node, tile = lowered.graph.nodes[operator.head], lowered.device.matrix.tile["float"][0]
    if node.kind in ("dense", "matmul"):
        size = node.positions if node.kind == "dense" else node.shape[-2]
    elif node.kind == "conv" and node.groups > 1 and node.weight_shape and tile % node.weight_shape[1]:
        size = node.weight_shape[1]
    else:
        return (), 1.0
    if size == 1 or size % tile == 0:
        return (), 1.0
    return (*operator.reads[:1], operator.output), -(-size // tile) * tile / size


def _transposed(lowered: LoweredNetwork, index: int) -> np.ndarray:
    """(n,) bytes of a transpose that moves less than whole layout blocks at once."""
    node, block = lowered.graph.nodes[index], lowered.device.layout.channels
    if node.kind != "transpose" or block == 1:
        return np.zeros(len(lowered.workload))
    width = float(lowered.device.bytes_per_element[FLOAT])
    row = contiguous(node, lowered.graph.nodes[node.inputs[0]]) * width
    return 2 * lowered.stored_bytes(index) * float(row % block > 0)


def _idle(lowered: LoweredNetwork, index: int, layer: Gemm | None) -> np.ndarray:
    """(n,): the time of a product of activations or a softmax, relative to the time on all cores.

    Its matrices are distributed whole over the cores, or each over several cores where there are more cores than
    matrices.
    """
    node, ones, cores = lowered.graph.nodes[index], np.ones(len(lowered.workload)), lowered.device.matrix.cores
    spread = index in lowered.program.products and node.kind in ("matmul", "softmax") and len(node.shape) > 2
    if lowered.device.matrix.blocks or not spread:
        return ones
    matrices = layer.groups if layer is not None else lowered.elements(index) / math.prod(node.shape[-2:])
    several = np.ceil(matrices / cores) * cores / matrices
    return np.where(matrices >= cores, several, cores / (matrices * np.maximum(cores // matrices, 1)))


def _widened(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) more bytes of a layer's input in floats."""
    if lowered.graph.nodes[operator.head].kind not in WEIGHTED:
        return np.zeros(len(lowered.workload))
    source, floats = operator.reads[0], float(lowered.device.bytes_per_element[FLOAT])
    return lowered.stored_bytes(source, floats) - lowered.stored_bytes(source)


def _vector(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elementwise operations of an operator that is no layer."""
    node = lowered.graph.nodes[operator.head]
    if node.kind == "pool":
        return lowered.device.runtime.pool_operations(lowered, operator, _window_elements(lowered, operator))
    if node.kind == "mean" and operator.reads:
        return lowered.elements(operator.reads[0])
    free = (*WEIGHTED, *SOFTMAX_LAYERNORM, "matmul", "transpose", "slice", "pad")
    if node.attributes.table is not None:  # rows in integers are converted and multiplied by their scales
        return lowered.elements(operator.output) * 2.0 * in_integers(lowered, operator.head)
    return lowered.elements(operator.output) * (0.0 if node.kind in free else 1.0)


def _window_elements(lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
    """(n,) elements of all windows of a pool."""
    node = lowered.graph.nodes[operator.head]
    return lowered.elements(operator.head) * (window(node) if node.kind == "pool" else 0)


def window(node: Node) -> int:
    """Positions that a pool reads for one of its outputs."""
    size = node.attributes.operator.get("kernel_size")
    if size is None:
        size = next((c for c in node.attributes.constants if isinstance(c, tuple)), (1,))
    return math.prod(int(n) for n in size) if isinstance(size, (tuple, list)) else int(size) ** 2


def _energy(lowered: LoweredNetwork, operator: Operator, demand: Demand, macs: np.ndarray) -> np.ndarray:
    device = lowered.device
    picojoules = np.array([device.energy_pj["mac"].get(name, device.energy_pj["mac"]["float"]) for name in PRECISIONS])
    outside = device.rates.spilled(demand.traffic, demand.other_live_activations) + demand.weights
    moved = outside * device.energy_pj["dram"] + demand.traffic * device.energy_pj["cache"]
    arithmetic = macs * picojoules[demand.precision] + lowered.elements(operator.output) * device.energy_pj["vector"]
    return (arithmetic + moved) * 1e-12
