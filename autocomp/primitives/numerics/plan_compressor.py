"""The weights of a network under a plan, in NumPy: the one source for the elastic, converted and exported network.

First channels are cut, and the layers that read them are reconstructed from the channels that stay. Then two of every
four weights of a sparse layer become zero, and the remaining weights are rounded, so that all three networks get the
same numbers. Below 8 bits weights are rounded for the least
error of the layer's output where moments of its input are known (``adaptive_rounding.py``), unless the plan names a
primitive that rounds to nearest. The shift of the output's
mean is subtracted from the bias (Nagel et al., "Data-Free Quantization", ICCV 2019, section 4.2) unless a BatchNorm
after the layer compensates it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import FLOAT_BITS, Format, NetworkGraph, Node, Plan, SearchSpace

from .adaptive_rounding import WIDE, adaptive_rounding
from .nearest_levels import nearest_halves
from .patches import Hessian, normalised_layers
from .quantizers import ActivationQuantizer, QuantizedWeight, quantize_weight
from .reconstruction import Moments, reconstruct, reconstructs, taps_seen
from .semi_structured import compensated, two_of_four

CACHED_WEIGHTS = 200_000_000  # elements of one byte each
NEAREST = frozenset({"rtn", "simqat", "pact"})  # primitives whose weights are, or start, at the nearest of the levels
Found = TypeVar("Found")
Parameters = Mapping[str, np.ndarray]  # of the float network, by name
Statistics = Mapping[str, tuple[np.ndarray, np.ndarray]]  # BatchNorm layer -> (mean, variance) of all its channels


@dataclass(frozen=True)
class LayerState:
    """A conv or dense layer under a plan.

    rows, columns: (out,), (in / groups,) bool: the kept part of the weight's first two axes.
    weight: (kept out, kept in, ...) float32, rounded if the plan rounds it; quantized: its integers.
    bias: (kept out,) float32 or None. activation: the quantizer of the layer's input, None: it is not rounded.
    sparse: whether two of every four weights are zero.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    quantized: QuantizedWeight | None = None
    activation: ActivationQuantizer | None = None
    sparse: bool = False


@dataclass(frozen=True)
class CompressedWeights:
    """The numbers of a network under a plan.

    kept: (units,) bool. tensors: node -> the quantizer of its output, for those that the runtime keeps in integers.
    """

    plan: Plan
    kept: np.ndarray
    layers: Mapping[str, LayerState]
    statistics: Statistics = field(default_factory=dict)
    tensors: Mapping[int, ActivationQuantizer] = field(default_factory=dict)

    def with_statistics(self, statistics: Statistics) -> CompressedWeights:
        return replace(self, statistics=statistics)


def parameters_of(net: object) -> dict[str, np.ndarray]:
    """Copies of all parameters by name."""
    return {p.name: np.array(p.asnumpy()) for p in net.get_parameters()}  # type: ignore[attr-defined]


