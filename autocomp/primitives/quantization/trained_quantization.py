"""The common part of the quantizers that train: apply to a network, train it with their callbacks, convert it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError
from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.compression_state import CompressionState, attach, state_of
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic import ElasticNetwork
from autocomp.primitives.cells.fake_quant import InputFakeQuant, WeightFakeQuant, assign
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.cells.trained_layers import TrainedLayer, trained_layer, trains_rounded
from autocomp.primitives.cells.training_callbacks import CalibrateBatchNorm, CalibrateFirst
from autocomp.primitives.numerics.adaptive_rounding import WIDE
from autocomp.primitives.numerics.calibrators import Calibration, range_of, seen_in
from autocomp.primitives.numerics.first_last_layers import first_and_last
from autocomp.primitives.numerics.patches import PATCHES, PatchSums, narrow_layers, sample_patches
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, PlanCompressor, parameters_of
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.primitives.tracing.surgery import cell_at, rename_parameters, replace_cells
from autocomp.primitives.tracing.tracer import as_float32, trace
from autocomp.primitives.tracing.weight_layout import weight_of
from autocomp.primitives.verification.standalone import inputs_for
from autocomp.rules import checked
from autocomp.search_spaces import FLOAT_BITS, Format, NetworkGraph, Plan, SearchSpace, foldable, split_value

CALIBRATED = 256  # most images for calibration, 32 at a time
CHUNK = 32
KEPT_VALUES = 1_000_000  # of a layer's input for a chunk, at random; otherwise large images would fill the memory


class TrainedQuantization:
    """Quantization-aware training of all convolution and dense layers of a network.

    >>> algorithm = SimQAT(weight_bits=4, activation_bits=8)
    >>> net_q = algorithm.apply(net)                      # a new Cell; net is not changed
    >>> ms.Model(net_q, loss, optimizer).train(5, train_set, callbacks=algorithm.callbacks())
    >>> deploy = algorithm.convert(net_q)                 # integers stored, BatchNorm folded

    Args:
        weight_bits, activation_bits: 2 to 8, or 32 for none.
        first_last_bits: bits of weights and inputs of the first layer (that reads the network's input) and the last one
            (that writes its output; see :mod:`autocomp.primitives.numerics.first_last_layers`), where the bits above
            are fewer; None treats them like all others. Published results below 8 bits keep the first and the last
            layer at 8 bits (LSQ) or in float (PACT, SLB).
        calibration: how ranges are found before training: "mse", "minmax", "percentile" or "kl".

    Subclasses define the quantizers of a layer's weight and of its input.
    """

    name = "trained"
    adapts = False  # whether weights start with the rounding of least output error, after calibration

    def __init__(
        self,
        weight_bits: int = 8,
        activation_bits: int = 8,
        first_last_bits: int | None = 8,
        calibration: Calibration = "mse",
    ) -> None:
        for argument, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
            self._check_bits(argument, bits)
        if first_last_bits is not None:
            _check("first_last_bits", first_last_bits, 2)
        self.weight_bits, self.activation_bits, self.first_last_bits = weight_bits, activation_bits, first_last_bits
        self.calibration = calibration
        self.signed_inputs = False  # set it for a runtime without zero points, such as TensorRT
        self._last: Any = None  # the network of the last apply, for callbacks

    def _check_bits(self, argument: str, bits: int) -> None:
        _check(argument, bits, 2)

    def weight_quantizer(self, weight: np.ndarray, norm: Any, bits: int) -> WeightFakeQuant:
        """The quantizer of a layer's weight.

        weight: (out, ...); norm: the BatchNorm cell after the layer, where only that reads the layer's output, or None;
            bits: the algorithm's own for this layer; a plan may set others.
        """
        raise NotImplementedError

    def state_of(self, norm: Any, bits: int) -> Any:
        """A BatchNorm for the statistics of the deployed weight; None: the network's own BatchNorm has them."""
        return None

    def input_quantizer(self, positive: bool) -> InputFakeQuant:
        """positive: the layer's input is never negative."""
        raise NotImplementedError

    @checked(RULES["apply"])
    def apply(
        self,
        net: Any,
        inputs: Any = None,
        calibrate: np.ndarray | tuple[np.ndarray, ...] | None = None,
        plan: Plan | Mapping[str, Any] | None = None,
    ) -> Any:
        """A new Cell of the same class, with the same parameter names and some more, that rounds while it trains.

        Args:
            net: a MindSpore Cell; it is copied, never changed.
            inputs: as ``autocomp.search`` takes them; None uses ``calibrate``, or else tries the usual image sizes.
            calibrate: arrays (n, ...) to find the ranges of inputs on; None: the callbacks use the first batches of the
                training set.
            plan: bits by layer, ``{"format/conv1": "w4a8"}``; layers that it does not name stay float. None: the
                algorithm's own bits in all layers.

        Raises:
            TypeError: net is no Cell. NoEffectError: it has no nn.Conv2d and no nn.Dense.
        """
        net = as_float32(net)
        arrays = calibrate if isinstance(calibrate, tuple) or calibrate is None else (calibrate,)
        graph = trace(net, inputs_for(net, inputs if inputs is not None or arrays is None else tuple(arrays)))
        original = copy_network(net)
        twin = copy_network(net)
        names = {id(p): p.name for p in twin.get_parameters()}
        norms = {layer: cell_at(twin, norm) for norm, layer in foldable(graph).items()}
        cells = {path: cell for path in graph.layers if trains_rounded(cell := cell_at(twin, path))}
        if not cells:
            raise NoEffectError(f"{self.name} found no nn.Conv2d and no nn.Dense to quantize")
        layers = {path: self._layer(cell, graph, path, norms.get(path)) for path, cell in cells.items()}
        replace_cells(twin, layers)
        rename_parameters(twin, names)
        attach(twin, CompressionState(original, graph, layers))
        self._last = twin
        self.set_plan(twin, plan)
        if arrays is not None:
            self.calibrate(twin, arrays)
        return twin.set_train(net.training)

    def _layer(self, layer: Any, graph: NetworkGraph, path: str, norm: Any) -> TrainedLayer:
        positive = not self.signed_inputs and all(graph.never_negative(node.inputs[0]) for node in graph.calls(path))
        weight = weight_of(graph.nodes[graph.layers[path]], {layer.weight.name: layer.weight.asnumpy()})
        bits = self._own(graph)[path].weight_bits
        quantizers = self.weight_quantizer(weight, norm, bits), self.input_quantizer(positive)
        return trained_layer(layer, *quantizers, norm, self.state_of(norm, bits))

    # plans -----------------------------------------------------------------------------------------------------------

    @checked(RULES["set_plan"])
    def set_plan(self, net_q: Any, plan: Plan | Mapping[str, Any] | None = None) -> None:
        """Set the bits of every layer; compiles nothing.

        The range of an input whose bits change starts from the calibration again; other ranges stay the same.
        ValueError for a layer that the network does not have.
        """
        applied = state_of(net_q)
        formats = self._own(applied.graph) if plan is None else _formats(applied.graph, plan)
        applied.tables = {path: chosen for path, chosen in formats.items() if path in applied.graph.embeddings}
        known = (*applied.layers, *applied.graph.embeddings)
        left = [path for path, chosen in formats.items() if path not in known and chosen != Format()]
        if left and plan is not None:
            raise ValueError(
                f"{self.name} trains nn.Conv2d and nn.Dense; in its plans {', '.join(left)} must stay in float"
            )
        for path, layer in applied.layers.items():
            chosen = formats.get(path, Format())
            layer.weight_quantizer.set_bits(chosen.weight_bits, layer.in_rows(layer.weight.asnumpy()))
            before = layer.input_quantizer.bits
            layer.input_quantizer.set_bits(chosen.activation_bits)
            if chosen.activation_bits != before:
                self._start_range(applied, path)
        self._adapt(applied)

    def _adapt(self, applied: CompressionState) -> None:
        for path, patches in applied.patches.items():
            if not self._adapts(path):
                continue
            layer, weight = applied.layers[path], applied.layers[path].weight.asnumpy()
            moment = patches.damped(centred=layer.norm is not None)
            assign(layer.weight, layer.weight_quantizer.adapted(weight, moment, quick=moment.shape[-1] > WIDE))

    def _adapts(self, path: str) -> bool:
        return self.adapts

    def _own(self, graph: NetworkGraph) -> dict[str, Format]:
        first_last = first_and_last(graph) if self.first_last_bits is not None else frozenset()
        return {
            path: Format(*(max(bits, self.first_last_bits or 0) if path in first_last else bits for bits in self._bits))
            for path in graph.layers
        }

    @property
    def _bits(self) -> tuple[int, int]:
        return self.weight_bits, self.activation_bits

    # ranges ----------------------------------------------------------------------------------------------------------

    def calibrate(self, net_q: Any, arrays: tuple[np.ndarray, ...]) -> None:
        """Find the range of every layer's input on these samples, (n, ...) each, with the float network."""
        applied, rng = state_of(net_q), np.random.default_rng(0)
        seen: dict[str, list[np.ndarray]] = {path: [] for path in applied.layers}
        sums = {path: PatchSums() for path in narrow_layers(applied.graph, applied.layers)} if self.adapts else {}
        share = -(-PATCHES * CHUNK // min(len(arrays[0]), CALIBRATED))
        for path, values, calls in self._layer_inputs(applied, arrays):
            seen[path].append(_thinned(values, KEPT_VALUES // calls, rng))
            if path in sums:
                node = applied.graph.nodes[applied.graph.layers[path]]
                sums[path].add(sample_patches(node, values, -(-share // calls), rng))
        applied.patches = {path: found.moments() for path, found in sums.items() if found.count}
        self._adapt(applied)
        applied.seen = {path: seen_in(parts) for path, parts in seen.items() if parts}
        for path in applied.layers:
            self._start_range(applied, path)
        applied.calibrated = True

    def _start_range(self, applied: CompressionState, path: str) -> None:
        quantizer = applied.layers[path].input_quantizer
        if quantizer.bits < FLOAT_BITS and path in applied.seen:
            quantizer.start(range_of(applied.seen[path], quantizer.bits, self.calibration))

    def _layer_inputs(
        self, applied: CompressionState, arrays: tuple[np.ndarray, ...]
    ) -> Iterator[tuple[str, np.ndarray, int]]:
        """A layer, the input of one of its calls for some samples in the float network, and the number of its calls."""
        elastic = ElasticNetwork(applied.original, applied.graph)
        for start in range(0, min(len(arrays[0]), CALIBRATED), CHUNK):
            chunk = tuple(array[start : start + CHUNK] for array in arrays)
            for path, calls in elastic.layer_inputs(chunk, applied.layers).items():
                yield from ((path, values, len(calls)) for values in calls)

    # training and after ----------------------------------------------------------------------------------------------

    def callbacks(self) -> list[Any]:
        """For ``mindspore.Model.train``, for the network of the last ``apply``."""
        self._check_applied()
        return [CalibrateFirst(self, self._last), CalibrateBatchNorm(self._last)]

    def _check_applied(self) -> None:
        if self._last is None:
            raise ValueError(f"{self.name}.callbacks() belongs to a network: call apply(net) first")

    def quantized(self, net_q: Any) -> CompressedWeights:
        """The trained network in numbers: integers and scales of its weights, ranges of its inputs."""
        applied = state_of(net_q)
        whole, trained = np.ones(applied.graph.unit_count, bool), parameters_of(net_q)
        plain = PlanCompressor(SearchSpace(applied.graph, ()), trained).of(whole, applied.tables)
        states = dict(plain.layers)
        for path, layer in applied.layers.items():
            quantized = layer.weight_quantizer.quantized(layer.in_rows(trained[layer.weight.name]))
            weight = states[path].weight if quantized is None else quantized.dequantized()
            states[path] = replace(
                states[path], weight=weight, quantized=quantized, activation=layer.input_quantizer.quantizer()
            )
        return CompressedWeights(Plan(), whole, states, tables=plain.tables)

    def convert(self, net_q: Any) -> Any:
        """A new Cell for deployment: BatchNorm folded, weights stored as integers, inputs rounded.

        ValueError for a network that did not come from ``apply``.
        """
        applied = state_of(net_q)
        trained = parameters_of(net_q)
        twin = copy_network(applied.original)
        for parameter in twin.get_parameters():
            parameter.set_data(ms.Tensor(trained[parameter.name]))
        return convert(twin, applied.graph, parameters_of(twin), self.quantized(net_q))


def _thinned(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most about ``count`` values, at random, and both extremes."""
    if values.size <= count:
        return values
    some = rng.choice(values.reshape(-1), count, replace=False, shuffle=False)
    return np.append(some, [values.min(), values.max()]).astype(values.dtype)


def _formats(graph: NetworkGraph, plan: Plan | Mapping[str, Any]) -> dict[str, Format]:
    found = {}
    for name, value in plan.items():
        kind, _, path = name.partition("/")
        if kind != "format" or path not in graph.rounded_places:
            layers = ", ".join(graph.rounded_places)
            raise ValueError(f"a plan for training sets 'format/<layer>', but got {name!r}; layers: {layers}")
        found[path] = Format.parse(str(split_value(value)[0]))
    return found


def _check(argument: str, bits: int, least: int) -> None:
    if bits != FLOAT_BITS and not least <= bits <= 8:
        raise ValueError(f"{argument} must be {least} to 8, or {FLOAT_BITS} for none, but got {argument}={bits}")
