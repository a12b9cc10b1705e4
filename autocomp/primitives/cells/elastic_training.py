"""One network that trains for every plan: all plans share its weights, and a plan is the values of a few parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.numerics.nearest_levels import best_scale, odd_levels
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.numerics.quantizers import LEAST_SCALE, ActivationQuantizer, quantize_weight
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import FLOAT_BITS, Format, Node, Plan, SearchSpace

from .blocks import elastic_blocks
from .fake_quant import assign, rounded, scaled_gradient
from .layers import ms, parameter
from .masks import GatedInput, UnitGate
from .trained_layers import trained_layer, trains_rounded


@dataclass(frozen=True)
class RoundingLevels:
    """The levels of numbers of bits: low to high in steps of a scale, moved by ``shift`` steps; arrays (bits,)."""

    bits: tuple[int, ...]
    low: np.ndarray
    high: np.ndarray
    shift: np.ndarray

    @staticmethod
    def of_weights(bits: Sequence[int]) -> RoundingLevels:
        """Around zero, as in :func:`quantize_weight`; the two of 1 bit are -1/2 and 1/2."""
        halves = np.array([b == 1 for b in bits], np.float32)
        high = np.array([2 ** (b - 1) - 1 for b in bits], np.float32)
        return RoundingLevels(tuple(bits), -high - halves, high, halves / 2)

    @staticmethod
    def of_inputs(bits: Sequence[int], positive: bool) -> RoundingLevels:
        low = np.array([0 if positive else -(2 ** (b - 1)) for b in bits], np.float32)
        high = np.array([2**b - 1 for b in bits], np.float32) + low
        return RoundingLevels(tuple(bits), low, high, np.zeros(len(bits), np.float32))


class ElasticRounding(nn.Cell):
    """Rounds to one of several numbers of bits. Subclasses define the scale.

    chosen: a parameter (rows, bits); ``row`` of it has a 1 at the bits that are chosen, or zeros for no rounding.
    """

    def __init__(self, levels: RoundingLevels, chosen: Any, row: int, bounded_below: bool) -> None:
        super().__init__()
        self.levels, self.chosen, self.row, self.bounded_below = levels, chosen, row, bounded_below
        self.low, self.high, self.shift = (ms.Tensor(values) for values in (levels.low, levels.high, levels.shift))
        self.shifts = bool(levels.shift.any())

    def construct(self, x: Any) -> Any:
        one = self.chosen[self.row]
        low, high, enabled = (one * self.low).sum(), (one * self.high).sum(), one.sum()
        scale = ops.maximum(self.scale_of(x, one, high), LEAST_SCALE)
        if not self.shifts:
            return rounded(x, scale, low, high, enabled, self.bounded_below)
        shift = (one * self.shift).sum() * scale
        return rounded(x - shift, scale, low, high, enabled, self.bounded_below) + shift


class ElasticWeight(ElasticRounding):
    """A weight, with a scale for each output channel: a fixed share of its largest magnitude for each number of bits.

    It moves with the weight and has no gradient: that of a scale that trains is the sum over all plans, of which the
    narrow ones have large losses, and drove scales of 8 bits far from any use.
    shares: (bits, out, 1, ...) float32.
    """

    def __init__(self, shares: np.ndarray, levels: RoundingLevels, chosen: Any, row: int) -> None:
        super().__init__(levels, chosen, row, bounded_below=True)
        self.shares = ms.Tensor(shares)
        self.column = (len(levels.bits), *[1] * (shares.ndim - 1))
        self.inner = tuple(range(1, shares.ndim - 1))

    def scale_of(self, x: Any, one: Any, high: Any) -> Any:
        largest = ops.stop_gradient(ops.amax(ops.abs(x), self.inner, keepdims=True))
        return (one.reshape(self.column) * self.shares).sum(0) * largest


class ElasticRange(ElasticRounding):
    """A layer's input, with a scale for each number of bits, which train as in LSQ (Esser et al., ICLR 2020, eq. 3).

    scales: (bits,) float32.
    """

    def __init__(self, scales: np.ndarray, levels: RoundingLevels, chosen: Any, row: int, positive: bool) -> None:
        super().__init__(levels, chosen, row, bounded_below=not positive)
        self.scales = parameter(scales, "scales", trains=True)

    def scale_of(self, x: Any, one: Any, high: Any) -> Any:
        scale = (one * self.scales).sum()
        return scaled_gradient(scale, ops.rsqrt(float(x.size // x.shape[0]) * ops.maximum(high, 1.0)))

    def quantizer(self, bits: int) -> ActivationQuantizer:
        """As it is trained now."""
        place = self.levels.bits.index(bits)
        scale = max(float(self.scales.asnumpy()[place]), LEAST_SCALE)
        return ActivationQuantizer(scale, -int(self.levels.low[place]), bits)


class GatedWeight(nn.Cell):
    """A weight whose inputs are zero where their units are cut, rounded; rounded to 1 bit they would not be zero."""

    def __init__(self, rounding: Any, gate: Any) -> None:
        super().__init__()
        self.rounding, self.gate = rounding, gate

    def construct(self, weight: Any) -> Any:
        return self.gate(self.rounding(self.gate(weight)))


class TrainableElasticNetwork:
    """A copy of a network that trains for every plan of a space; :meth:`set` compiles nothing.

    A plan's bits and kept units are two small tables and a vector, parameters that all layers share; a block that is
    skipped has a gate. A cut channel is a zero in the weights that consume it, as in :class:`ElasticNetwork`. Every
    layer has a scale for each number of bits, and all plans share its weight. What chains and zeros of 2:4 would change
    is not trained: plans that choose them share the weights of the plan without.

    net: a Cell; it is copied. ranges: (layer, bits) -> quantizer of the layer's input, from calibration.
    cell: the network that trains; its BatchNorms normalise by the batch, and their running statistics are a mixture
    over plans: estimate them again.
    """

    def __init__(
        self, net: Any, space: SearchSpace, ranges: Mapping[tuple[str, int], ActivationQuantizer], symmetric: bool
    ) -> None:
        self.space, graph = space, space.graph
        self.cell = copy_network(net)
        names = {id(p): p.name for p in self.cell.get_parameters()}
        self._own = frozenset(names.values())
        self._offered = _offered(space)
        self.rows = {layer: row for row, layer in enumerate(graph.layers)}
        self.bits = tuple(sorted({bits for found in self._offered.values() for bits in found[0]}))
        self.input_bits = tuple(sorted({bits for found in self._offered.values() for bits in found[1]}))
        self.kept = parameter(np.ones(max(graph.unit_count, 1), np.float32), "kept")
        self.chosen = parameter(np.zeros((len(self.rows) or 1, len(self.bits) or 1), np.float32), "weight_bits")
        self.chosen_inputs = parameter(np.zeros((len(self.rows) or 1, len(self.input_bits) or 1), np.float32), "bits")
        self.weights: dict[str, ElasticWeight] = {}
        self.inputs: dict[str, ElasticRange] = {}
        cells: dict[str, Any] = {}
        for layer, i in graph.layers.items():
            made = self._layer(cell_at(self.cell, layer), graph.nodes[i], ranges, symmetric)
            cells |= {} if made is None else {layer: made}
        replace_cells(self.cell, cells)
        self.blocks = elastic_blocks(self.cell, tuple(space.blocks.values()))
        rename_parameters(self.cell, names)

    def _layer(
        self, layer: Any, node: Node, ranges: Mapping[tuple[str, int], ActivationQuantizer], symmetric: bool
    ) -> Any:
        graph, path = self.space.graph, str(node.layer)
        units = graph.input_units(node)
        reads = not node.depthwise and bool((units >= 0).any())
        if not trains_rounded(layer):
            shape = (1, -1, *[1] * (len(graph.nodes[node.inputs[0]].shape) - 2))
            return GatedInput(layer, UnitGate(self.kept, units, shape)) if reads else None
        weight = weight_of(node, {layer.weight.name: layer.weight.asnumpy()})
        bits, input_bits = self._offered.get(path, ((), ()))
        gate: Any = nn.Identity()
        if reads:
            columns = units.reshape(node.groups, -1)[0]
            gate = UnitGate(self.kept, columns, (1, -1, *[1] * (weight.ndim - 2)))
        rounding, rounds_input = nn.Identity(), nn.Identity()
        if bits:
            rounding = self.weights[path] = self._of_weight(weight, path)
        positive = not symmetric and all(graph.never_negative(call.inputs[0]) for call in graph.calls(path))
        if input_bits:
            scales = np.array([_start(ranges.get((path, b)), b, positive) for b in self.input_bits], np.float32)
            levels, row = RoundingLevels.of_inputs(self.input_bits, positive), self.rows[path]
            rounds_input = self.inputs[path] = ElasticRange(scales, levels, self.chosen_inputs, row, positive)
        return trained_layer(layer, GatedWeight(rounding, gate), rounds_input, None, None)

    def _of_weight(self, weight: np.ndarray, path: str) -> ElasticWeight:
        shares = np.stack([_share(weight, bits) for bits in self.bits])
        return ElasticWeight(shares, RoundingLevels.of_weights(self.bits), self.chosen, self.rows[path])

    def set(self, plan: Plan) -> None:
        """Choose the plan that trains. Chains and zeros of 2:4 are left out."""
        formats = self.space.formats(plan)
        assign(self.kept, self.space.kept(plan) if self.space.graph.unit_count else np.ones(1))
        chosen, inputs = np.zeros(self.chosen.shape, np.float32), np.zeros(self.chosen_inputs.shape, np.float32)
        for layer in self.weights:
            some = formats.get(layer, Format())
            if some.weight_bits < FLOAT_BITS:
                chosen[self.rows[layer], self.bits.index(some.weight_bits)] = 1
        for layer in self.inputs:
            some = formats.get(layer, Format())
            if some.activation_bits < FLOAT_BITS:
                inputs[self.rows[layer], self.input_bits.index(some.activation_bits)] = 1
        assign(self.chosen, chosen)
        assign(self.chosen_inputs, inputs)
        skipped = {block.name for block in self.space.skipped(plan)}
        for path, block in self.blocks.items():
            assign(block.gate, float(path not in skipped))

    def ranges(self) -> dict[tuple[str, int], ActivationQuantizer]:
        """(layer, bits) -> the trained quantizer of the layer's input."""
        return {(layer, bits): cell.quantizer(bits) for layer, cell in self.inputs.items() for bits in self.input_bits}

    def parameters(self) -> dict[str, np.ndarray]:
        """Those of the network, by their own names."""
        return {name: value for name, value in parameters_of(self.cell).items() if name in self._own}


