"""From MindSpore's operators to the nodes of a NetworkGraph."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autocomp.errors import TraceError
from autocomp.search_spaces import (
    SPLITS,
    WEIGHTED,
    Argument,
    Convolution,
    Node,
    NodeAttributes,
    Normalization,
    SplitPart,
)
from autocomp.search_spaces.node_attributes import FLOAT32

from .mindir import Graph, MindIROperator, Output, Parameter
from .platform import load_mindspore

KINDS = {
    "input": "Input",
    "conv": "Conv2D Conv2DExt Conv2DTranspose Conv2DBackpropInput",
    "dense": "MatMul Dense MatMulExt",
    "batchnorm": "BatchNorm BatchNormExt",
    "layernorm": "LayerNorm LayerNormExt GroupNorm InstanceNorm L2Normalize",
    "activation": "ReLU ReLU6 Sigmoid HSwish HSigmoid Tanh GeLU GeluExt SiLU PReLU LeakyReLU LeakyReLUExt Elu SeLU "
    "Mish Softplus Softsign HardTanh Hardtanh Clamp ClampScalar ClampTensor Abs Exp Log Sqrt Rsqrt Neg Square Erf Cast "
    "Identity Sin Cos Floor Reciprocal ReLUExt ELU Inverse HShrink SoftShrink LogSigmoid Sign Round Ceil Trunc CeLU "
    "FastGeLU Log1p Expm1 Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh IsNan IsInf LogicalNot",
    "add": "Add AddExt Sub SubExt BiasAdd InplaceAddExt InplaceSubExt InplaceAddsExt AddScalar SubScalar",
    "mul": "Mul Muls Div RealDiv Divs Pow Maximum Minimum InplaceMul InplaceMuls InplaceDiv InplaceDivs "
    "PowTensorScalar PowScalarTensor Greater Less GreaterEqual LessEqual Equal NotEqual GreaterScalar LessScalar "
    "GreaterEqualScalar LessEqualScalar EqScalar NeScalar LogicalAnd LogicalOr LogicalXor Select MaskedFill "
    "FloorDiv FloorMod RemainderTensorScalar RemainderTensorTensor Lerp LerpScalar Addcmul Addcdiv",
    "concat": "Concat Stack StackExt",
    "pool": "MaxPool AvgPool AvgPoolExt MaxPoolWithArgmax MaxPoolWithMask AdaptiveAvgPool2D AdaptiveAvgPool2DExt "
    "AdaptiveMaxPool2D AvgPool2D AvgPool3D MaxPool3D MaxPool3DWithArgmax MaxPoolWithArgmaxV2",
    "mean": "ReduceMean MeanExt ReduceSum SumExt ReduceMax ReduceMin ReduceProd ProdExt ReduceStd ReduceAny ReduceAll "
    "Argmax Argmin ArgMaxWithValue ArgMinWithValue",
    "flatten": "Flatten FlattenExt",
    "matmul": "BatchMatMul BatchMatMulExt",
    "softmax": "Softmax LogSoftmax SoftmaxExt LogSoftmaxExt",
    "reshape": "Reshape ExpandDims Squeeze View",
    "transpose": "Transpose TransposeView TransposeExtView",
    "slice": "StridedSlice Slice Split SplitWithSize SplitTensor Chunk Unstack UnstackExt Gather SliceExt Narrow",
    "pad": "Pad PadV3 MirrorPad ConstantPadND BroadcastTo Tile ResizeNearestNeighbor ResizeNearestNeighborV2 "
    "ResizeBilinear ResizeBilinearV2 ResizeBicubic UpsampleNearest2D UpsampleBilinear2D UpsampleBicubic2D",
}
KIND_OF = {op: kind for kind, ops in KINDS.items() for op in ops.split()}
TRANSPOSED = ("Conv2DTranspose", "Conv2DBackpropInput")
LOOKUPS = ("Gather", "EmbeddingLookup")  # operators of cells that give rows of a table
CONSTANT = "Constant"  # a tensor that the network returns and does not compute
LAYERS = ("conv", "dense", "batchnorm", "layernorm", "activation")


def nodes_of(raw: Graph, net: Any) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    """The nodes in execution order, and the indices of those that the network returns."""
    _check_sizes(raw)
    builder = _Builder(raw, net)
    for operator in raw.operators:
        builder.add(operator)
    outputs = tuple(builder.output_node(value) for value in raw.outputs)
    return tuple(builder.nodes), outputs


def _check_sizes(raw: Graph) -> None:
    """TraceError for a tensor whose size depends on the numbers in it, such as ``x[x > 0]``."""
    for operator in raw.operators:
        if any(size < 0 for shape in operator.shapes for size in shape):
            path, _, kind = operator.place.rpartition(":")
            where = f"cell {path} of type {kind}" if path else "the network's own construct"
            raise TraceError(
                f"every tensor must have a size that its numbers do not change, but {operator.op} in {where} has none: "
                "write it with a mask, as in ops.where(x > 0, x, 0.0) for x[x > 0]"
            )


@dataclass(frozen=True)
class Owner:
    """The cell that a parameter belongs to: its path, itself, and the parameter's attribute."""

    path: str
    cell: Any
    attribute: str


