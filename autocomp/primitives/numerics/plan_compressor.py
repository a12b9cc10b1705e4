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
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.search_spaces import (
    FLOAT_BITS,
    Activation,
    Format,
    LayerChain,
    NetworkGraph,
    Node,
    Plan,
    ResidualBlock,
    RoundedRead,
    SearchSpace,
)

from .adaptive_rounding import WIDE, adaptive_rounding
from .chain_layers import ChainSamples, ChainWeights, Factored, weights_of
from .divided_inputs import AWQ, GPTQ, InputScaling, Key, rounded_by, to_nearest
from .layer_fits.factorisation import OutputBasis
from .layer_fits.output_error import output_error
from .nearest_levels import nearest_halves
from .patches import Hessian, normalised_layers
from .quantizers import ActivationQuantizer, QuantizedWeight, fit_activation, quantize_weight
from .reconstruction import Moments, reconstruct, reconstructs, taps_seen
from .remembered import Remembered
from .semi_structured import compensated, two_of_four

CACHED_WEIGHTS = 200_000_000  # elements of one byte each
NEAREST = frozenset({"rtn", "simqat", "pact"})  # primitives whose weights are, or start, at the nearest of the levels
Parameters = Mapping[str, np.ndarray]  # of the float network, by name
Corrects = Callable[
    ["CompressedWeights", NetworkGraph, Collection[Activation], NetworkGraph, Parameters], "CompressedWeights"
]
Statistics = Mapping[str, tuple[np.ndarray, np.ndarray]]  # BatchNorm layer -> (mean, variance) of all its channels


@dataclass(frozen=True)
class LayerState:
    """A conv or dense layer under a plan.

    rows, columns: (out,), (in / groups,) bool: the kept part of the weight's first two axes.
    weight: (kept out, kept in, ...) float32, rounded if the plan rounds it; quantized: its integers.
    bias: (kept out,) float32 or None. activation: the quantizer of the layer's input, None: it is not rounded.
    sparse: whether two of every four weights are zero.
    scale: (kept in,) float32, by which the input is divided before it is rounded and multiplied by the weight; None: it
        is not. row_bits: of the input, each row of which has a range of its own while the network runs; None: none.
    shift: (kept in,) float32, subtracted from the input before it is divided; the bias has its product. None: nothing.
    """

    rows: np.ndarray
    columns: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    quantized: QuantizedWeight | None = None
    activation: ActivationQuantizer | None = None
    sparse: bool = False
    scale: np.ndarray | None = None
    row_bits: int | None = None
    shift: np.ndarray | None = None


@dataclass(frozen=True)
class CompressedWeights:
    """The numbers of a network under a plan.

    kept: (units,) bool. tensors: node -> the quantizer of its output, for those that the runtime keeps in integers.
    graph: that of the plan, where chains and ReLUs stand and blocks are left out: ``layers`` and ``tensors`` are of its
        nodes. None: the network's own.
    flows: whether onnxruntime runs it, which keeps tensors between layers in integers, though maybe none of this
        plan's.
    skipped: paths of the cells that the identity stands for; relus: of those that a ReLU stands for. tables: embedding
        -> its rounded table; those that stay in floats are not in it. cache: product of two activations -> how it
        rounds keys or values of earlier tokens, as a cache in integers does; files have no cache and do not round them.
    int16_sums: whether a processor that multiplies these integers may add two products in 16 bits.
    """

    plan: Plan
    kept: np.ndarray
    layers: Mapping[str, LayerState]
    statistics: Statistics = field(default_factory=dict)
    tensors: Mapping[int, ActivationQuantizer] = field(default_factory=dict)
    graph: NetworkGraph | None = None
    skipped: tuple[str, ...] = ()
    relus: tuple[str, ...] = ()
    tables: Mapping[str, QuantizedWeight] = field(default_factory=dict)
    flows: bool = False
    cache: Mapping[str, RoundedRead] = field(default_factory=dict)
    int16_sums: bool = True

    def with_statistics(self, statistics: Statistics) -> CompressedWeights:
        return replace(self, statistics=statistics)


