"""An ONNX file as a workload that a device can cost: layers in integers are in the formats that the file gives them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from autocomp.hardware_models.canonical_form import canonical
from autocomp.process.bounded_files import check_file
from autocomp.search_spaces import (
    Argument,
    Knob,
    NetworkGraph,
    Node,
    NodeAttributes,
    SearchSpace,
    SplitPart,
    Workload,
)

from .onnx_nodes import Operands, Shape, node_of, units

MOST_BYTES = 4_000_000_000
ROUNDING = ("QuantizeLinear", "DequantizeLinear", "AscendQuant", "AscendDequant", "FakeQuantize", "Dropout")
REFUSED = (
    *("LSTM", "GRU", "RNN", "Loop", "If", "Scan", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
    *("MatMulNBits", "NonMaxSuppression", "NonZero"),
)
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LEAST_PARAMETER = 2  # elements of an initializer that is no constant
BITS = {"INT4": 4, "UINT4": 4}


def read_workload(path: str | Path, batch: int = 1) -> Workload:
    """The network of an ONNX file for one batch, which counts only where the file leaves it free.

    ValueError for a file that is no ONNX, for sizes that are free, and for operators whose cost is not known.
    """
    return _Reader(_sized(_load(Path(path)), batch, str(path)), str(path)).workload()


def _load(path: Path) -> Any:
    check_file(path, MOST_BYTES)
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors have no common class
        raise ValueError(f"a network must be an ONNX file, but {path} cannot be read: {error}") from error


def _sized(model: Any, batch: int, place: str) -> Any:
    """The model with the sizes of all its tensors."""
    known = {tensor.name for tensor in model.graph.initializer}
    for value in (one for one in model.graph.input if one.name not in known):
        sizes = value.type.tensor_type.shape.dim
        if len(sizes) and not sizes[0].HasField("dim_value"):
            sizes[0].dim_value = batch
        if not all(size.HasField("dim_value") and size.dim_value > 0 for size in sizes):
            raise ValueError(f"a network must have fixed sizes but for its batch, but {place} has {value.name}")
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # an output's name of the batch would stand against its size
    try:
        return shape_inference.infer_shapes(_simplified(model), data_prop=True)
    except Exception as error:
        raise ValueError(f"a network must be valid ONNX, but {place} is not: {error}") from error


def _simplified(model: Any) -> Any:
    """With constants computed; as it is where onnxruntime does not know one of its operators."""
    import tempfile

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "simplified.onnx")
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:  # an operator of another domain, or a model that is too large to be passed on
            return model
        return onnx.load(options.optimized_model_filepath)


class _Reader:
    def __init__(self, model: Any, place: str) -> None:
        self.graph, self.place = model.graph, place
        self.sizes: dict[str, Shape] = dict(_sizes(model.graph))
        self.values = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants: dict[str, Any] = {}
        self.alias: dict[str, str] = {}  # a rounded tensor -> what was rounded
        self.bits: dict[str, int] = {}  # rounded tensor -> bits
        self.nodes: list[Node] = []
        self.index: dict[str, int] = {}
        self.formats: dict[str, str] = {}

    def workload(self) -> Workload:
        for value in (one for one in self.graph.input if one.name not in self.values):
            self._input(value.name)
        for node in self.graph.node:
            self._add(node)
        outputs = tuple(self.index[self._source(one.name)] for one in self.graph.output if self._computed(one.name))
        if not outputs:
            raise ValueError(f"a network must compute an output from its input, but {self.place} does not")
        graph = canonical(NetworkGraph(tuple(self.nodes), outputs))
        knobs = tuple(Knob(f"format/{layer}", "", (layer,), ("float", form)) for layer, form in self.formats.items())
        return Workload(SearchSpace(graph, knobs), np.ones((1, len(knobs)), np.int64), 1)

    def _input(self, name: str) -> None:
        shape = self._size(name)
        self.index[name] = len(self.nodes)
        attributes = NodeAttributes(operator={"name": name})
        self.nodes.append(Node(name, "input", "Input", (), shape, attributes=attributes, units=units(shape)))

    def _add(self, node: Any) -> None:
        if node.op_type in REFUSED:
            raise ValueError(f"a network must have operators of known cost, but {self.place} has {node.op_type}")
        if node.op_type == "Constant":
            self.constants[node.output[0]] = _attributes(node).get("value")
        elif node.op_type in ROUNDING:
            self.alias[node.output[0]] = node.input[0]
            self.bits[node.output[0]] = self._bits(node)
        elif node.op_type != "Shape" and any(self._computed(name) for name in node.input):
            self._operator(node)

    def _operator(self, node: Any) -> None:
        held = node.op_type in WEIGHTED
        given: Operands = [self._operand(name, held) if name else None for name in node.input]
        sizes = [self._size(name) if name else () for name in node.input]
        if node.op_type == "Split":
            self._split(node, given, sizes)
            return
        name = node.output[0]
        found = node_of(node.op_type, name, given, self._size(name), _attributes(node), sizes)
        self._keep(name, found)
        if found.layer is not None and self._rounded(node.input[1]):
            bits = self.bits[node.input[1]]
            self.formats[found.layer] = f"w{bits}a8" if self._rounded(node.input[0]) else f"w{bits}"

    def _split(self, node: Any, given: Operands, sizes: list[Shape]) -> None:
        """One operator, and its parts."""
        whole = f"{node.output[0]}.whole"
        self._keep(whole, node_of("Split", whole, given, sizes[0], {}, sizes))
        axis = int(_attributes(node).get("axis", 0)) % len(sizes[0])
        read, start = Argument("node", self.index[whole]), 0
        for name in node.output:
            shape = self._size(name)
            attributes = NodeAttributes((read,), part=SplitPart(start, axis))
            inputs = (self.index[whole],)
            self._keep(name, Node(name, "reshape", "Part", inputs, shape, attributes=attributes, units=units(shape)))
            start += shape[axis]

    def _keep(self, name: str, node: Node) -> None:
        self.index[name] = len(self.nodes)
        self.nodes.append(node)

    def _rounded(self, name: str) -> bool:
        return name in self.alias and name in self.bits

    def _bits(self, node: Any) -> int:
        """Of a rounded tensor, by the type of its integers."""
        tensor = self.values.get(node.input[0])
        name = onnx.TensorProto.DataType.Name(tensor.data_type) if tensor is not None else ""
        return min(BITS.get(name, 8), self.bits.get(node.input[0], 8))

    def _source(self, name: str) -> str:
        while name in self.alias:
            name = self.alias[name]
        return name

    def _computed(self, name: str) -> bool:
        """Whether a tensor depends on the network's input."""
        return self._source(name) in self.index

    def _operand(self, name: str, held: bool = False) -> Argument:
        """held: a weight or a bias is a parameter, however small it is."""
        name = self._source(name)
        if name in self.index:
            return Argument("node", self.index[name])
        value = None if held else self.constants.get(name)
        tensor = None if held else self.values.get(name)
        if tensor is not None and _is_constant(tensor):
            value = numpy_helper.to_array(tensor)
        if value is None:
            return Argument("parameter", name)
        return Argument("constant", value.item() if np.size(value) == 1 else tuple(np.ravel(value).tolist()))

    def _size(self, name: str) -> Shape:
        name = self._source(name)
        if name in self.constants:
            return tuple(np.shape(self.constants[name]))
        if name not in self.sizes:
            raise ValueError(f"a network must have sizes that no number decides, but {self.place} has {name}")
        return self.sizes[name]


def _is_constant(tensor: Any) -> bool:
    """A number, or whole numbers that are sizes, axes or positions."""
    whole = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return int(np.prod(tensor.dims)) < LEAST_PARAMETER or (whole and len(tensor.dims) == 1)


def _sizes(graph: Any) -> Iterator[tuple[str, Shape]]:
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            yield value.name, tuple(size.dim_value for size in sizes)


def _attributes(node: Any) -> dict[str, Any]:
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
