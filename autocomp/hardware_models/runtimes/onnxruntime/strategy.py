"""The strategy of onnxruntime: combines its modules behind the interface of ``Runtime``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autocomp.hardware_models.gemm import Gemm
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import Operator
from autocomp.hardware_models.rates import INT8, RuntimeWork
from autocomp.hardware_models.runtimes.base import Buffers, Runtime

from . import integers
from .blocks import block_knobs, pooled_in_blocks, pooled_in_integers
from .buffers import OnnxruntimeBuffers
from .extra_work import OnnxruntimeRates, extra_work
from .kernels import one_by_one


@dataclass(frozen=True)
class Onnxruntime(Runtime):
    """onnxruntime's processor backend."""

    def precision(self, lowered: LoweredNetwork, layer: int) -> np.ndarray:
        return integers.precision(lowered, layer)

    def measured_precision(self, lowered: LoweredNetwork, operator: Operator) -> np.ndarray:
        """Max pools of integers without a fast kernel are only compared with each other."""
        precision = lowered.precision(operator.head)
        if lowered.graph.nodes[operator.head].kind != "pool":
            return precision
        return np.where(pooled_in_integers(lowered, operator), INT8, precision)

    def width(self, lowered: LoweredNetwork, node: int) -> np.ndarray:
        return integers.width(lowered, node)

    def deciding_width(self, lowered: LoweredNetwork, node: int) -> set[int]:
        return integers.deciding(lowered, node)

    def deciding_precision(self, lowered: LoweredNetwork, operator: Operator) -> set[int]:
        return integers.deciding_precision(lowered, operator)

    def layout_knobs(self, lowered: LoweredNetwork, operator: Operator) -> tuple[int, ...]:
        return block_knobs(lowered, operator)

    def grouped_macs(self, lowered: LoweredNetwork, layer: Gemm, precision: np.ndarray) -> np.ndarray | float:
        return one_by_one(layer, precision, lowered.device.matrix.grouped_block)

    def pool_operations(self, lowered: LoweredNetwork, operator: Operator, windows: np.ndarray) -> np.ndarray:
        """Where channels are in layout blocks, each window is one operation."""
        plain = np.where(pooled_in_blocks(lowered, operator), lowered.elements(operator.head), windows)
        return np.where(pooled_in_integers(lowered, operator), 0.0, plain)

    def work(
        self,
        lowered: LoweredNetwork,
        position: int,
        layer: Gemm | None,
        grouped: np.ndarray,
        parameters: np.ndarray,
        windows: np.ndarray,
    ) -> RuntimeWork:
        return extra_work(lowered, position, layer, grouped, parameters, windows)

    def buffers(self, lowered: LoweredNetwork) -> Buffers:
        return OnnxruntimeBuffers.of(lowered)


ONNXRUNTIME = Onnxruntime("onnxruntime", most_grouped=1, quantizes_tensors=True, rates=OnnxruntimeRates)
