"""Dense layers in the operators in integers that MindSpore has for an Ascend; there is no kernel of them for a CPU.

    q = round(x / scale) + offset, in int8        y = (q @ W + b) * steps, where b also takes the offset away
    y = x @ (W * scale) + b, in float16           where weights alone are in integers

(mindspore.ops.auto_generate: QuantV2, QuantBatchMatmul, WeightQuantBatchMatmul.)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import rename_parameters, replace_cells

from .layers import QuantizedDense, RoundedInput, RoundedLayer, StandIn, ms, parameter

from mindspore import ops  # isort: skip
from mindspore.ops.auto_generate import QuantBatchMatmul, QuantV2, WeightQuantBatchMatmul  # isort: skip

HALF = 128
HALF_BYTE = 4


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


class WeightOnlyDense(StandIn):
    """A dense layer whose weight alone is in integers of 8 or 4 bits; x: (..., in). simulated: as in IntegerDense.

    Of 4 bits two integers are in a byte, the earlier one in the low half.
    """

    def __init__(self, layer: QuantizedDense, simulated: bool) -> None:
        super().__init__()
        self.layer, self.simulated = layer, simulated
        self.inputs, self.outputs, self.activation = layer.in_channels, layer.out_channels, layer.activation
        levels = layer.weight._levels().asnumpy().reshape(self.outputs, self.inputs).astype(np.int8)
        halves = layer.weight.bits == HALF_BYTE and not simulated
        stored = ms.Tensor(_in_halves(levels), dtype=ms.qint4x2) if halves else ms.Tensor(levels)
        self.integers = ms.Parameter(stored, "integers", requires_grad=False)
        scale = layer.weight.scale.asnumpy().reshape(1, -1)
        self.scale = parameter(scale if simulated else scale.astype(np.float16), "scale")
        self.biased = layer.has_bias
        if self.biased:
            self.added = parameter(layer.bias.asnumpy(), "added")
        self.multiply, self.matmul = WeightQuantBatchMatmul(False, True), ops.MatMul(transpose_b=True)

    def construct(self, x: Any) -> Any:
        shape = x.shape
        x = x.reshape((-1, self.inputs))
        if self.simulated:
            y = self.matmul(x, self.integers.astype(ms.float32)) * self.scale
        else:
            y = self.multiply(x.astype(ms.float16), self.integers, self.scale, None, None, None, None)
            y = y.astype(ms.float32)
        y = ops.bias_add(y, self.added) if self.biased else y
        y = y.reshape((*shape[:-1], self.outputs))
        return self.activation(y) if self.activation is not None else y


def _in_halves(levels: np.ndarray) -> np.ndarray:
    """(out, in) integers of 4 bits -> (out, in / 2) int8."""
    return ((levels[:, ::2] & 15) | (levels[:, 1::2] << 4)).astype(np.int8)


def with_integer_dense(net: Any, simulated: bool = False, weight_only: Collection[int] = ()) -> tuple[Any, int]:
    """A copy of a converted network with its dense layers in integers, and how many there are.

    weight_only: bits of weights for which the chip has a kernel with inputs in floats.
    """
    twin = copy_network(net).set_train(False)
    found = {name: cell for name, cell in twin.cells_and_names() if _multiplies_integers(cell)}
    new = {name: IntegerDense(cell[0], cell[1], simulated) for name, cell in found.items()}
    rounded = {id(cell[1]) for _, cell in twin.cells_and_names() if isinstance(cell, RoundedLayer)}
    for name, cell in twin.cells_and_names():
        if id(cell) not in rounded and _reads_stored(cell, weight_only):
            new[name] = WeightOnlyDense(cell, simulated)
    for cell in new.values():
        del cell._cells["layer"]  # its parameters would be stored, too
    replace_cells(twin, new)
    rename_parameters(twin)
    return twin, len(new)


def _multiplies_integers(cell: Any) -> bool:
    return isinstance(cell, RoundedLayer) and isinstance(cell[1], QuantizedDense) and _one_scale(cell[1])


def _one_scale(cell: QuantizedDense) -> bool:
    """Whether each output has one scale, and no zero point."""
    return not cell.weight.shifted and bool(cell.weight.parted == cell.weight.shape)


def _reads_stored(cell: Any, bits: Collection[int]) -> bool:
    if not isinstance(cell, QuantizedDense) or cell.weight.bits not in bits or not _one_scale(cell):
        return False
    return cell.weight.bits != HALF_BYTE or (cell.in_channels % 2 == 0 and not cell.weight.odd)
