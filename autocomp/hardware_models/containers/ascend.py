"""ONNX for an Ascend: what atc reads, and what its toolkit reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.search_spaces import Node

from . import protobuf
from .base import SCALE, letters_of
from .onnx import NamedContainer


@dataclass(frozen=True)
class AtcContainer(NamedContainer):
    """With AscendQuant and AscendDequant: weights of fewer bits have a byte, too. Fitted to 72 plans of eight small
    networks, largest miss 1.1 %.

    dense: of a dense layer in integers, ``rounded`` of a convolution. turned: as in ``OnnxContainer``.
    """

    dense: int = 0
    turned: int = 0

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        return np.where(bits <= 8, 8, bits)

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        node = lowered.graph.nodes[index]
        bits, activation_bits = lowered.workload.bits_of(index)
        turned = (self.turned + 10 * letters_of(node)) * node.transposed
        only_stored = outputs * SCALE + self.integers + 7 * letters_of(node) + turned
        multiplied = outputs * SCALE + self.dense if node.kind == "dense" else outputs * 2 * SCALE + self.rounded
        able = lowered.device.runtime.multiplies_integers(node)
        whole = (activation_bits <= 8) & able
        return (bits <= 8) * np.where(whole, multiplied + len(node.name), only_stored)


@dataclass(frozen=True)
class QatContainer(NamedContainer):
    """With QuantizeLinear and DequantizeLinear at inputs and weights, and weights in floats. Counted, but for the float
    network, which is that of ``AtcContainer``."""

    def stored_bits(self, bits: np.ndarray) -> np.ndarray:
        return np.full_like(bits, 8 * SCALE)

    def of_layer(self, lowered: LoweredNetwork, index: int, outputs: np.ndarray) -> np.ndarray:
        node = lowered.graph.nodes[index]
        bits, activation_bits = lowered.workload.bits_of(index)
        pairs = self._input(lowered.graph.nodes[node.inputs[0]], node) + self._weight(node)
        multiplied = pairs + (self._outputs(node) + SCALE * outputs if node.kind == "dense" else 5 * outputs)
        whole = (bits <= 8) & (activation_bits <= 8) & lowered.device.runtime.multiplies_integers(node)
        return np.where(whole, multiplied, 0)

    @staticmethod
    def _input(source: Node, node: Node) -> int:
        """The layer reads the name of the rounded tensor."""
        read, name = len(source.name), len(node.name) + len("#rounded")
        scale, zero = name + len(".scale"), name + len(".zero_point")
        stored = protobuf.tensor(scale, 0) + SCALE + protobuf.tensor(zero, 0) + 1
        return protobuf.pair(read, name, scale, zero) + stored + name - read

    @staticmethod
    def _weight(node: Node) -> int:
        """A dense layer has one scale, others one for each output."""
        columns = node.kind != "dense"
        weight, name = letters_of(node), letters_of(node) + len("#rounded")
        scale, zero = name + len(".scale"), name + len(".zero_point")
        stored = protobuf.tensor(scale, columns) + protobuf.tensor(zero, columns) + (not columns) * (SCALE + 1)
        return protobuf.pair(weight, name, scale, zero, protobuf.AXIS * columns) + stored + len("#rounded")

    @staticmethod
    def _outputs(node: Node) -> int:
        """The product that corrects a dense layer's scale; its readers read a longer name."""
        name, factor, scaled = len(node.name), len(node.name) + len(".outputs"), len(node.name) + len("#scaled")
        return protobuf.operator("Mul", (name, factor), scaled) + protobuf.tensor(factor) + len("#scaled")