def parameters_of(net: object) -> dict[str, np.ndarray]:
    """Copies of all parameters by name."""
    return {p.name: np.array(p.asnumpy()) for p in net.get_parameters()}  # type: ignore[attr-defined]


def kept_channels(units: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(channels,) bool: the positions of a node's channel axis that stay."""
    return np.where(units < 0, True, kept[np.maximum(units, 0)]) if len(kept) else np.ones(len(units), bool)


class PlanCompressor:
    """Computes the weights of plans. Cut and rounded weights are cached, since a search needs the same ones again.

    ranges: (layer, bits) -> quantizer of the layer's input, from calibration.
    moments: layer -> moments of its input; a layer without moments is cut without reconstruction.
    patches: layer -> moments of the patches of its input; a layer without them, or with 8 bits, is rounded to nearest.
    tensors: node -> quantizer of its output, from calibration, for a runtime that keeps tensors between layers in
        integers; see :class:`autocomp.search_spaces.IntegerFlow`.
    samples: inputs of the layers that chains may replace; without them a chain is made from the weight alone, and its
        inner tensors must have ranges.
    symmetric: whether ranges are symmetric around zero.
    scalings: layer, format, primitive -> what its input is divided by, where a plan chooses that.
    corrects: puts what a plan's ReLUs shift into its biases (``activation_offsets.py``); None: nothing does.
    int16_sums: whether the processor may add two products of integers in 16 bits: weights of 8 bits are then limited.
    """

    def __init__(
        self,
        space: SearchSpace,
        parameters: Parameters,
        ranges: Mapping[tuple[str, int], ActivationQuantizer] | None = None,
        moments: Mapping[str, Moments] | None = None,
        patches: Mapping[str, Hessian] | None = None,
        tensors: Mapping[int, ActivationQuantizer] | None = None,
        samples: ChainSamples | None = None,
        symmetric: bool = False,
        scalings: Mapping[Key, InputScaling] | None = None,
        corrects: Corrects | None = None,
        int16_sums: bool = True,
    ) -> None:
        self.corrects, self.int16_sums = corrects, int16_sums
        self.scalings = dict(scalings or {})
        self.space, self.samples, self.symmetric = space, samples or ChainSamples(), symmetric
        self.tensors = dict(tensors or {})
        self.parameters, self.ranges = parameters, dict(ranges or {})
        self.moments, self.patches = dict(moments or {}), dict(patches or {})
        self._normalised = normalised_layers(space.graph)
        self._rounded: Remembered[tuple[QuantizedWeight, np.ndarray]] = Remembered(CACHED_WEIGHTS)
        self._cut: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(CACHED_WEIGHTS // 4)
        self._sparse: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(CACHED_WEIGHTS // 4)
        self._bases: Remembered[OutputBasis] = Remembered(CACHED_WEIGHTS // 16)
        self._factored: Remembered[Factored] = Remembered(CACHED_WEIGHTS // 16)
        self._of_tables: Remembered[QuantizedWeight] = Remembered(CACHED_WEIGHTS)
        self._of_chains: Remembered[ChainWeights] = Remembered(CACHED_WEIGHTS // 4)

    @property
    def graph(self) -> NetworkGraph:
        return self.space.graph

    def __call__(self, plan: Plan) -> CompressedWeights:
        structure = self.space.structure(plan), self.space.skipped(plan), self.space.relus(plan)
        space = self.space.specialised(*structure)
        named, sparse = space.rounded_by(plan), space.sparse(plan)
        found = self.of(space.kept(plan), space.formats(plan), plan, named, sparse, *structure)
        return replace(found, cache=self.space.cache(plan))

    def of(
        self,
        kept: np.ndarray,
        formats: Mapping[str, Format],
        plan: Plan | None = None,
        named: Mapping[str, str] | None = None,
        sparse: Collection[str] = (),
        chains: Mapping[str, LayerChain] | None = None,
        skipped: Collection[ResidualBlock] = (),
        relus: Collection[Activation] = (),
    ) -> CompressedWeights:
        """The weights for these kept units, (units,) bool, and formats by layer.

        named: layer -> the primitive that rounds it. Without one, weights of fewer than 8 bits are rounded for the
            least error of the layer's output where its input is known. sparse: layers in which two of every four
            weights are zero. chains: layer -> the layers in its place, which ``formats``, ``named`` and ``sparse``
            name. skipped: blocks that are left out. relus: activations that a ReLU stands for.
        """
        plan, chains, named = Plan() if plan is None else plan, chains or {}, named or {}
        graph = self.space.specialised(chains, skipped, relus).graph
        layers: dict[str, LayerState] = {}
        for layer, i in graph.layers.items():
            how = formats.get(layer, Format()), named.get(layer, ""), layer in sparse
            inside = graph.nodes[i].attributes.replaces is not None
            layers[layer] = (self._in_chain if inside else self._layer)(graph, i, kept, *how)
        integers = {
            layer: chosen.in_integers and (layer not in layers or layers[layer].scale is None)
            for layer, chosen in formats.items()
        }
        tensors = self._quantized_tensors(graph, self.space.origins(chains, skipped, relus), integers, kept)
        own, names = graph if chains or skipped or relus else None, tuple(block.name for block in skipped)
        tables = self._tables(graph, formats)
        found = CompressedWeights(plan, kept, layers, tensors=tensors, graph=own, skipped=names, tables=tables)
        flows = not all(one.symmetric for one in self.tensors.values())  # TensorRT's are
        names = tuple(one.name for one in relus)
        found = replace(found, flows=flows, relus=names, int16_sums=self.int16_sums)
        if self.corrects is None or not relus:
            return found
        return self.corrects(found, graph, relus, self.graph, self.parameters)

    def _tables(self, graph: NetworkGraph, formats: Mapping[str, Format]) -> dict[str, QuantizedWeight]:
        """Embedding -> its table, rounded to nearest: what a row is multiplied with later is not known."""
        found: dict[str, QuantizedWeight] = {}
        for path, i in graph.embeddings.items():
            bits = formats.get(path, Format()).weight_bits
            if bits < FLOAT_BITS:
                table = self.parameters[graph.nodes[i].table]
                found[path] = self._of_tables.get((path, bits), table.size, partial(quantize_weight, table, bits))
        return found

    def _quantized_tensors(
        self, graph: NetworkGraph, own: Sequence[int | None], integers: Mapping[str, bool], kept: np.ndarray
    ) -> dict[int, ActivationQuantizer]:
        """own: for each node of the graph that of the network with the same output. integers: layer -> whether it runs
        in integers and reads its input as it is."""
        if not self.tensors:
            return {}
        flow = graph.integer_flow
        found = flow.tensors(integers)
        quantizers: dict[int, ActivationQuantizer] = {}
        for i in found:
            source = flow.source[i]
            if (before := own[source]) is None:
                inner = self._inner_range(graph, graph.consumers[source][0], kept, 8)
                quantizers |= {} if inner is None else {i: inner}
            elif before in self.tensors:
                rectified = graph.never_negative(source) and not self.graph.never_negative(before)
                quantizers[i] = self.tensors[before].above_zero if rectified else self.tensors[before]
        return quantizers

    @staticmethod
    def _places(graph: NetworkGraph, node: Node, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(out,), (in / groups,) bool: what is kept of a weight."""
        inputs = kept_channels(graph.input_units(node), kept)
        columns = inputs.reshape(node.groups, -1)[0] if not node.depthwise else np.ones(1, bool)
        return kept_channels(node.units, kept), columns

    def _factored_layer(self, graph: NetworkGraph, i: int, kept: np.ndarray) -> Factored:
        """The layers of the chain that node i is in, in floats."""
        node = graph.nodes[i]
        layer = str(node.attributes.replaces)
        own = self.graph.nodes[self.graph.layers[layer]]
        rows, columns = self._places(self.graph, own, kept)
        first = node if graph.starts_chain(i) else graph.nodes[node.inputs[0]]
        key = (first.layer, np.packbits(rows).tobytes(), np.packbits(columns).tobytes())

        def basis(weight: np.ndarray, seen: np.ndarray | None, centred: bool) -> OutputBasis:
            find = partial(OutputBasis.of, weight, seen, centred)
            return self._bases.get((layer, *key[1:]), len(weight) ** 2, find)

        def made() -> Factored:
            whole, shift = self._read(own, columns)
            bias = None if own.bias is None else self.parameters[own.bias][rows] + shift[rows]
            seen = self.samples.of(layer, first.attributes.form)
            patches = self.patches.get(layer)
            places, weight, normalised = (rows, columns), whole[rows], layer in self._normalised
            return Factored.of(first, places, weight, bias, seen, patches, normalised, basis)

        return self._factored.get(key, math.prod(own.weight_shape or (1,)) + len(rows) * 100, made)

    def output_error(self, layer: str, chain: LayerChain) -> float:
        """The share of the layer's output, with all channels, that the chain in its place lacks on the samples."""
        own, graph = self.graph.nodes[self.graph.layers[layer]], self.space.specialised({layer: chain}).graph
        fit = self._factored_layer(graph, graph.layers[chain.layers[0]], np.ones(self.graph.unit_count, bool))
        samples, centred = self.samples.of(layer, chain.form), own.bias is not None or layer in self._normalised
        return output_error(chain.form, (fit.first, fit.last), weight_of(own, self.parameters), samples, centred)

    def _in_chain(
        self, graph: NetworkGraph, i: int, kept: np.ndarray, chosen: Format, primitive: str, sparse: bool
    ) -> LayerState:
        factored, node, adapts = self._factored_layer(graph, i, kept), graph.nodes[i], primitive not in NEAREST
        paired, bits = self._paired(node), chosen.weight_bits
        key = (node.layer, factored.key, bits, adapts, sparse)
        found = self._of_chains.get(
            key, factored.elements, lambda: weights_of(factored, node, bits, adapts, sparse, paired)
        )
        rows, columns = factored.places(node)
        if graph.starts_chain(i):
            activation = self._range(str(node.attributes.replaces), chosen.activation_bits)
            activation = self._rectified(graph, node, activation)
        else:
            activation = self._inner_range(graph, i, kept, chosen.activation_bits)
        return LayerState(rows, columns, found.weight, found.bias, found.quantized, activation, sparse)

    def _inner_range(self, graph: NetworkGraph, i: int, kept: np.ndarray, bits: int) -> ActivationQuantizer | None:
        """The quantizer of what a layer of a chain, not the first, reads."""
        layer = str(graph.nodes[i].layer)
        if bits == FLOAT_BITS or (layer, bits) in self.ranges:
            return None if bits == FLOAT_BITS else self.ranges[layer, bits]
        factored = self._factored_layer(graph, i, kept)
        if factored.inner is None:
            return self._range(layer, bits)  # raises
        if bits not in factored.ranges:
            values = factored.inner.reshape(-1)
            ends = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
            factored.ranges[bits] = fit_activation(values, *ends, bits, self.symmetric)
        return factored.ranges[bits]

    def _layer(
        self, graph: NetworkGraph, i: int, kept: np.ndarray, chosen: Format, primitive: str, sparse: bool
    ) -> LayerState:
        node = graph.nodes[i]
        assert node.layer is not None and node.weight_shape is not None
        rows, columns = self._places(graph, node, kept)
        whole, shift = self._read(node, columns)
        if sparse:
            whole, moved = self._sparsified(node, whole, columns)
            shift = shift - moved
        scaling = self.scalings.get((node.layer, str(chosen), primitive))
        scale = None if scaling is None else scaling.scale[columns]
        moves = None if scaling is None or scaling.shift is None else scaling.shift[columns]
        shift = shift if moves is None else shift + whole @ moves
        whole = whole if scale is None else whole * scale
        weight = whole[rows]
        quantized = None
        if chosen.weight_bits < FLOAT_BITS:
            rounded, moved = self._round(node, whole, chosen, columns, primitive, sparse)
            quantized = rounded.rows(rows)
            weight, shift = quantized.dequantized(), shift - moved
        own = 0 if node.bias is None else self.parameters[node.bias][rows]
        bias = None if node.bias is None and moves is None else (own + shift[rows]).astype(np.float32)
        activation = self._range(node.layer, chosen.activation_bits) if scaling is None else scaling.activation
        activation = activation if moves is not None else self._rectified(graph, node, activation)
        row_bits = None if scaling is None else scaling.row_bits
        return LayerState(rows, columns, weight, bias, quantized, activation, sparse, scale, row_bits, moves)

    def _rectified(
        self, graph: NetworkGraph, node: Node, activation: ActivationQuantizer | None
    ) -> ActivationQuantizer | None:
        """The quantizer of what a layer reads, without levels below zero where a ReLU stands for another activation."""
        own = self.graph.nodes[self.graph.layers[node.attributes.replaces or str(node.layer)]]
        if activation is None or not graph.never_negative(node.inputs[0]) or self.graph.never_negative(own.inputs[0]):
            return activation
        return activation.above_zero

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
        self, node: Node, weight: np.ndarray, some: Format, columns: np.ndarray, primitive: str, sparse: bool
    ) -> tuple[QuantizedWeight, np.ndarray]:
        """The weight of all outputs for the kept inputs, times the scales of its input, rounded, and the shift of each
        output's mean by that, (out,). Of a sparse one the zeros stay zeros."""
        layer, bits = str(node.layer), some.weight_bits
        adapts = primitive not in NEAREST and bits < 8 and layer in self.patches
        how: Hashable = (str(some), primitive) if (layer, str(some), primitive) in self.scalings else adapts
        how = primitive if primitive == GPTQ and adapts and not sparse else how
        how = (how, some.group) if some.group else how
        key = (layer, bits, np.packbits(columns).tobytes(), how, sparse)
        return self._rounded.get(
            key, weight.size, lambda: self._round_anew(node, weight, some, columns, primitive, sparse)
        )

    def _round_anew(
        self, node: Node, weight: np.ndarray, some: Format, columns: np.ndarray, primitive: str, sparse: bool
    ) -> tuple[QuantizedWeight, np.ndarray]:
        layer, bits = str(node.layer), some.weight_bits
        halves = bits == 1  # there is no zero between the two levels of a bit
        if some.group and (sparse or layer not in self.patches):
            return to_nearest(weight, some), np.zeros(len(weight), np.float32)
        if primitive in NEAREST or bits >= 8 or layer not in self.patches:
            paired = self._paired(node)
            nearest = nearest_halves(weight, bits) if halves else quantize_weight(weight, bits, None, paired)
            return nearest, np.zeros(len(weight), np.float32)
        taps = math.prod(weight.shape[2:])
        patches = self.patches[layer].of(np.repeat(columns, taps))
        if scaling := self.scalings.get((layer, str(some), primitive)):
            moved_in = patches if scaling.shift is None else patches.shifted(scaling.shift[columns])
            patches = moved_in.divided(scaling.scale[columns])
        corrected = node.bias is not None or bool(scaling and scaling.shift is not None)
        centred = corrected or layer in self._normalised
        if primitive in (AWQ, GPTQ) and not sparse and not halves:
            rounded = rounded_by(primitive, weight, some, patches, centred)
        else:  # other plans cut other channels, which are rounded again
            quick = not columns.all() and len(weight[0].reshape(-1)) > WIDE
            rounded = adaptive_rounding(weight, bits, patches.damped(centred), quick, halves, keeps_zeros=sparse)
        moved = np.zeros(len(weight), np.float32)
        if corrected and layer not in self._normalised:
            moved = patches.mean_output(rounded.dequantized() - weight)
        return rounded, moved

    def _paired(self, node: Node) -> bool:
        """Whether weights are limited in pairs; those of one channel each are multiplied in more bits."""
        return bool(self.tensors) and self.int16_sums and not node.depthwise

    def _range(self, layer: str, bits: int) -> ActivationQuantizer | None:
        if bits == FLOAT_BITS:
            return None
        if (layer, bits) not in self.ranges:
            raise ValueError(f"the input of layer {layer} was not calibrated for {bits} bits")
        return self.ranges[layer, bits]
