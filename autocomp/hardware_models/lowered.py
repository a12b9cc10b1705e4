"""A network as a device runs it, for the plans at hand: sizes, widths and arithmetic of its tensors and layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from autocomp.search_spaces import WEIGHTED, NetworkGraph, Workload

from .gemm import padded
from .operators import MAX_POOLS, Operator, Program
from .rates import FLOAT, INT4, INT8, PRECISIONS, UNPACKED

if TYPE_CHECKING:
    from .device_model import Device

KEEPS_INTEGERS = ("ReLU", "ReLU6")  # activations that rounding to unsigned integers carries out on its way


@dataclass(frozen=True)
class LoweredNetwork:
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

    def stored_bytes(self, node: int, width: float | None = None) -> np.ndarray:
        """(n,) bytes in memory, with the ends of blocks that stay empty.

        width: of an element, as the node's readers ask for it if left out.
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
            if self.graph.nodes[operator.head].op not in MAX_POOLS or not operator.reads:
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
