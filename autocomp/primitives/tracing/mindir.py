"""Reads MindSpore's exported graph (MindIR protobuf): a flat list of every operator, in execution order, with its
shape."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autocomp.errors import TraceError

from .compiling import quick_compilation
from .platform import execution_mode, load_mindspore, plain_place, syntax_level, to_tensors
from .unreadable import why_not
from .views import older_form

REFUSED = "Get dump proto for graph failed"  # what MindSpore says of tuples and dicts of None alone
DTYPES: dict[int, Any] = {  # by MindIR's numbers
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    11: np.float64,
}


@dataclass(frozen=True)
class Parameter:
    """A network parameter, by its MindSpore name."""

    name: str


@dataclass(frozen=True)
class Output:
    """The output of operator number ``operator``; ``part`` is its index where the operator has several outputs."""

    operator: int
    part: int = 0


@dataclass(frozen=True)
class MindIROperator:
    """One operator; each input is an Output, a Parameter, a tuple of inputs, or a constant's Python value.

    scope: the cells that contain it, ``"Default/blocks-SequentialCell/0-Block/conv1-Conv2d/Conv2D-op0"``.
    shape, shapes: of its first output, and of all outputs; () where it is not known.
    dtypes: NumPy's names of the element types of all outputs.
    """

    op: str
    scope: str
    inputs: tuple[Any, ...]
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...] = ()
    types: tuple[int, ...] = ()  # of all outputs, as MindIR and ONNX number them
    dtypes: tuple[str, ...] = ()

    @property
    def cell(self) -> str:
        """Class of the innermost cell that contains it, "" where that is the network itself."""
        return self.scope.split("/")[-2].rpartition("-")[2] if "/" in self.scope else ""

    @property
    def place(self) -> str:
        """Path and class of the innermost cell that it runs in, ``"blocks.0.conv1:Conv2d"``; "" for the network."""
        names = [part.rpartition("-")[0] for part in self.scope.split("/")[1:-1]]
        return f"{'.'.join(names)}:{self.cell}" if names else ""


@dataclass(frozen=True)
class Graph:
    operators: tuple[MindIROperator, ...]
    outputs: tuple[Any, ...]  # Output, Parameter, or a constant's Python value; in order, repeated as returned
    opaque: tuple[str, ...]  # calls of sub-graphs, which are not read
    hidden: frozenset[str] = frozenset()  # names of the parameters that sub-graphs read


def export_graph(net: Any, inputs: tuple[np.ndarray, ...]) -> Graph:
    """The graph of a network in evaluation mode. A copy is exported; the network itself is not changed."""
    twin = copy_network(net, shares=True).set_train(False)
    from .tensors_alone import tell_apart  # loads MindSpore

    tell_apart(twin)
    try:
        return _exported(twin, inputs)
    except Exception as error:  # MindSpore's compiler lets errors of every kind through
        if REFUSED in str(error):
            return _without_part(_exported(of_tensors_alone(twin), inputs))
        shapes = ", ".join(str(array.shape) for array in inputs)
        raise TraceError(
            f"the network does not compile for inputs of shape {shapes}: {why_not(net) or first_line(error)}"
        ) from error


def of_tensors_alone(net: Any) -> Any:
    """A cell that returns the network's tensors in one tuple: see :mod:`tensors_alone`, which loads MindSpore."""
    from .tensors_alone import TensorsAlone

    return TensorsAlone(net).set_train(False)


def _without_part(graph: Graph) -> Graph:
    from .tensors_alone import scope_inside

    return replace(graph, operators=tuple(replace(o, scope=scope_inside(o.scope)) for o in graph.operators))


