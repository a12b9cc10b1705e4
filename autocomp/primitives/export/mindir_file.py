"""MindIR files: short names, and outputs that MindSpore can load again."""

from __future__ import annotations

from typing import Any

TUPLES = ("MakeTuple", "make_tuple", "MakeList", "make_list")
UNPACKS = ("LeftShift", "RightShift", "BitwiseOr", "Cast", "Reshape", "MatMul", "StridedSlice", "Mul")


def compact(data: bytes) -> bytes:
    """The MindIR with short names for the tensors between its operators, and without None among its outputs.

    MindSpore names every tensor by the path of the source that computes it, several times over; in a small quantized
    network these names are half of the file. Names of parameters and inputs keep their part after the colon. It writes
    a None that a network returns beside its tensors, in tuples, lists and dicts, but cannot load it; and that all
    parameters are read before the network ends, which nothing depends on where none is written. Shapes of what unpacks
    a weight are left out: MindSpore infers them when it loads the file.
    """
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(data)
    _leave_none_out(model)
    if not model.functions:
        _leave_order_out(model)
        _shorten(model)
        _leave_shapes_out(model)
    short: bytes = model.SerializeToString()
    return short


def _shorten(model: Any) -> None:
    graph, renamed = model.graph, {}
    for value in (*graph.parameter, *graph.input):
        renamed[value.name] = f"net:{value.name.rpartition(':')[2]}"
    if len(set(renamed.values())) != len(renamed):
        return
    kinds = {f"REF::{primitive.name}": f"p{i}" for i, primitive in enumerate(model.primitives)}
    for i, primitive in enumerate(model.primitives):
        primitive.name = f"p{i}"
    for i, node in enumerate(graph.node):
        renamed |= {name: f"{i}" if j == 0 else f"{i}.{j}" for j, name in enumerate(node.output)}
    for value in (*graph.parameter, *graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        node.name = renamed.get(node.name, node.output[0])
        node.ClearField("domain")
        if node.op_type in kinds:
            node.op_type = f"REF::{kinds[node.op_type]}"
        del node.node_attr[:]  # only needed for training
        _rename(node.input, renamed)
        _rename(node.output, renamed)
    graph.name = "net"


def _leave_shapes_out(model: Any) -> None:
    """Without shapes and names of the operators between a packed weight and its reader, four to seven a layer, and of
    the constants and scales that they read.

    Other operators keep them, for those that read the file otherwise than MindSpore's ``load`` does.
    """
    kinds = {f"REF::{primitive.name}": primitive.op_type for primitive in model.primitives}
    known = {parameter.name for parameter in model.graph.parameter}  # what no input of the network changes
    made: dict[str, Any] = {}
    unpacks: set[str] = set()
    for node in model.graph.node:
        kind = _kind(node, kinds)
        if kind in ("Constant", "Load", *UNPACKS) and known.issuperset(node.input):
            known.update(node.output)
            made[node.output[0]] = node
            if kind == "LeftShift":
                unpacks.update((node.output[0], node.input[0]))
            elif kind in UNPACKS and unpacks.intersection(node.input[:1]):
                unpacks.update((node.output[0], *(name for name in node.input if name in made)))
    for name in unpacks:
        if _kind(made[name], kinds) != "Constant":  # whose attribute is its value
            del made[name].attribute[:]
        made[name].ClearField("name")


def _rename(names: Any, renamed: dict[str, str]) -> None:
    names[:] = [renamed.get(name, name) for name in names]


def _leave_order_out(model: Any) -> None:
    """Without the nodes that only say: all of these parameters are read before this output is."""
    graph, kinds = model.graph, {f"REF::{primitive.name}": primitive.op_type for primitive in model.primitives}
    made = {name: node for node in graph.node for name in node.output}
    short: dict[str, str] = {}
    for node in graph.node:
        if _kind(node, kinds) == "Depend" and _only_reads(made.get(node.input[1]), made, kinds):
            short[node.output[0]] = node.input[0]
    for value in (*graph.node, *graph.output):
        _lead_past(value, short)
    while unused := _unused_order(graph, kinds):
        for node in unused:
            graph.node.remove(node)
    needed = {node.op_type for node in graph.node}
    for primitive in [one for one in model.primitives if f"REF::{one.name}" not in needed]:
        model.primitives.remove(primitive)


def _unused_order(graph: Any, kinds: dict[str, str]) -> list[Any]:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    about_order = ("Depend", "UpdateState", *TUPLES)
    return [node for node in graph.node if node.output[0] not in used and _kind(node, kinds) in about_order]


def _kind(node: Any, kinds: dict[str, str]) -> str:
    return "" if node is None else kinds.get(node.op_type, node.op_type)


def _only_reads(state: Any, made: dict[str, Any], kinds: dict[str, str]) -> bool:
    """Whether the state comes after reading parameters, and after nothing else."""
    if _kind(state, kinds) != "UpdateState":
        return False
    before, *after = state.input
    read = {part for name in after for part in _parts(name, made, kinds)}
    starts = _kind(made.get(before), kinds) == "Constant" or _only_reads(made.get(before), made, kinds)
    return starts and all(_kind(made.get(name), kinds) == "Load" for name in read)


def _parts(name: str, made: dict[str, Any], kinds: dict[str, str]) -> list[str]:
    """The names in a tuple; that of another value itself."""
    node = made.get(name)
    return [name] if node is None or _kind(node, kinds) not in TUPLES else list(node.input)


def _lead_past(value: Any, short: dict[str, str]) -> None:
    """value: a node, whose inputs are changed, or an output of the graph."""
    if hasattr(value, "input"):
        value.input[:] = [_end(name, short) for name in value.input]
    else:
        value.name = _end(value.name, short)


def _end(name: str, short: dict[str, str]) -> str:
    while name in short:
        name = short[name]
    return name


def _leave_none_out(model: Any) -> None:
    """Change the tuples that lead to the outputs, and what is written of their elements."""
    made = {name: node for node in model.graph.node for name in node.output}
    kinds = {f"REF::{primitive.name}": primitive.op_type for primitive in model.primitives}
    for output in model.graph.output:
        _shorten_tuple(output.name, made, kinds)
        for described in output.attr_info.values and [output.attr_info]:
            _drop_none(described)


def _shorten_tuple(name: str, made: dict[str, Any], kinds: dict[str, str]) -> None:
    node = made.get(name)
    if node is None:
        return
    kind = kinds.get(node.op_type, node.op_type)
    if kind == "Depend":
        _shorten_tuple(node.input[0], made, kinds)
    elif kind in TUPLES:
        kept = [part for part in node.input if not _is_none(made.get(part))]
        node.input[:] = kept
        for part in kept:
            _shorten_tuple(part, made, kinds)
    for attribute in node.attribute:
        if attribute.name == "shape" and kind in (*TUPLES, "Depend"):
            _drop_none(attribute)


def _is_none(node: Any) -> bool:
    return node is not None and node.op_type == "Constant" and any(_says_none(value) for value in node.attribute)


def _says_none(attribute: Any) -> bool:
    """Or an empty tuple, which has no tensors either."""
    empty = attribute.type in (attribute.TUPLE, attribute.LIST) and not attribute.values
    return bool(attribute.type == attribute.NONE or empty)


def _drop_none(described: Any) -> None:
    kept = [value for value in described.values if not _says_none(value)]
    for value in kept:
        _drop_none(value)
    if len(kept) < len(described.values):
        copies = [type(value).FromString(value.SerializeToString()) for value in kept]
        del described.values[:]
        described.values.extend(copies)
