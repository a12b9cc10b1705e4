"""The strategy of onnxruntime: combines its modules behind the interface of ``Runtime``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import FLOAT, INT8, RuntimeWork
from autocomp.hardware_models.runtimes.base import Buffers, Runtime
from autocomp.search_spaces import BLOCK, packs

from . import groups, integers
from .blocks import block_knobs
from .buffers import OnnxruntimeBuffers
from .extra_work import AFTER_ROWS, BEFORE_ROWS, OnnxruntimeRates, extra_work
from .kernels import one_by_one

PACKED_SHARE = 0.75  # of the time of a dense layer of one row: MatMulNBits against Gemm, 256 to 4096 inputs and outputs
PRODUCT_SHARE = 1.1  # of the time in floats: it packs the second operand each time; 49 to 512 tokens, 32 or 64 wide
SCALE_BYTES = 4


@dataclass(frozen=True)
class Onnxruntime(Runtime):
    """onnxruntime's processor backend."""

    def precision(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        return integers.precision(lowered, layer)

    def measured_precision(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        """Products of two activations are measured in floats alone, and compared with these."""
        found = super().measured_precision(lowered, operator)
        return np.full_like(found, FLOAT) if lowered.is_product(operator.head) else found

    def width(self, lowered: LoweredNetwork, node: int) -> np.ndarray:
        """The network's inputs are floats, which the caller owns."""
        widths = lowered.device.bytes_per_element
        if node not in lowered.program.writer:
            return np.full(len(lowered.workload), widths[FLOAT])
        return np.where(integers.stored_in_integers(lowered, node), widths[INT8], widths[FLOAT])

    def deciding_width(self, lowered: LoweredNetwork, node: int) -> set[int]:
        return integers.deciding_storage(lowered, node)

    def deciding_precision(self, lowered: LoweredNetwork, operator: Operator) -> set[int]:
        found = super().deciding_precision(lowered, operator) | integers.deciding_integers(lowered, operator)
        nodes = (*operator.reads, operator.output)
        return found.union(*(integers.deciding_storage(lowered, node) for node in nodes))

    def layout_knobs(self, lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
        return block_knobs(lowered, operator)

    def grouped_macs(self, lowered: LoweredNetwork, layer: Gemm, precision: np.ndarray) -> np.ndarray | float:
        return one_by_one(layer, precision, lowered.device.matrix.grouped_block)

    def arranged(self, lowered: LoweredNetwork, index: int, layer: Gemm) -> Gemm:
        return groups.arranged(lowered, index, layer)

    def operators_beside(self, lowered: LoweredNetwork, layer: int, divisions: np.ndarray) -> np.ndarray:
        of_rows = (BEFORE_ROWS * divisions + AFTER_ROWS) * lowered.workload.by_row_of(layer)
        return of_rows + groups.operators_beside(lowered, layer)

    def pool_operations(self, lowered: LoweredNetwork, operator: Operator, windows: np.ndarray) -> np.ndarray:
        """In layout blocks, and with the channels last, each window is one operation."""
        return lowered.elements(operator.head) + 0.0 * windows

    def work(
        self,
        lowered: LoweredNetwork,
        position: int,
        layer: Gemm | None,
        grouped: np.ndarray,
        parameters: np.ndarray,
        windows: np.ndarray,
    ) -> RuntimeWork:
        return extra_work(lowered, position, layer, grouped)

    def reads_stored(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """MatMulNBits, in a dense layer of one row: with several it is no faster than floats."""
        bits, activation_bits = lowered.workload.bits_of(layer)
        one_row = packs(lowered.graph, layer) and lowered.images(layer) == 1
        return np.isin(bits, lowered.device.weight_only) & (activation_bits > 8) & one_row

    def weight_bytes(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """With a scale for each part of a row."""
        stored, widths = self.reads_stored(lowered, layer), super().weight_bytes(lowered, layer)
        group = lowered.workload.group_of(layer)
        return np.where(stored, widths + SCALE_BYTES / np.where(group > 0, group, BLOCK), widths)

    def weight_traffic(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        """Its kernel is bound by unpacking."""
        floats = lowered.device.bytes_per_element[FLOAT]
        return np.where(self.reads_stored(lowered, layer), PACKED_SHARE * floats, super().weight_bytes(lowered, layer))

    def buffers(self, lowered: LoweredNetwork) -> Buffers:
        return OnnxruntimeBuffers.of(lowered)


ONNXRUNTIME = Onnxruntime(
    "onnxruntime",
    most_grouped=1,
    quantizes_tensors=True,
    ranges_of_rows=True,
    recognises=False,
    product_share=PRODUCT_SHARE,
    rates=OnnxruntimeRates,
)
