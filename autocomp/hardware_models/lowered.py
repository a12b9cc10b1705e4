"""A network as a device runs it, for given plans: sizes, widths and arithmetic of its tensors and layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Workload

from .gemm import padded
from .operators import Operator, Program
from .rates import FLOAT, INT4, INT8, PRECISIONS

if TYPE_CHECKING:
    from .device_model import Device


@dataclass(frozen=True)
class LoweredNetwork:
    """A network, how a device runs it, and the given plans."""

    device: Device
    program: Program
    workload: Workload

    @property
    def graph(self) -> NetworkGraph:
        return self.program.graph

    @cached_property
    def norm_params_per_channel(self) -> int:
        """BatchNorm has four parameters for each channel, or two where the moving statistics are no parameters."""
        channels = sum(len(node.units) for node in self.graph.nodes if node.kind == "batchnorm")
        return min(4, self.graph.other_params // channels) if channels else 0

    def elements(self, node: int) -> np.ndarray:
        """(n,): elements of the node's output for the whole batch."""
        shape, images = self.graph.nodes[node], self.images(node)
        if not len(shape.units):
            return np.full(len(self.workload), float(shape.elements * images))
        return self.workload.channels_of(node) * (shape.elements / len(shape.units) * images)

    def stored_bytes(self, node: int, width: float | None = None) -> np.ndarray:
        """(n,) bytes in memory, including the empty ends of layout blocks.

        width: bytes of an element; by default the width that the node's readers need.
        """
        widths = self.width(node) if width is None else np.full(len(self.workload), width)
        shape, layout, elements = self.graph.nodes[node].shape, self.device.layout, self.elements(node)
        if node in self.program.images and layout.channels > 1:
            channels = self.workload.channels_of(node) if len(self.graph.nodes[node].units) else np.array(shape[1])
            return elements / np.maximum(channels, 1) * padded(channels * widths, layout.channels)
        if node in self.program.products and shape and layout.columns > 1:
            row = shape[-1] * widths
            return elements / shape[-1] * np.where(row > layout.columns, padded(row, layout.columns), row)
        return elements * widths

    def images(self, node: int) -> int:
        """How often a node's traced shape exists: once for the whole batch where it depends on parameters alone."""
        return self.workload.batch if self.graph.fed[node] else 1

    def asked(self, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: the arithmetic for the layer's format, among those that the device has."""
        weight, activation = self.workload.bits_of(layer)
        found = np.zeros(len(self.workload), np.intp)
        for code, bits in ((INT8, 8), (INT4, 4)):
            if PRECISIONS[code] in self.device.rates.macs_per_s:
                found[(weight <= bits) & (activation <= bits)] = code
        return found

    def _reads_integers(self, layer: int) -> np.ndarray:
        """(n,) bool: whether a layer runs in integers and reads its input as it is."""
        return (self.asked(layer) > FLOAT) & ~self.workload.divided_of(layer)

    def divisions(self, node: int) -> np.ndarray:
        """(n,): products that divide a layer's input by scales; of one that several layers share each has a part."""
        divided = self.workload.divided_of(node)
        if not divided.any():
            return np.zeros(len(self.workload))
        source = self.graph.nodes[node].inputs[0]
        readers = sum(self.graph.nodes[i].kind == "dense" for i in self.graph.consumers[source])
        return divided / max(readers, 1)

    def precision(self, layer: int) -> np.ndarray:
        """(n,) index into PRECISIONS: the arithmetic in which the device's runtime runs a layer."""
        return self.device.runtime.precision(self, layer)

    def width(self, node: int) -> np.ndarray:
        """(n,) bytes of an element of the node's output in memory; those of floats where the network returns it."""
        if node in self.program.kept or not self.program.readers[node]:
            return np.full(len(self.workload), self.device.bytes_per_element[FLOAT])
        return self.device.runtime.width(self, node)

    def quantized(self, node: int) -> np.ndarray:
        """(n,) bool: whether the node's output is kept in integers, where the runtime does so at all."""
        condition = self.program.flow.conditions[node]
        chosen = {layer: self._reads_integers(self.graph.multiplying[layer]) for layer in condition.layers}
        return np.broadcast_to(np.asarray(condition(chosen)), (len(self.workload),))

    def deciding(self, node: int) -> set[int]:
        """The layers whose formats decide whether the node's output is kept in integers."""
        return {self.graph.multiplying[layer] for layer in self.program.flow.conditions[node].layers}

    def is_product(self, node: int) -> bool:
        """Whether the node multiplies two activations."""
        return self.graph.products.get(self.graph.nodes[node].name) == node

    def multiplies(self, node: int) -> bool:
        """Whether the node is a layer or a product of two activations: what a format may run in integers."""
        return self.graph.nodes[node].kind in WEIGHTED or self.is_product(node)

    @property
    def one_integer_width(self) -> bool:
        """Whether neighbours of an operator decide nothing but whether tensors are in integers."""
        return self.device.runtime.quantizes_tensors and PRECISIONS[INT4] not in self.device.rates.macs_per_s

    def knobs(self, operator: Operator) -> tuple[int, ...]:
        """Positions of the knobs that the operator's cost depends on, except for changes of layout by its runtime."""
        touched = (*operator.nodes, *operator.reads, *self.graph.nodes[operator.head].inputs)
        neighbours = {
            self.program.operators[p].head
            for node in (*operator.reads, operator.output)
            for p in self.program.readers[node]
        }
        runtime = self.device.runtime
        integers = runtime.deciding_precision(self, operator)
        sparse = (operator.head,) if self.device.rates.sparse_share else ()
        if self.one_integer_width:
            return self.workload.knobs_of(touched, {operator.head}, {*integers, *neighbours}, sparse)
        return self.workload.knobs_of(touched, {operator.head, *neighbours}, integers, sparse)