def _exported(twin: Any, inputs: tuple[np.ndarray, ...]) -> Graph:
    ms = load_mindspore()
    owned = {parameter.name for parameter in twin.get_parameters()}
    graphs = []

    def take(model: Any) -> None:
        """Read the protobuf in memory, and empty it: writing all weights to a file would take a second."""
        graphs.append(_Reader(model).read())
        names = {parameter.name.partition(":")[2] for parameter in model.graph.parameter}
        if names - owned:
            raise ValueError(f"parameters were made outside of cells: {', '.join(sorted(names - owned))}")
        model.Clear()

    with plain_place() as path, execution_mode(graph=True), quick_compilation(), syntax_level():
        ms.export(twin, *to_tensors(inputs), file_name=str(path), file_format="MINDIR", custom_func=take)
    return graphs[0]


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("-")), type(error).__name__)


def copy_network(net: Any, shares: bool = False, kept: Iterable[Any] = ()) -> Any:
    """A deep copy; TraceError names the cell that cannot be copied.

    shares: the copy has the network's own parameters and primitives, for use where they are only read; copying them
        takes most of the time. kept: objects that the copy has, too, and that cannot be copied.
    """
    try:
        return _copied(net, {id(part): part for part in (*kept, *(_parts(net) if shares else ()))})
    except Exception as error:  # any error of the user's __deepcopy__
        for name, cell in reversed(list(net.cells_and_names())):
            try:
                copy.deepcopy(cell)
            except Exception as cause:
                raise TraceError(
                    f"the network must be copied before it is changed, but cell {name or '(the network itself)'} of "
                    f"type {type(cell).__name__} cannot be: {first_line(cause)}. Give it a __deepcopy__ method, or "
                    "keep what cannot be copied (files, locks, generators) outside of the cell"
                ) from error
        raise TraceError(f"the network cannot be copied: {first_line(error)}") from error


def _parts(net: Any) -> Iterator[Any]:
    yield from net.get_parameters()
    for _, cell in net.cells_and_names():
        yield from cell._primitives.values()


def _copied(net: Any, kept: dict[int, Any]) -> Any:
    """A deep copy, except for the objects in ``kept``, by id.

    Some primitives of MindSpore (LpNorm) cannot be copied; they have no state and are shared.
    """
    try:
        return copy.deepcopy(net, dict(kept))
    except TypeError:
        shared: dict[int, Any] = {}
        for _, cell in net.cells_and_names():
            for primitive in cell._primitives.values():
                try:
                    copy.deepcopy(primitive)
                except TypeError:
                    shared[id(primitive)] = primitive
        if not shared:
            raise
        return copy.deepcopy(net, shared | kept)


