"""Time, bytes and energy of one operator for many plans at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Node, Workload

from .operators import Operator, Program

if TYPE_CHECKING:
    from .device import Device

FILE_BYTES_PER_NODE = 220  # name, attributes and shape of an operator in a MindIR or ONNX file
FLOAT, INT8, INT4 = range(3)
PRECISIONS = ("float", "int8", "int4")


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

    def precision(self, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: in which arithmetic the device carries a layer out."""
        weight, activation = self.workload.bits_of(layer)
        found = np.zeros(len(self.workload), np.intp)
        for code, bits in ((INT8, 8), (INT4, 4)):
            if PRECISIONS[code] in self.device.macs_per_s:
                found[(weight <= bits) & (activation <= bits)] = code
        return found

    def width(self, node: int) -> np.ndarray:
        """(n,) bytes of an element of the node's output in memory: the widest that any reader asks for."""
        widths = self.device.bytes_per_element
        if node in self.program.kept or not self.program.readers[node]:
            return np.full(len(self.workload), widths[FLOAT])
        widest = np.zeros(len(self.workload))
        for position in self.program.readers[node]:
            operator = self.program.operators[position]
            if self.graph.nodes[operator.head].kind in WEIGHTED and operator.reads[0] == node not in operator.reads[1:]:
                widest = np.maximum(widest, widths[self.precision(operator.head)])
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
        return self.workload.knobs_of(touched, {operator.head, *neighbours})


@dataclass(frozen=True)
class Layer:
    """Sizes of a conv or dense layer under the plans at hand, each (n,)."""

    rows: np.ndarray  # output positions of the whole batch
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

    def padded_macs(self, tile: tuple[int, int, int], pack: int) -> np.ndarray:
        """What the matrix unit computes: rows, channels out and in filled up to its tile.

        pack: groups too thin for it run side by side as one matrix with zeros in it, until ``pack`` channels are full.
        """
        rows, columns, depth = tile
        together = np.clip(pack // np.maximum(self.channels_in, 1), 1, self.groups)
        matrices = np.ceil(self.groups / together)
        width = padded(np.ceil(self.channels_out / self.groups) * together, columns)
        return padded(self.rows, rows) * matrices * width * padded(self.channels_in * together, depth) * self.kernel


def layer_of(traced: Traced, index: int) -> Layer:
    graph, workload = traced.graph, traced.workload
    node = graph.nodes[index]
    assert node.weight_shape is not None
    out, inner, *kernel = node.weight_shape
    channels_out = _kept(traced, index, out)
    source = _kept(traced, node.inputs[0], inner * node.groups)
    rows = np.full(len(workload), node.elements / out * workload.batch)
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

    compute_s: np.ndarray
    memory_s: np.ndarray
    bytes: np.ndarray
    weight_bytes: np.ndarray
    file_bytes: np.ndarray
    energy_j: np.ndarray
    macs: np.ndarray
    params: np.ndarray

    def latency_s(self, device: Device) -> np.ndarray:
        return np.maximum(self.compute_s, self.memory_s) + device.operator_s


def work(traced: Traced, operator: Operator) -> Work:
    node = traced.graph.nodes[operator.head]
    layer = layer_of(traced, operator.head) if node.kind in WEIGHTED and node.weight_shape else None
    norms = [i for i in operator.nodes if traced.graph.nodes[i].kind == "batchnorm"]
    scale = traced.norm_params_per_channel
    params = sum((traced.workload.channels_of(i) * float(scale) for i in norms), np.zeros(len(traced.workload)))
    if layer is None:
        return _elementwise_work(traced, operator, params)
    return _layer_work(traced, operator, layer, params)


def _traffic(traced: Traced, operator: Operator) -> np.ndarray:
    """(n,) bytes of activations read and written."""
    return sum(
        (traced.elements(node) * traced.width(node) for node in (*operator.reads, operator.output)),
        np.zeros(len(traced.workload)),
    )


def _layer_work(traced: Traced, operator: Operator, layer: Layer, norm_params: np.ndarray) -> Work:
    device, node = traced.device, traced.graph.nodes[operator.head]
    first = node.layer is None or traced.graph.layers.get(node.layer) == operator.head
    precision = traced.precision(operator.head)
    weight_bits, _ = traced.workload.bits_of(operator.head)
    compute = layer.padded_macs(device.tile["float"], device.pack) / device.macs_per_s["float"]
    for code in (INT8, INT4):
        name = PRECISIONS[code]
        if name in device.macs_per_s:
            quick = layer.padded_macs(device.tile[name], device.pack) / device.macs_per_s[name]
            compute = np.where(precision >= code, np.minimum(compute, quick), compute)
    weight_bytes = layer.weights * device.bytes_per_element[precision]
    activations = _traffic(traced, operator)
    bias = layer.channels_out * float(bool(node.attributes.get("bias")))
    picojoules = np.array([device.energy_pj["mac"].get(name, 0.0) for name in PRECISIONS])
    stored = np.where(weight_bits <= 4, 0.5, np.where(weight_bits <= 8, 1.0, 4.0))
    scales = np.where(weight_bits <= 8, layer.channels_out * 4, 0)
    return Work(
        compute_s=compute,
        memory_s=device.memory_s(weight_bytes, activations),
        bytes=weight_bytes + activations,
        weight_bytes=(weight_bytes + bias * 4 + norm_params * 4) * first,
        file_bytes=(layer.weights * stored + scales + bias * 4 + norm_params * 4) * first,
        energy_j=(layer.macs * picojoules[precision] + device.memory_pj(weight_bytes, activations)) * 1e-12,
        macs=layer.macs,
        params=(layer.weights + bias + norm_params) * first,
    )


def _matmul_shape(graph: NetworkGraph, node: Node) -> tuple[int, int]:
    """(macs of one image, depth) of a product of two activations."""
    depth = graph.nodes[node.inputs[0]].shape[-1] if node.inputs else 1
    return node.elements * depth, depth


def _elementwise_work(traced: Traced, operator: Operator, norm_params: np.ndarray) -> Work:
    device, node = traced.device, traced.graph.nodes[operator.head]
    n = len(traced.workload)
    macs = np.zeros(n)
    compute = np.zeros(n)
    if node.kind == "matmul" and node.inputs:
        per_image, depth = _matmul_shape(traced.graph, node)
        macs += per_image * traced.workload.batch
        waste = padded(np.array(depth), device.tile["float"][2]) / depth
        compute = macs * float(waste) / device.macs_per_s["float"]
    activations = _traffic(traced, operator)
    arithmetic = macs * device.energy_pj["mac"]["float"] + traced.elements(operator.output) * device.energy_pj["vector"]
    return Work(
        compute_s=compute,
        memory_s=device.memory_s(np.zeros(n), activations),
        bytes=activations,
        weight_bytes=norm_params * 4,
        file_bytes=norm_params * 4,
        energy_j=(arithmetic + device.memory_pj(np.zeros(n), activations)) * 1e-12,
        macs=macs,
        params=norm_params,
    )