def owners_of(net: Any) -> dict[str, Owner]:
    """Owners by parameter name. A cell with several paths has the first of them."""
    owners: dict[str, Owner] = {}
    for path, cell in net.cells_and_names():
        for attribute, parameter in cell.parameters_and_names(expand=False):
            owners.setdefault(parameter.name, Owner(path, cell, attribute.rpartition(".")[2]))
    return owners


def tied(net: Any) -> frozenset[str]:
    """Names of the parameters that several cells hold."""
    cells = [cell for _, cell in net.cells_and_names()]
    held = Counter(parameter.name for cell in cells for parameter in cell.get_parameters(expand=False))
    return frozenset(name for name, count in held.items() if count > 1)


class _Builder:
    """A layer's BiasAdd becomes part of the layer's node; after an operator with several outputs come Part nodes."""

    def __init__(self, raw: Graph, net: Any) -> None:
        self.raw, self.owners = raw, owners_of(net)
        self.shapes = {name: tuple(p.shape) for name, p in ((p.name, p) for p in net.get_parameters())}
        self.nodes: list[Node] = []
        self.index: list[int] = []  # node of each operator
        self.parts: dict[tuple[int, int], int] = {}  # (operator, part) -> node
        self.names: set[str] = set()
        self.hidden = self._hidden(raw)
        self.shared = self.hidden | self._shared(raw) | tied(net)

    def _shared(self, raw: Graph) -> frozenset[str]:
        """Parameters that are also read outside the cell that owns them: surgery on the cell would miss these reads."""
        return frozenset(
            value.name
            for operator in raw.operators
            for value in operator.inputs
            if isinstance(value, Parameter) and not self._inside(operator, value.name)
        )

    @staticmethod
    def _hidden(raw: Graph) -> frozenset[str]:
        """Parameters whose reads are not all known, or that the network returns."""
        return frozenset(raw.hidden | {value.name for value in raw.outputs if isinstance(value, Parameter)})

    def _inside(self, operator: MindIROperator, parameter: str) -> bool:
        owner = self.owners.get(parameter)
        return owner is not None and operator.cell == type(owner.cell).__name__

    def _shares(self, cell: Any) -> bool:
        return any(parameter.name in self.shared for parameter in cell.get_parameters(expand=False))

    def source(self, output: Output) -> int:
        return self.parts.get((output.operator, output.part), self.index[output.operator])

    def output_node(self, value: Any) -> int:
        """The node of a tensor that the network returns; made of a constant, or of an operator's second result."""
        if not isinstance(value, Output):
            return self._append(self._constant(value))
        if (value.operator, value.part) in self.parts or not value.part:
            return self.source(value)
        operator, source = self.raw.operators[value.operator], self.index[value.operator]
        argument, dtypes = Argument("node", source, value.part), operator.dtypes[value.part :]
        attributes = NodeAttributes((argument,), type=operator.types[value.part], dtypes=dtypes)
        name, shape = f"{operator.op}-{source}.output{value.part}", operator.shapes[value.part] or (1,)
        return self._append(Node(name, "activation", "Identity", (source,), shape, attributes=attributes))

    def _constant(self, value: Any) -> Node:
        """No operator: it costs nothing."""
        is_parameter = isinstance(value, Parameter)
        shape = self.shapes[value.name] if is_parameter else np.shape(value)
        named = (value.name,) if is_parameter else ()
        argument = Argument("parameter", value.name) if is_parameter else Argument("constant", value)
        attributes = NodeAttributes((argument,), parameters=named)
        return Node(f"Constant-{len(self.nodes)}", "reshape", CONSTANT, (), shape or (1,), attributes=attributes)

    def _reference(self, output: Output) -> Argument:
        node = self.parts.get((output.operator, output.part))
        return Argument("node", self.index[output.operator], output.part) if node is None else Argument("node", node)

    def add(self, operator: MindIROperator) -> None:
        sources = tuple(self.source(output) for output in _outputs_in(operator.inputs))
        if self._is_layer_bias(operator, sources):
            self.index.append(sources[0])
            layer = self.nodes[sources[0]]
            attributes = replace(layer.attributes, bias=operator.inputs[1].name)
            self.nodes[sources[0]] = replace(layer, attributes=attributes)
            return
        self.index.append(self._append(self._node(operator, sources)))
        if operator.op in SPLITS:
            self._append_parts(operator)

    def _append(self, node: Node) -> int:
        if node.name in self.names:
            node = replace(node, name=f"{node.name}@{len(self.nodes)}")
        self.names.add(node.name)
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _append_parts(self, operator: MindIROperator) -> None:
        whole, position = len(self.nodes) - 1, len(self.index) - 1
        node = self.nodes[whole]
        read = [self.nodes[i].shape for i in node.inputs] or node.attributes.parameter_shapes
        if not read or not all(operator.shapes):
            return
        before = read[0]
        self.nodes[whole] = replace(self.nodes[whole], shape=before)
        start = 0
        for part, shape in enumerate(operator.shapes):
            axis = _parted_axis(before, shape, operator)
            argument, dtypes = Argument("node", whole), operator.dtypes[part:]
            attributes = NodeAttributes((argument,), part=SplitPart(start, axis), dtypes=dtypes)
            node = Node(f"{operator.op}-{whole}:{part}", "reshape", "Part", (whole,), shape, attributes=attributes)
            self.parts[position, part] = self._append(node)
            start += shape[axis] if len(shape) == len(before) else 1

    def _is_layer_bias(self, operator: MindIROperator, sources: tuple[int, ...]) -> bool:
        if operator.op not in ("BiasAdd", "Add") or len(sources) != 1 or len(operator.inputs) < 2:
            return False
        output, bias = operator.inputs[:2]
        if not (isinstance(output, Output) and isinstance(bias, Parameter)) or bias.name in self.shared:
            return False
        layer, owner = self.nodes[sources[0]].layer, self.owners[bias.name]
        return layer is not None and owner.path == layer and owner.attribute == "bias"

    def _node(self, operator: MindIROperator, sources: tuple[int, ...]) -> Node:
        attributes = self._attributes(operator)
        kind, owner = self._kind(operator, attributes.parameters if sources else ())
        weight_shape = None
        if (embedding := self._embedding(operator, attributes.parameters)) is not None:
            table = attributes.parameters[0]
            owner, attributes = embedding, replace(attributes, table=table, tied=table in self.shared)
        elif owner is not None and kind in WEIGHTED:
            attributes, weight_shape = self._of_layer(attributes, kind, operator, sources[0])
        elif owner is not None and kind == "batchnorm":
            attributes = replace(attributes, normalization=_normalization(attributes))
        layer = owner.path if owner is not None else None
        name = layer or f"{operator.op}-{len(self.nodes)}"
        return Node(name, kind, operator.op, sources, operator.shape or (1,), layer, weight_shape, attributes)

    def _attributes(self, operator: MindIROperator) -> NodeAttributes:
        parameters = tuple(value.name for value in operator.inputs if isinstance(value, Parameter))
        constants = tuple(value for value in operator.inputs if not isinstance(value, (Output, Parameter)))
        return NodeAttributes(
            _arguments(operator.inputs, self._reference),
            constants,
            operator.attributes,
            parameters,
            tuple(self.shapes.get(name, ()) for name in parameters),
            type=operator.types[0] if operator.types else FLOAT32,
            dtypes=operator.dtypes,
            cell=operator.place,
            picked=_picked(constants) if operator.op == "StridedSlice" else None,
        )

    def _of_layer(
        self, attributes: NodeAttributes, kind: str, operator: MindIROperator, source: int
    ) -> tuple[NodeAttributes, tuple[int, ...]]:
        """The attributes of a convolution or a dense layer, and its weight's shape, output channels first."""
        weight, *others = attributes.parameters
        shape = self.shapes[weight]
        attributes = replace(attributes, weight=weight, bias=others[0] if others else None)
        if kind != "conv":
            return attributes, shape
        window = window_of(operator.attributes)
        if operator.op not in TRANSPOSED:
            return replace(attributes, convolution=window), shape
        image = self.nodes[source].shape
        attributes = replace(
            attributes, convolution=replace(window, transposed=True), positions=math.prod(image) // image[1]
        )
        return attributes, (shape[1] * window.groups, shape[0] // window.groups, *shape[2:])

    def _kind(self, operator: MindIROperator, parameters: tuple[str, ...]) -> tuple[str, Owner | None]:
        """The kind of node, and the owner of its parameters where surgery knows that cell.

        parameters: empty for a layer that reads a constant; its output is constant, and it is not changed.
        """
        kind = KIND_OF.get(operator.op, "other")
        owner = self.owners.get(parameters[0]) if parameters and kind in LAYERS else None
        if owner is not None and (not owner.path or self._shares(owner.cell) or not _known(kind, owner)):
            owner = None
        if kind == "dense" and (owner is None or owner.attribute != "weight"):
            return "matmul", None
        if kind == "conv" and owner is None:
            return "other", None
        return kind, owner

    def _embedding(self, operator: MindIROperator, parameters: tuple[str, ...]) -> Owner | None:
        """The owner of the table whose rows the operator gives, where surgery knows that cell."""
        owner = self.owners.get(parameters[0]) if parameters and operator.op in LOOKUPS else None
        if owner is None or not owner.path or parameters[0] in self.hidden or not self._inside(operator, parameters[0]):
            return None
        return owner if looks_up(owner.cell) else None


def _outputs_in(inputs: Any) -> list[Output]:
    found: list[Output] = []
    for value in inputs:
        if isinstance(value, tuple):
            found += _outputs_in(value)
        elif isinstance(value, Output):
            found.append(value)
    return found


Reference = Callable[[Output], Argument]


def _arguments(inputs: tuple[Any, ...], reference: Reference) -> tuple[Argument, ...]:
    """The operator's arguments with nodes instead of operators."""
    return tuple(_argument(value, reference) for value in inputs)


def _argument(value: Any, reference: Reference) -> Argument:
    if isinstance(value, Output):
        return reference(value)
    if isinstance(value, Parameter):
        return Argument("parameter", value.name)
    if isinstance(value, tuple) and any(isinstance(part, (Output, Parameter)) for part in _flat(value)):
        return Argument("tuple", _arguments(value, reference))
    return Argument("constant", value)


def _flat(value: tuple[Any, ...]) -> Iterator[Any]:
    for part in value:
        if isinstance(part, tuple):
            yield from _flat(part)
        else:
            yield part


def _known(kind: str, owner: Owner) -> bool:
    """Whether surgery knows this cell; a user's own cell with such a weight, or with another construct, is not
    changed."""
    nn = load_mindspore().nn
    known = {
        "conv": (nn.Conv2d, nn.Conv2dTranspose, nn.Conv1d, nn.Conv1dTranspose),
        "dense": (nn.Dense,),
        "batchnorm": (nn.BatchNorm1d, nn.BatchNorm2d),
        "layernorm": (nn.LayerNorm,),
        "activation": (nn.PReLU,),
    }[kind]
    if getattr(owner.cell, "use_batch_statistics", None):  # it uses them in evaluation, too
        return False
    return any(isinstance(owner.cell, cell) and type(owner.cell).construct is cell.construct for cell in known)


def looks_up(cell: Any) -> bool:
    """Whether the cell is an embedding that only gives rows: one that multiplies one-hot rows, or shortens rows that
    are longer than a norm, is left as it is."""
    nn = load_mindspore().nn
    known = (nn.Embedding, nn.EmbeddingLookup)
    if not any(isinstance(cell, kind) and type(cell).construct is kind.construct for kind in known):
        return False
    return not getattr(cell, "use_one_hot", False) and getattr(cell, "max_norm", None) is None


def window_of(a: Mapping[str, Any]) -> Convolution:
    """The window of a convolution, from MindSpore's attributes."""
    return Convolution(
        tuple(a["kernel_size"]),
        tuple(a["stride"])[-2:],
        tuple(a["pad_list"]),
        tuple(a["dilation"])[-2:],
        int(a.get("groups", a.get("group", 1))),
    )


def _normalization(attributes: NodeAttributes) -> Normalization | None:
    """None where one of the four is computed, so that it is no parameter."""
    epsilon = next(value for value in attributes.constants if isinstance(value, float))
    names = attributes.parameters[:4]
    return Normalization(*names, epsilon) if len(names) == 4 else None


def _parted_axis(before: tuple[int, ...], part: tuple[int, ...], operator: MindIROperator) -> int:
    """The axis along which an operator splits its input."""
    given = operator.attributes.get("axis", operator.attributes.get("dim"))
    if given is None:
        numbers = [value for value in operator.inputs if type(value) is int]
        given = numbers[0] if operator.op == "Split" and numbers else numbers[-1] if numbers else 0
    if len(part) == len(before):
        different = [axis for axis in range(len(before)) if part[axis] != before[axis]]
        return different[0] if different else int(given) % len(before)
    return int(given) % len(before)


def _picked(constants: tuple[Any, ...]) -> tuple[int, ...] | None:
    """Axes of which ``x[:, 0]`` takes one element: the bits of StridedSlice's last mask."""
    masks = constants[-5:]
    if len(masks) < 5 or not all(type(mask) is int for mask in masks) or masks[2] or masks[3]:
        return None
    return tuple(axis for axis in range(32) if masks[4] >> axis & 1)
