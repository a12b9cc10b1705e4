"""Dense layers in the operators in integers that MindSpore has for an Ascend; there is no kernel of them for a CPU.

    q = round(x / scale) + offset, in int8        y = (q @ W + b) * steps, where b also takes the offset away

(mindspore.ops.auto_generate: QuantV2, QuantBatchMatmul.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import rename_parameters, replace_cells

from .layers import QuantizedDense, RoundedInput, RoundedLayer, StandIn, ms, parameter

from mindspore import ops  # isort: skip
from mindspore.ops.auto_generate import QuantBatchMatmul, QuantV2  # isort: skip

HALF = 128


class IntegerDense(StandIn):
    """A dense layer in integers; x: (..., in). simulated: the same numbers in operators that a CPU has."""

    def __init__(self, rounding: RoundedInput, layer: QuantizedDense, simulated: bool) -> None:
        super().__init__()
        self.layer, self.simulated = layer, simulated
        self.inputs, self.outputs, self.activation = layer.in_channels, layer.out_channels, layer.activation
        levels = layer.weight._levels().asnumpy().reshape(self.outputs, self.inputs)
        scale, low = float(rounding.scale.asnumpy()), float(rounding.low.asnumpy())
        bits = round(np.log2(float(rounding.high.asnumpy()) - low + 1))
        offset = -low - 2 ** (bits - 1)
        steps = (scale * layer.weight.scale.asnumpy().reshape(-1)).astype(np.float32)
        bias = np.zeros(self.outputs) if not layer.has_bias else layer.bias.asnumpy() / steps.astype(np.float64)
        self.low, self.high = float(low) * scale, float(rounding.high.asnumpy()) * scale
        self.integers = parameter(levels.astype(np.int8), "integers")
        self.steps = parameter(steps, "steps")
        self.sums = parameter((np.rint(bias) - offset * levels.sum(1)).astype(np.int32), "sums")
        self.factor = parameter(np.array([1 / scale], np.float32), "factor")
        self.offset = parameter(np.array([offset], np.float32), "offset")
        self.quantize, self.multiply = QuantV2(), QuantBatchMatmul(False, True, ms.float16)
        self.round, self.matmul = ops.Round(), ops.MatMul(transpose_b=True)

    def construct(self, x: Any) -> Any:
        shape = x.shape
        x = ops.clamp(x.reshape((-1, self.inputs)), self.low, self.high)
        if self.simulated:
            levels = self.round(x * self.factor + self.offset)
            y = (self.matmul(levels, self.integers.astype(ms.float32)) + self.sums.astype(ms.float32)) * self.steps
        else:
            levels = self.quantize(x, self.factor, self.offset, False, "ROUND", ms.int8)
            y = self.multiply(levels, self.integers, self.steps, None, self.sums, None).astype(ms.float32)
        y = y.reshape((*shape[:-1], self.outputs))
        return self.activation(y) if self.activation is not None else y


def with_integer_dense(net: Any, simulated: bool = False) -> tuple[Any, int]:
    """A copy of a converted network with its dense layers in integers, and how many there are."""
    twin = copy_network(net).set_train(False)
    found = {name: cell for name, cell in twin.cells_and_names() if _multiplies_integers(cell)}
    new = {name: IntegerDense(cell[0], cell[1], simulated) for name, cell in found.items()}
    for cell in new.values():
        del cell._cells["layer"]  # its parameters would be stored, too
    replace_cells(twin, new)
    rename_parameters(twin)
    return twin, len(new)


def _multiplies_integers(cell: Any) -> bool:
    if not isinstance(cell, RoundedLayer) or not isinstance(cell[1], QuantizedDense):
        return False
    weight = cell[1].weight
    return not weight.shifted and weight.parted == weight.shape
