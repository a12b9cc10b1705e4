"""What a plan makes of the network's numbers, in NumPy: the one source for the elastic, converted and exported network.

Channels are cut first, the layers that read them take in what can be told of them, the remaining weights are rounded
then, so that all three see the same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..search_spaces import Format, NetworkGraph, Node, Plan, SearchSpace
from .quantizers import ActivationQuantizer, QuantizedWeight, quantize_weight
from .reconstruction import Moments, reconstruct, reconstructs

CACHED_WEIGHTS = 200_000_000  # elements, a byte each
Parameters = Mapping[str, np.ndarray]  # of the float network, by name
Statistics = Mapping[str, tuple[np.ndarray, np.ndarray]]  # BatchNorm layer -> (mean, variance) of all its channels


@dataclass(frozen=True)
class LayerState:
    """A conv or dense layer under a plan.

    rows, columns: (out,), (in / groups,) bool: what is kept of the weight's first two axes.
    weight: (kept out, kept in, ...) float32, rounded where the plan says so; quantized: its integers.
    bias: (kept out,) float32 or None. activation: how the layer's input is rounded, None: not at all.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    quantized: QuantizedWeight | None = None
    activation: ActivationQuantizer | None = None


@dataclass(frozen=True)
class Realisation:
    """A plan carried out in numbers; ``kept``: (units,) bool."""

    plan: Plan
    kept: np.ndarray
    layers: Mapping[str, LayerState]
    statistics: Statistics = field(default_factory=dict)

    def with_statistics(self, statistics: Statistics) -> Realisation:
        return Realisation(self.plan, self.kept, self.layers, statistics)


def parameters_of(net: object) -> dict[str, np.ndarray]:
    """Copies of all parameters by name."""
    return {p.name: np.array(p.asnumpy()) for p in net.get_parameters()}  # type: ignore[attr-defined]


def kept_channels(units: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(channels,) bool: the positions of a node's channel axis that stay."""
    return np.where(units < 0, True, kept[np.maximum(units, 0)]) if len(kept) else np.ones(len(units), bool)


class Realiser:
    """Carries plans out in numbers; cut and rounded weights are kept, since a search asks for the same ones again.

    ranges: (layer, bits) -> quantizer of the layer's input, from calibration. moments: layer -> moments of its input;
    a layer that has none is cut without reconstruction.
    """

    def __init__(
        self,
        space: SearchSpace,
        parameters: Parameters,
        ranges: Mapping[tuple[str, int], ActivationQuantizer] | None = None,
        moments: Mapping[str, Moments] | None = None,
    ) -> None:
        self.space = space
        self.parameters = parameters
        self.ranges = dict(ranges or {})
        self.moments = dict(moments or {})
        self._rounded: dict[tuple[str, int, bytes], QuantizedWeight] = {}
        self._cut: dict[tuple[str, bytes], tuple[np.ndarray, np.ndarray]] = {}

    @property
    def graph(self) -> NetworkGraph:
        return self.space.graph

    def __call__(self, plan: Plan) -> Realisation:
        return self.of(self.space.kept(plan), self.space.formats(plan), plan)

    def of(self, kept: np.ndarray, formats: Mapping[str, Format], plan: Plan | None = None) -> Realisation:
        """Of these units, (units,) bool, and formats by layer."""
        plan = Plan() if plan is None else plan
        layers = {
            layer: self._layer(self.graph.nodes[i], kept, formats.get(layer, Format()))
            for layer, i in self.graph.layers.items()
        }
        return Realisation(plan, kept, layers)

    def _layer(self, node: Node, kept: np.ndarray, chosen: Format) -> LayerState:
        assert node.layer is not None and node.weight_shape is not None
        rows = kept_channels(node.units, kept)
        inputs = kept_channels(self.graph.input_units(node), kept)
        columns = inputs.reshape(node.groups, -1)[0] if not node.depthwise else np.ones(1, bool)
        whole, shift = self._read(node, columns)
        weight = whole[rows]
        bias = self.parameters[node.attributes["bias"]][rows] + shift[rows] if "bias" in node.attributes else None
        quantized = None
        if chosen.weight_bits < 32:
            quantized = self._round(node.layer, weight, chosen.weight_bits, rows, columns)
            weight = quantized.dequantized()
        activation = self._range(node.layer, chosen.activation_bits)
        return LayerState(rows, columns, weight, bias, quantized, activation)

    def _read(self, node: Node, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The weight of all outputs for the kept inputs, reconstructed where that can be, and what the bias gains."""
        weight = self.parameters[node.attributes["weight"]]
        if columns.all() or not reconstructs(node, self.moments):
            return weight[:, columns], np.zeros(len(weight), np.float32)
        key = (str(node.layer), np.packbits(columns).tobytes())
        if key not in self._cut:
            if sum(cut.size for cut, _ in self._cut.values()) > CACHED_WEIGHTS // 4:
                self._cut.clear()
            self._cut[key] = reconstruct(weight, columns, self.moments[str(node.layer)])
        return self._cut[key]

    def _round(
        self, layer: str, weight: np.ndarray, bits: int, rows: np.ndarray, columns: np.ndarray
    ) -> QuantizedWeight:
        key = (layer, bits, np.packbits(np.concatenate([rows, columns])).tobytes())
        if key not in self._rounded:
            if sum(weight.integers.size for weight in self._rounded.values()) > CACHED_WEIGHTS:
                self._rounded.clear()
            self._rounded[key] = quantize_weight(weight, bits)
        return self._rounded[key]

    def _range(self, layer: str, bits: int) -> ActivationQuantizer | None:
        if bits == 32:
            return None
        if (layer, bits) not in self.ranges:
            raise ValueError(f"the input of layer {layer} was not calibrated for {bits} bits")
        return self.ranges[layer, bits]