def _offered(space: SearchSpace) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Layer -> the numbers of bits that its knob offers for weight and input; embeddings are left out."""
    found: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for knob in space.knobs:
        if knob.kind == "format":
            weights, inputs = (
                {b for b in column if b < FLOAT_BITS} for column in zip(*_bits(knob.formats), strict=True)
            )
            found |= {
                layer: (tuple(sorted(weights)), tuple(sorted(inputs)))
                for layer in knob.layers
                if layer in space.graph.layers
            }
    return found


def _bits(formats: Sequence[Format]) -> list[tuple[int, int]]:
    return [(some.weight_bits, some.activation_bits) for some in formats]


def _share(weight: np.ndarray, bits: int) -> np.ndarray:
    """(out, 1, ...): the scale of the least squared error as a share of each channel's largest magnitude."""
    column = (-1, *[1] * (weight.ndim - 1))
    scale = 2 * best_scale(weight, odd_levels(1)) if bits == 1 else quantize_weight(weight, bits).scale.reshape(column)
    largest = np.abs(weight.reshape(len(weight), -1)).max(1).reshape(column)
    return (scale / np.where(largest > 0, largest, 1)).astype(np.float32)


def _start(quantizer: ActivationQuantizer | None, bits: int, positive: bool) -> float:
    """The first scale of an input's range; of one that is not calibrated for these bits, that of no plan."""
    if quantizer is None:
        return 1.0
    low, high = quantizer.bounds
    largest = max(high, 0.0 if positive else -low) * quantizer.scale
    return max(largest / (2**bits - 1 if positive else 2 ** (bits - 1) - 1), LEAST_SCALE)