def kept_channels(units: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(channels,) bool: the positions of a node's channel axis that stay."""
    return np.where(units < 0, True, kept[np.maximum(units, 0)]) if len(kept) else np.ones(len(units), bool)


class Remembered(Generic[Found]):
    """A cache; it is emptied when it has more than ``most`` elements.

    Several threads may use it: in the worst case two of them compute the same value.
    """

    def __init__(self, most: int) -> None:
        self.most, self._elements = most, 0
        self._found: dict[Hashable, Found] = {}

    def get(self, key: Hashable, elements: int, make: Callable[[], Found]) -> Found:
        if (found := self._found.get(key)) is None:
            found = make()
            if self._elements > self.most:
                self._found, self._elements = {}, 0
            self._found[key] = found
            self._elements += elements
        return found


class PlanCompressor:
    """Computes the weights of plans. Cut and rounded weights are cached, since a search needs the same ones again.

    ranges: (layer, bits) -> quantizer of the layer's input, from calibration.
    moments: layer -> moments of its input; a layer without moments is cut without reconstruction.
    patches: layer -> moments of the patches of its input; a layer without them, or with 8 bits, is rounded to nearest.
    tensors: node -> quantizer of its output, from calibration, for a runtime that keeps tensors between layers in
        integers; see :class:`autocomp.search_spaces.IntegerFlow`.
    """

    def __init__(
        self,
        space: SearchSpace,
        parameters: Parameters,
        ranges: Mapping[tuple[str, int], ActivationQuantizer] | None = None,
        moments: Mapping[str, Moments] | None = None,
        patches: Mapping[str, Hessian] | None = None,
        tensors: Mapping[int, ActivationQuantizer] | None = None,
    ) -> None:
        self.space = space
        self.tensors = dict(tensors or {})
        self.parameters = parameters
        self.ranges = dict(ranges or {})
        self.moments = dict(moments or {})
        self.patches = dict(patches or {})
        self._normalised = normalised_layers(space.graph)
        self._rounded: Remembered[tuple[QuantizedWeight, np.ndarray]] = Remembered(CACHED_WEIGHTS)
        self._cut: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(CACHED_WEIGHTS // 4)
        self._sparse: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(CACHED_WEIGHTS // 4)

    @property
    def graph(self) -> NetworkGraph:
        return self.space.graph

    def __call__(self, plan: Plan) -> CompressedWeights:
        nearest = [layer for layer, primitive in self.space.rounded_by(plan).items() if primitive in NEAREST]
        return self.of(self.space.kept(plan), self.space.formats(plan), plan, nearest, self.space.sparse(plan))

    def of(
        self,
        kept: np.ndarray,
        formats: Mapping[str, Format],
        plan: Plan | None = None,
        nearest: Collection[str] = (),
        sparse: Collection[str] = (),
    ) -> CompressedWeights:
        """The weights for these kept units, (units,) bool, and formats by layer.

        nearest: layers whose weights are rounded to nearest, whatever is known of their inputs. sparse: layers in which
            two of every four weights are zero.
        """
        plan = Plan() if plan is None else plan
        layers = {
            layer: self._layer(
                self.graph.nodes[i], kept, formats.get(layer, Format()), layer not in nearest, layer in sparse
            )
            for layer, i in self.graph.layers.items()
        }
        return CompressedWeights(plan, kept, layers, tensors=self._quantized_tensors(formats))

    def _quantized_tensors(self, formats: Mapping[str, Format]) -> dict[int, ActivationQuantizer]:
        if not self.tensors:
            return {}
        flow = self.graph.integer_flow
        found = flow.tensors({layer: chosen.in_integers for layer, chosen in formats.items()})
        return {i: self.tensors[source] for i in found if (source := flow.source[i]) in self.tensors}

    def _layer(self, node: Node, kept: np.ndarray, chosen: Format, adapts: bool, sparse: bool) -> LayerState:
        assert node.layer is not None and node.weight_shape is not None
        rows = kept_channels(node.units, kept)
        inputs = kept_channels(self.graph.input_units(node), kept)
        columns = inputs.reshape(node.groups, -1)[0] if not node.depthwise else np.ones(1, bool)
        whole, shift = self._read(node, columns)
        if sparse:
            whole, moved = self._sparsified(node, whole, columns)
            shift = shift - moved
        weight = whole[rows]
        quantized = None
        if chosen.weight_bits < FLOAT_BITS:
            rounded, moved = self._round(node, whole, chosen.weight_bits, columns, adapts, sparse)
            quantized = rounded.rows(rows)
            weight, shift = quantized.dequantized(), shift - moved
        bias = None if node.bias is None else self.parameters[node.bias][rows] + shift[rows]
        activation = self._range(node.layer, chosen.activation_bits)
        return LayerState(rows, columns, weight, bias, quantized, activation, sparse)

    def _read(self, node: Node, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weight of all outputs for the kept inputs, reconstructed where that is possible, and the change of the
        bias."""
        weight = weight_of(node, self.parameters)
        if columns.all() or not reconstructs(node, self.moments):
            return weight[:, columns], np.zeros(len(weight), np.float32)
        key, moments = (str(node.layer), np.packbits(columns).tobytes()), self.moments[str(node.layer)]
        return self._cut.get(key, weight.size, lambda: reconstruct(weight, columns, moments, taps_seen(node)))

    def _sparsified(self, node: Node, weight: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weight of all outputs for the kept inputs with two zeros in every four, and the shift of each output's
        mean by that, (out,)."""
        key = (str(node.layer), np.packbits(columns).tobytes())
        return self._sparse.get(key, weight.size, lambda: self._sparsified_anew(node, weight, columns))

    def _sparsified_anew(self, node: Node, weight: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        layer, moved = str(node.layer), np.zeros(len(weight), np.float32)
        if layer not in self.patches:
            moments = self.moments.get(layer)
            if moments is None or len(moments.mean) != len(columns):
                return two_of_four(weight), moved
            return two_of_four(weight, np.sqrt(np.diag(moments.covariance) + moments.mean**2)[columns]), moved
        patches = self.patches[layer].of(np.repeat(columns, math.prod(weight.shape[2:])))
        corrected = node.bias is not None and layer not in self._normalised
        centred = node.bias is not None or layer in self._normalised
        found = compensated(weight, patches.damped(centred))
        return found, patches.mean_output(found - weight) if corrected else moved

    def _round(
        self, node: Node, weight: np.ndarray, bits: int, columns: np.ndarray, adapts: bool, sparse: bool
    ) -> tuple[QuantizedWeight, np.ndarray]:
        """The weight of all outputs for the kept inputs, rounded, and the shift of each output's mean by that,
        (out,). Of a sparse one the zeros stay zeros."""
        adapts = adapts and bits < 8 and str(node.layer) in self.patches
        key = (str(node.layer), bits, np.packbits(columns).tobytes(), adapts, sparse)
        return self._rounded.get(
            key, weight.size, lambda: self._round_anew(node, weight, bits, columns, adapts, sparse)
        )

    def _round_anew(
        self, node: Node, weight: np.ndarray, bits: int, columns: np.ndarray, adapts: bool, sparse: bool
    ) -> tuple[QuantizedWeight, np.ndarray]:
        layer, halves = str(node.layer), bits == 1  # there is no zero between the two levels of a bit
        if halves and not adapts:
            return nearest_halves(weight, bits), np.zeros(len(weight), np.float32)
        if not adapts:
            paired = bool(self.tensors) and not node.channelwise  # which multiplies in more bits
            return quantize_weight(weight, bits, paired=paired), np.zeros(len(weight), np.float32)
        taps = math.prod(weight.shape[2:])
        patches = self.patches[layer].of(np.repeat(columns, taps))
        corrected = node.bias is not None
        centred = corrected or layer in self._normalised
        quick = (
            not columns.all() and len(weight[0].reshape(-1)) > WIDE
        )  # other plans cut other channels, which are rounded again
        rounded = adaptive_rounding(weight, bits, patches.damped(centred), quick, halves, keeps_zeros=sparse)
        moved = np.zeros(len(weight), np.float32)
        if corrected and layer not in self._normalised:
            moved = patches.mean_output(rounded.dequantized() - weight)
        return rounded, moved

    def _range(self, layer: str, bits: int) -> ActivationQuantizer | None:
        if bits == FLOAT_BITS:
            return None
        if (layer, bits) not in self.ranges:
            raise ValueError(f"the input of layer {layer} was not calibrated for {bits} bits")
        return self.ranges[layer, bits]
