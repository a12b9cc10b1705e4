"""Collects an ONNX model operator by operator: the layers, their weights and the rounding of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from autocomp.errors import ExportError
from autocomp.primitives.numerics.bit_packing import pack_bits
from autocomp.primitives.numerics.folding import fold, norm_factors, norm_parameters
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, Parameters, kept_channels
from autocomp.primitives.numerics.quantizers import (
    ActivationQuantizer,
    QuantizedWeight,
    saturates,
    with_room_for_bias,
)
from autocomp.primitives.tracing.batch_axis import growing_axes
from autocomp.primitives.tracing.nodes import CONSTANT
from autocomp.primitives.tracing.weight_layout import groups_left, to_out_first_layout
from autocomp.search_spaces import MAX_POOLS, Argument, NetworkGraph, Node, foldable

from .onnx_inputs import divided, rounded_by_row
from .onnx_tables import whole_table
from .onnx_types import shared

OPSET, OPSET_INT4, IR_VERSION = 18, 21, 10
ARGUMENTS = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)  # of unexpected arguments
MEAN, VARIANCE, TAP, OUTPUT = "#mean", "#variance", "#input", "#output"
MICROSOFT = "com.microsoft"  # the domain of onnxruntime's own operators
REWRITES = ["WeightBiasQuantization"]  # disabled: it rounds weights and biases of layers with rounded inputs


@dataclass
class Style:
    """How the model is written.

    integer_weights: store int8 and int4 (export), else the rounded float32 (evaluation).
    unpacks_at_load: integers that are multiplied as floats are converted by operators that onnxruntime computes once,
        when it loads the file; else by DequantizeLinear, which TensorRT requires, and onnxruntime would run each time.
    packed_dense: whether dense layers of one row multiply weights of 4 bits as they are stored, which onnxruntime does.
    fast_groups: whether convolutions with groups have the forms for which onnxruntime has fast kernels.
    statistics: keep every BatchNorm, normalise by the batch, and return the mean and variance of each as
        ``<node>#mean`` and ``<node>#variance``.
    taps: also return the input of every layer, as ``<node>#input``, once for each time that it runs.
    tapped: indices of nodes whose outputs are returned, too, as ``<node>#output``.
    """

    integer_weights: bool = False
    unpacks_at_load: bool = True
    packed_dense: bool = False
    fast_groups: bool = False
    statistics: bool = False
    taps: bool = False
    tapped: frozenset[int] = frozenset()


class Writer:
    """Collects nodes and initializers; :mod:`onnx_operators` has the form of each operator."""

    def __init__(
        self, graph: NetworkGraph, parameters: Parameters, compressed: CompressedWeights, style: Style
    ) -> None:
        self.graph, self.parameters, self.compressed, self.style = graph, parameters, compressed, style
        self.nodes: list[onnx.NodeProto] = []
        self.unpacking: list[onnx.NodeProto] = []  # nodes that convert stored integers to floats
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.held: dict[tuple[Any, ...], str] = {}  # type, shape and numbers of large constants -> name
        self.inputs: list[onnx.ValueInfoProto] = []
        self.extra_outputs: list[str] = []
        self.names: list[tuple[str, ...]] = []
        self.flow = graph.integer_flow
        self.firsts = {end: i for i, end in reversed(list(enumerate(self.flow.end)))}  # of the nodes that are fused
        self.constants: dict[str, int] = {}  # returned as they are -> type
        self.opset = OPSET
        self.batch_axis = growing_axes(graph)
        self.position = -1  # of the present node
        self.folds = {} if style.statistics else foldable(graph)  # BatchNorm -> layer
        self.folded_into = {layer: bn for bn, layer in self.folds.items()}
        self.norms = {node.layer: node for node in graph.nodes if node.kind == "batchnorm" and node.layer}
        roundings = [state.activation for state in compressed.layers.values() if state.activation is not None]
        roundings += compressed.tensors.values()
        signed = bool(roundings) and all(one.symmetric for one in roundings)  # TensorRT requires it
        self.signed = signed and not compressed.flows
        self.tables = {graph.nodes[graph.embeddings[p]].table: table for p, table in compressed.tables.items()}
        self.weights: dict[str, str] = {}  # name of a layer's integers -> name of their floats
        self.quantized_inputs: dict[tuple[str, ActivationQuantizer], str] = {}
        self.shared: dict[str, str] = {}  # tensors beside the graph's that several layers read
        self.on_grid: dict[str, ActivationQuantizer] = {}  # tensors that are rounded already -> how
        self.integers: set[str] = set()  # those of them that kernels in integers write
        self.unrounded: dict[str, str] = {}  # the others -> as they were before

    # used by operators ----------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; its first output is called ``name``."""
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(value, dtype)
        array = np.atleast_1d(array) if dtype == np.int64 else array  # axes and sizes are lists in ONNX
        return self.initializer(f"#{len(self.initializers)}", array)

    def initializer(self, name: str, array: np.ndarray | np.generic) -> str:
        """A scalar stays a scalar: with scalar bounds and scales onnxruntime can run a layer in integers."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def argument(self, argument: Argument) -> str:
        """The tensor name of a node, parameter or constant argument."""
        kind, value, part = argument
        if kind == "node":
            parts = self.names[value]
            return parts[part] if part < len(parts) else f"{parts[0]}:{part}"
        if kind == "parameter" and value in self.tables and self.style.integer_weights:
            return whole_table(self, value)
        if kind == "parameter":
            return value if value in self.initializers else self.initializer(value, self.parameter(value))
        if kind == "constant" and isinstance(value, (int, float, np.ndarray)):
            if isinstance(value, np.ndarray):
                whole = value.dtype.kind in "iub"
                return shared(self, f"#constant{len(self.initializers)}", value if whole else value.astype(np.float32))
            return self.constant(value, np.float32)
        raise ExportError(f"a constant of type {type(value).__name__} cannot be written to ONNX")

    def parameter(self, name: str) -> np.ndarray:
        """A parameter that is read as it is; an embedding's table as the plan rounds it."""
        table = self.tables.get(name)
        return self.parameters[name] if table is None else table.dequantized()

    # layers ----------------------------------------------------------------------------------------------------------

    def state(self, layer: str) -> LayerState:
        """The layer's weights, with the BatchNorm after it folded in where that is possible."""
        state = self.compressed.layers[layer]
        if layer in self.folded_into:
            norm = self.norms[self.folded_into[layer]]
            state = fold(state, *norm_factors(norm, self.parameters, self.compressed))
        if self.multiplies_integers(self.graph.nodes[self.graph.layers[layer]], state):
            assert state.quantized is not None and state.activation is not None
            wide = with_room_for_bias(state.quantized, state.bias, state.activation.scale)
            state = replace(state, quantized=wide)
        return state

    def layer_source(self, node: Node) -> str:
        source = self.argument(Argument("node", node.inputs[0], node.arguments[0].part))
        if self.style.taps:
            tap = f"{node.name}{TAP}"
            self.extra_outputs.append(self.emit("Identity", [source], tap))
        return source

    def layer_input(self, node: Node, state: LayerState) -> str:
        source = divided(self, self.layer_source(node), state, node.name)
        if state.row_bits is not None:
            return rounded_by_row(self, source, state.row_bits, node.name)
        if state.activation is None or self.on_grid.get(source) == state.activation:
            return source
        key = (source, state.activation)
        if key not in self.quantized_inputs:
            self.quantized_inputs[key] = self.rounded(source, state.activation, f"{node.name}#rounded")
        return self.quantized_inputs[key]

    def rounded(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        scale = self.initializer(f"{name}.scale", np.float32(quantizer.scale))
        point = np.int8(0) if self.signed else np.uint8(quantizer.zero_point)
        zero = self.initializer(f"{name}.zero_point", point)
        if quantizer.bits < 8:
            source = self._clipped(source, quantizer, f"{name}.clip")
        levels = self.emit("QuantizeLinear", [source, scale, zero], f"{name}.levels")
        return self.emit("DequantizeLinear", [levels, scale, zero], name)

    def layer_weight(self, node: Node, state: LayerState, columns: bool = False) -> str:
        """columns: (in, out) instead of (out, in), of a dense layer."""
        name = node.weight
        groups = groups_left(node, len(state.weight))
        if name in self.weights:  # the layer runs more than once
            return self.weights[name]
        before = len(self.nodes)
        if state.quantized is None or not self.style.integer_weights:
            floats = to_out_first_layout(state.weight, groups) if node.transposed else state.weight
            self.weights[name] = self.initializer(name, floats.T if columns else floats)
        elif self.multiplies_integers(node, state):
            exact = node.depthwise or not (self.compressed.int16_sums and saturates(state.quantized))
            quantized = state.quantized.with_positive_scale()
            self.weights[name] = self._multiplied(name, quantized, columns, exact, node.kind == "dense")
        else:  # ONNX requires a positive scale
            folded = self.style.unpacks_at_load and state.activation is None
            weight = self._dequantized(name, state.quantized.with_positive_scale(), folded)
            weight = self._to_out_first_layout(weight, state.weight.shape, groups) if node.transposed else weight
            self.weights[name] = self.emit("Transpose", [weight], f"{name}.columns", perm=[1, 0]) if columns else weight
        self.unpacking += self.nodes[before:]
        del self.nodes[before:]
        return self.weights[name]

    def _multiplied(self, name: str, weight: QuantizedWeight, columns: bool, exact: bool, dense: bool) -> str:
        """Integers that onnxruntime multiplies as they are: it needs 8 bits, and for dense layers zero points. It
        unpacks 4 bits once, when it loads the file.

        exact: whether its kernel for signed weights adds products without saturation; that for unsigned ones always
        does, and is slower.
        """
        levels = np.ascontiguousarray(weight.integers.T) if columns else weight.integers
        scale = self.initializer(f"{name}.scale", weight.scale.reshape(-1))
        if not exact:
            levels = (levels.astype(np.int16) + 128).astype(np.uint8)
        arguments = [self.stored(name, levels, weight.bits), scale]
        if dense or not exact:
            zeros = np.full(weight.scale.size, 0 if exact else 128, levels.dtype)
            arguments.append(self.initializer(f"{name}.zero_points", zeros))
        if weight.bits <= 4:
            arguments[0] = self.emit("Cast", arguments[:1], f"{name}.int8", to=TensorProto.INT8)
        return self.emit("DequantizeLinear", arguments, f"{name}.float", axis=int(columns))

    def _unpacked(self, integers: str, scale: np.ndarray, rank: int) -> str:
        """Integers (out, ...) times the scale of each output."""
        column = self.initializer(f"{integers}.scale", scale.reshape(-1, *[1] * (rank - 1)))
        floats = self.emit("Cast", [integers], f"{integers}.cast", to=TensorProto.FLOAT)
        return self.emit("Mul", [floats, column], f"{integers}.float")

    def _to_out_first_layout(self, weight: str, shape: tuple[int, ...], groups: int) -> str:
        """See :func:`weight_layout.to_out_first_layout`; a scale for each output channel must be on the first axis."""
        rows, columns, *kernel = shape
        parted = self.constant([groups, rows // groups, columns, *kernel])
        weight = self.emit("Reshape", [weight, parted], f"{weight}.parted")
        weight = self.emit("Transpose", [weight], f"{weight}.turned", perm=[0, 2, 1, 3, 4])
        back = self.constant([groups * columns, rows // groups, *kernel])
        return self.emit("Reshape", [weight, back], f"{weight}.whole")

    def _dequantized(self, name: str, weight: QuantizedWeight, folded: bool) -> str:
        if weight.scale.ndim == 1 and weight.zero_point is None:
            integers = self.stored(name, weight.integers, weight.bits)
            if folded:
                return self._unpacked(integers, weight.scale, weight.integers.ndim)
            scale = self.initializer(f"{name}.scale", weight.scale)
            return self.emit("DequantizeLinear", [integers, scale], f"{name}.float", axis=0)
        # A row for each scale. onnxruntime's integer convolution takes no zero point for a channel: the Reshape keeps
        # the layer in float.
        if folded and weight.zero_point is None:
            stored = self.stored(name, weight.integers.reshape(weight.scale.size, -1), weight.bits)
            parted = self._unpacked(stored, weight.scale.reshape(-1), 2)
            return self.emit("Reshape", [parted, self.constant(list(weight.integers.shape))], f"{name}.whole")
        scale = self.initializer(f"{name}.scale", weight.scale.reshape(-1))
        arguments = [self.stored(name, weight.integers.reshape(weight.scale.size, -1), weight.bits), scale]
        if weight.zero_point is not None:
            arguments.append(self.stored(f"{name}.zero_point", weight.zero_point.reshape(-1), weight.bits))
        parted = self.emit("DequantizeLinear", arguments, f"{name}.parted", axis=0)
        return self.emit("Reshape", [parted, self.constant(list(weight.integers.shape))], f"{name}.float")

    def stored(self, name: str, integers: np.ndarray, bits: int) -> str:
        if bits > 4:
            return self.initializer(name, integers)
        self.opset = OPSET_INT4
        packed = pack_bits(integers, 4).tobytes()  # as ONNX packs them; helper.make_tensor needs more bytes
        self.initializers[name] = TensorProto(
            name=name, data_type=TensorProto.INT4, dims=integers.shape, raw_data=packed
        )
        return name

    def layer_bias(self, node: Node, state: LayerState) -> list[str]:
        """In integers of 32 bits where the weights and the inputs are integers: so onnxruntime's kernels take it.
        TensorRT, which has no zero points, takes floats."""
        if state.bias is None:
            return []
        name, quantized = f"{node.layer}.bias", state.quantized
        if not self.multiplies_integers(node, state):
            return [self.initializer(name, state.bias)]
        assert quantized is not None and state.activation is not None
        scale = np.float32(state.activation.scale) * np.abs(quantized.scale)
        levels = np.clip(np.rint(state.bias / scale), -(2**31), 2**31 - 1).astype(np.int32)
        stored = [self.initializer(f"{name}.integers", levels), self.initializer(f"{name}.scale", scale)]
        self.unpacking.append(helper.make_node("DequantizeLinear", stored, [name], name=name, axis=0))
        return [name]

    def multiplies_integers(self, node: Node, state: LayerState) -> bool:
        """Whether onnxruntime multiplies the stored integers: one scale for each output, no zero points."""
        quantized, style = state.quantized, self.style
        if quantized is None or state.activation is None or not style.integer_weights or self.signed:
            return False
        if node.transposed and not node.has_phases:
            return False
        flows = bool(self.compressed.tensors) or self.compressed.flows
        return flows and quantized.scale.ndim == 1 and quantized.zero_point is None

    def batchnorm(self, node: Node) -> str:
        assert node.layer is not None
        source = self.argument(node.arguments[0])
        if node.layer in self.folds:
            return source
        arrays = norm_parameters(node, self.parameters, self.compressed)
        values = zip(("gamma", "beta", "mean", "variance"), arrays, strict=True)
        names = [self.initializer(f"{node.name}.{name}", value) for name, value in values]
        if self.style.statistics:
            return self._batch_statistics(node, source, names)
        return self.emit("BatchNormalization", [source, *names], node.name, epsilon=node.normalization.epsilon)

    def _batch_statistics(self, node: Node, source: str, values: list[str]) -> str:
        """The tensor normalised by the batch; with momentum 0 the operator also returns the batch's mean and
        variance."""
        name, epsilon = node.name, node.normalization.epsilon
        self.extra_outputs += [f"{name}{MEAN}", f"{name}{VARIANCE}"]
        outputs = [name, *self.extra_outputs[-2:]]
        settings: dict[str, Any] = {"epsilon": epsilon, "momentum": 0.0, "training_mode": 1}
        self.nodes.append(helper.make_node("BatchNormalization", [source, *values], outputs, name=name, **settings))
        return name

    def kept(self, node: Node) -> np.ndarray:
        return kept_channels(node.units, self.compressed.kept)

    # the model -------------------------------------------------------------------------------------------------------

    def model(self, forms: Mapping[str, Form]) -> onnx.ModelProto:
        """forms: the ONNX form of each of MindSpore's operators; ExportError for an operator without one."""
        for position, node in enumerate(self.graph.nodes):
            self.position = position
            form = forms.get(node.op)
            form = Writer._constant if node.op == CONSTANT else form
            if form is None:
                raise ExportError(
                    f"MindSpore's operator {node.op} has no ONNX form in autocomp; {called(node)} calls it: write it "
                    "with operators of docs/reference/operators.md, or export to .mindir, which takes every operator"
                )
            try:
                names = form(self, node)
            except ARGUMENTS as error:
                raise ExportError(
                    f"{node.op} (at {node.name}) has arguments that autocomp cannot write to ONNX; "
                    f"{called(node)} calls it"
                ) from error
            self.names.append(self._finished(node, (names,) if isinstance(names, str) else names))
        values = [self._output(node, f"output_{i}") for i, node in enumerate(self.graph.outputs)]
        values += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.extra_outputs]
        # onnxruntime computes the later of two input nodes first. Placed first, a weight's floats are computed last and
        # held only while their layer runs. Placed later, they would all be computed before the first layer.
        nodes = _read([*self.unpacking, *self.nodes], {value.name for value in values})
        read = {name for node in nodes for name in node.input}
        stored = [tensor for name, tensor in self.initializers.items() if name in read]
        graph = helper.make_graph(nodes, "network", self.inputs, values, stored)
        opsets = [helper.make_opsetid("", self.opset)]
        if any(node.domain == MICROSOFT for node in nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="autocomp")

    def _finished(self, node: Node, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names that readers of the node's outputs use: of the rounded tensor where the plan rounds it."""
        if self.position in self.style.tapped:
            self.extra_outputs.append(self.emit("Identity", [names[0]], f"{node.name}{OUTPUT}"))
        quantizer = self.compressed.tensors.get(self.position) or self._pooled_grid(node)
        if quantizer is None or self.on_grid.get(names[0]) == quantizer:
            return names
        source = names[0]
        if node.op in MAX_POOLS and not self._written_in_integers():
            source = self._clipped(source, quantizer, f"{node.name}#clipped")
        name = self.rounded(source, quantizer, f"{node.name}#quantized")
        self.on_grid[name] = quantizer
        if self._written_in_integers():
            self.integers.add(name)
        else:
            self.unrounded[name] = names[0]
        return (name, *names[1:])

    def _written_in_integers(self) -> bool:
        """Whether a kernel in integers writes the present node's rounded output, instead of a separate operator."""
        node = self.graph.nodes[self.firsts[self.position]]
        if self.signed:  # TensorRT finds its own way
            return True
        if node.layer is not None and node.weight_shape is not None:
            return self.multiplies_integers(node, self.compressed.layers[node.layer])
        inputs = [self.names[i][0] for i in node.inputs]
        moves = self.flow.source[self.position] != self.position
        computes = bool(self.flow.conditions[self.position].all)
        return all(name in (self.integers if moves else self.on_grid) for name in inputs) and (moves or computes)

    def _pooled_grid(self, node: Node) -> ActivationQuantizer | None:
        """How the input of a max pool is rounded: so is what it gives, and onnxruntime has no slow pool of integers if
        floats are pooled and then rounded again."""
        return self.on_grid.get(self.argument(node.arguments[0])) if node.op in MAX_POOLS else None

    def pooled(self, node: Node) -> str:
        """The input of a max pool: not yet rounded where floats are written, since onnxruntime pools integers fast only
        where they have the channels last. The greatest of rounded numbers is the greatest number, rounded."""
        name = self.argument(node.arguments[0])
        return self.unrounded.get(name, name)

    def _clipped(self, source: str, quantizer: ActivationQuantizer, name: str) -> str:
        """Clipped as rounding clips: this keeps onnxruntime from rounding before a pool, and it removes it later."""
        low, high = (np.float32(bound) * np.float32(quantizer.scale) for bound in quantizer.bounds)
        return self.emit("Clip", [source, self.constant(low, np.float32), self.constant(high, np.float32)], name)

    def rounded_before_moves(self, source: str, name: str) -> str:
        """The tensor, which the present node only moves afterwards, rounded as its result will be: onnxruntime does not
        look for the rounding behind several operators."""
        quantizer = self.compressed.tensors.get(self.flow.end[self.position])
        return source if quantizer is None else self.rounded(source, quantizer, name)

    def gate(self, op: str, source: str, name: str) -> str:
        """The operator, whose values are 0 to 1, within a node; in integers where the node's input and output are."""
        gate = self.emit(op, [source], name)
        if source not in self.on_grid or self.position not in self.compressed.tensors:
            return gate
        levels = ActivationQuantizer(1 / 127, 128, 8) if self.signed else ActivationQuantizer(1 / 255, 0, 8)
        return self.rounded(gate, levels, f"{name}#quantized")

    def _output(self, node: int, name: str) -> onnx.ValueInfoProto:
        """In the type that the network gives."""
        returned, axis = self.graph.nodes[node], self.batch_axis[node]
        kind = returned.attributes.type
        if kind in (TensorProto.FLOAT, TensorProto.UNDEFINED):
            kind = self.constants.get(self.names[node][0], TensorProto.FLOAT)
        cast = {} if kind == TensorProto.FLOAT else {"to": kind}
        self.emit("Cast" if cast else "Identity", [self.names[node][0]], name, **cast)
        if axis is None:
            return helper.make_tensor_value_info(name, kind, None)
        shape = ["batch" if i == axis and size == 1 else size for i, size in enumerate(returned.shape)]
        return helper.make_tensor_value_info(name, kind, [None] * len(shape) if "batch" not in shape else shape)

    def _constant(self, node: Node) -> str:
        """A constant that the network returns and does not compute."""
        kind, value, _ = node.attributes.arguments[0]
        array = np.asarray(self.parameters[value] if kind == "parameter" else value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = self.initializer(node.name, array)
        self.constants[name] = helper.np_dtype_to_tensor_dtype(array.dtype)
        return name


def _read(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Nodes that an output depends on: onnxruntime would run the others, too, such as a rounding that only max pools of
    floats pass by."""
    found, read = [], set(outputs)
    for node in reversed(nodes):
        if not read.isdisjoint(node.output):
            found.append(node)
            read.update(node.input)
    return found[::-1]


def called(node: Node) -> str:
    """The cell whose code runs the operator, in words."""
    path, _, kind = node.attributes.cell.rpartition(":")
    return f"cell {path} of type {kind}" if path else "the network's own construct"


Form = Callable[[Writer, Node], "str | tuple[str, ...]"]
