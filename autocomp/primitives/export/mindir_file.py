"""MindIR files: short names, and outputs that MindSpore can load again."""

from __future__ import annotations

from typing import Any

TUPLES = ("MakeTuple", "make_tuple", "MakeList", "make_list")


def compact(data: bytes) -> bytes:
    """The MindIR with short names for the tensors between its operators, and without None among its outputs.

    MindSpore names every tensor by the path of the source that computes it, several times over; in a small quantized
    network these names are half of the file. Names of parameters and inputs keep their part after the colon. It writes
    a None that a network returns beside its tensors, in tuples, lists and dicts, but cannot load it.
    """
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    model.ParseFromString(data)
    _leave_none_out(model)
    _shorten(model)
    short: bytes = model.SerializeToString()
    return short


def _shorten(model: Any) -> None:
    graph, renamed = model.graph, {}
    for value in (*graph.parameter, *graph.input):
        renamed[value.name] = f"net:{value.name.rpartition(':')[2]}"
    if model.functions or len(set(renamed.values())) != len(renamed):
        return
    for i, node in enumerate(graph.node):
        renamed |= {name: f"{i}" if j == 0 else f"{i}.{j}" for j, name in enumerate(node.output)}
    for value in (*graph.parameter, *graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)
    for node in graph.node:
        node.name = renamed.get(node.name, node.output[0])
        node.domain = ""
        del node.node_attr[:]  # only needed for training
        _rename(node.input, renamed)
        _rename(node.output, renamed)
    graph.name = "net"


def _rename(names: Any, renamed: dict[str, str]) -> None:
    names[:] = [renamed.get(name, name) for name in names]


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