class _Reader:
    """Resolves names to operators; loads of parameters, state monads and tuples are removed."""

    def __init__(self, model: Any) -> None:
        self.graph, self.functions = model.graph, model.functions
        self.primitives = {f"REF::{p.name}": p for p in model.primitives}
        self.values: dict[str, Any] = {}
        self.operators: list[MindIROperator] = []
        self.opaque: list[str] = []
        self.wholes: list[Output] = []  # of each operator

    def read(self) -> Graph:
        for parameter in self.graph.parameter:
            self.values[parameter.name] = Parameter(parameter.name.partition(":")[2] or parameter.name)
        for value in self.graph.input:
            shape = tuple(value.tensor[0].dims) if value.tensor else ()
            dtypes = _dtypes(value.tensor)
            operator = MindIROperator("Input", "", (), shape, {"name": value.name}, dtypes=dtypes)
            self.values[value.name] = self._append(operator)
        for node in self.graph.node:
            self.values[node.output[0]] = self._value(node)
        outputs = [self.values[output.name] for output in self.graph.output]
        outputs_in_order, hidden = tuple(self._flat_outputs(outputs)), frozenset(self._hidden())
        return Graph(tuple(self.operators), outputs_in_order, tuple(self.opaque), hidden)

    def _hidden(self) -> Iterator[str]:
        for function in self.functions:
            for node in function.node:
                for value in map(self.values.get, node.input):
                    if isinstance(value, Parameter):
                        yield value.name

    def _flat_outputs(self, values: Any) -> Iterator[Any]:
        """Each tensor or number that is returned; None is not."""
        for value in values:
            if isinstance(value, tuple):
                yield from self._flat_outputs(value)
            elif isinstance(value, Output) and self.wholes[value.operator] is value:
                parts = max(1, len(self.operators[value.operator].shapes))
                yield from (Output(value.operator, part) for part in range(parts))
            elif value is not None:
                yield value

    def _append(self, operator: MindIROperator) -> Output:
        """All that the operator computes; what is taken out of it is another Output."""
        self.operators.append(operator)
        self.wholes.append(Output(len(self.operators) - 1))
        return self.wholes[-1]

    def _value(self, node: Any) -> Any:
        if node.op_type == "Constant":
            return _attribute_value(node.attribute[0]) if node.attribute else None
        primitive = self.primitives.get(node.op_type)
        op = primitive.op_type if primitive is not None else node.op_type
        inputs = [self.values.get(name) for name in node.input]
        if op in ("Load", "Depend", "identity", "Contiguous", "TensorMove"):
            return inputs[0]
        if op in ("UpdateState", "MakeTuple", "make_tuple", "MakeList", "make_list"):
            return None if op == "UpdateState" else tuple(inputs)
        if op in ("TupleGetItem", "tuple_getitem", "ListGetItem", "list_getitem"):
            return _item(inputs[0], int(inputs[1] or 0))
        attributes = {a.name: _attribute_value(a) for a in primitive.attribute} if primitive is not None else {}
        if primitive is None:
            self.opaque.append(op)
        shapes = _shapes(node)
        types = tuple(int(tensor.data_type) for tensor in _tensors(node))
        shape, dtypes = shapes[0] if shapes else (), _dtypes(_tensors(node))
        op, inputs = older_form(op, inputs, len(shape))
        return self._append(MindIROperator(op, node.domain, tuple(inputs), shape, attributes, shapes, types, dtypes))


def _item(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, tuple) else Output(value.operator, index)


def _outputs(values: Any) -> Iterator[Output]:
    for value in values:
        if isinstance(value, tuple):
            yield from _outputs(value)
        elif isinstance(value, Output):
            yield value


def _shapes(node: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of all outputs."""
    return tuple(tuple(tensor.dims) for tensor in _tensors(node))


def _tensors(node: Any) -> list[Any]:
    """Descriptions of all outputs."""
    for attribute in node.attribute:
        if attribute.name == "shape":
            return list(attribute.tensors) or [tensor for value in attribute.values for tensor in value.tensors]
    return []


def _dtypes(tensors: Any) -> tuple[str, ...]:
    return tuple(np.dtype(DTYPES.get(tensor.data_type, np.float32)).name for tensor in tensors)


def _attribute_value(attribute: Any) -> Any:
    kind = attribute.AttributeType.Name(attribute.type)
    if kind in ("TUPLE", "LIST"):
        return tuple(_attribute_value(value) for value in attribute.values)
    if kind == "STRING":
        text = attribute.s or (attribute.strings[0] if attribute.strings else b"")
        return text.decode()
    if kind == "BOOL" or kind.startswith(("INT", "UINT")):
        number = attribute.i or (attribute.ints[0] if attribute.ints else 0)
        return bool(number) if kind == "BOOL" else int(number)
    if kind in ("FLOAT", "DOUBLE"):
        return float(attribute.f or attribute.d or (attribute.floats[0] if attribute.floats else 0.0))
    if kind == "TENSORS" or kind == "TENSOR":
        return _tensor(attribute.tensors[0]) if attribute.tensors else None
    return None


def _tensor(tensor: Any) -> np.ndarray | None:
    if tensor.data_type not in DTYPES or not tensor.raw_data:
        return None
    return np.frombuffer(tensor.raw_data, DTYPES[tensor.data_type]).reshape(tuple(tensor.dims))
