"""Holds an ONNX file for an Ascend to the documented rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from .file_graph import LAYERS, FileGraph
from .integer_form import in_standard_operators
from .integer_rules import integer_rules
from .opset import CUSTOM, OPSET
from .rules import DEPLOYABLE, NOT_CHECKED, RULES, TRAINING, AscendRule
from .training_rules import training_rules

FIRST_OPSET = 8
Broken = tuple[str, str, str]  # the rule's name, the node or tensor, what is wrong


@dataclass(frozen=True)
class BrokenRule:
    """place: the node or tensor that breaks the rule. found: what it has instead."""

    rule: AscendRule
    place: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found}, but {self.rule.text} ({self.rule.source})"


@dataclass(frozen=True)
class AscendReport:
    """What checking a file for an Ascend found.

    form: "deployable", the file for atc; "training", the one for ``amct_onnx.convert_qat_model``; "float", where no
        layer is in integers. layers: names of the nodes in integers. problems: rules that are broken.
    checked: the rules that were checked; not_checked: what no rule covers.
    """

    path: Path
    form: str
    layers: tuple[str, ...]
    problems: tuple[BrokenRule, ...]
    checked: tuple[AscendRule, ...]
    not_checked: tuple[str, ...] = NOT_CHECKED

    @property
    def valid(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        judged = "keeps" if self.valid else "does not keep"
        lines = [f"{self.path} {judged} the documented rules of the {self.form} form; {len(self.layers)} layers are in "
                 "integers"]  # fmt: skip
        lines += [f"  broken: {problem}" for problem in self.problems]
        lines += [f"  checked: {rule.text} ({rule.source})" for rule in self.checked]
        return "\n".join(lines + [f"  not checked: {text}" for text in self.not_checked])


def checked_model(model: onnx.ModelProto, path: Path) -> AscendReport:
    graph = FileGraph(model)
    form = DEPLOYABLE if graph.of(*CUSTOM) else TRAINING if graph.of("QuantizeLinear", "DequantizeLinear") else "float"
    rules = [rule for rule in RULES.values() if rule.form in (None, form)]
    broken = [*_common(graph), *_form_rules(graph, form)]
    if not broken:
        broken = list(_whole(graph, form))
    problems = tuple(BrokenRule(RULES[name], place, found) for name, place, found in broken)
    return AscendReport(path, form, tuple(graph.integer_layers), problems, tuple(rules))


def _form_rules(graph: FileGraph, form: str) -> Iterator[Broken]:
    if form == DEPLOYABLE:
        yield from integer_rules(graph)
    elif form == TRAINING:
        yield from training_rules(graph)


def _common(graph: FileGraph) -> Iterator[Broken]:
    yield from _opset(graph)
    yield from _shapes(graph)
    yield from _order(graph)
    for node in graph.of(*LAYERS):
        if node.name in graph.integer_layers:
            yield from _layer(graph, node)


def _opset(graph: FileGraph) -> Iterator[Broken]:
    for one in graph.model.opset_import:
        if one.domain not in ("", "ai.onnx"):
            yield "opset", "the model", f"it imports the domain {one.domain!r}"
        elif not FIRST_OPSET <= one.version <= OPSET:
            yield "opset", "the model", f"its opset is {one.version}"
    for node in graph.nodes:
        known = node.op_type in CUSTOM or onnx.defs.has(node.op_type, OPSET)
        if node.domain not in ("", "ai.onnx") or not known:
            yield "opset", node.name, f"it is {node.domain}{'.' * bool(node.domain)}{node.op_type}"


def _shapes(graph: FileGraph) -> Iterator[Broken]:
    for value in graph.model.graph.input:
        tensor = value.type.tensor_type
        if value.name in graph.constants:
            continue
        free = any(size.WhichOneof("value") != "dim_value" for size in tensor.shape.dim)
        if not tensor.HasField("shape") or free:
            yield "shapes", value.name, "it has a dynamic axis"
        elif any(size.dim_value <= 0 for size in tensor.shape.dim):
            yield "shapes", value.name, "it has an axis of size 0"


def _order(graph: FileGraph) -> Iterator[Broken]:
    made = {*graph.constants, *(value.name for value in graph.model.graph.input), ""}
    names: set[str] = set()
    for node in graph.nodes:
        for missing in [name for name in node.input if name not in made]:
            yield "graph", node.name, f"it reads {missing}, which nothing before it makes"
        for again in [name for name in node.output if name in made and name]:
            yield "graph", node.name, f"it makes {again}, which is made already"
        made.update(node.output)
        if not node.name or node.name in names:
            yield "names", node.name or node.op_type, "another node has this name" if node.name else "it has no name"
        names.add(node.name)
    for value in graph.model.graph.output:
        if value.name not in made:
            yield "graph", value.name, "nothing makes this output"


def _layer(graph: FileGraph, node: onnx.NodeProto) -> Iterator[Broken]:
    a, weight = graph.attributes(node), graph.weight(node)
    if node.op_type == "Gemm" and (a.get("transA", 0) or a.get("alpha", 1.0) != 1 or a.get("beta", 1.0) != 1):
        yield "gemm", node.name, f"it has {', '.join(f'{k}={v}' for k, v in sorted(a.items()))}"
    if node.op_type == "MatMul" and (weight is None or weight.ndim != 2):
        yield "matmul", node.name, "its weight is no constant matrix"
    dilations = list(a.get("dilations", ()))
    if node.op_type == "ConvTranspose" and (
        any(d != 1 for d in dilations) or (weight is not None and weight.ndim != 4)
    ):
        yield "transposed", node.name, f"it has dilations {dilations}"
    if node.op_type == "Conv" and len(dilations) == 3 and dilations[0] != 1:
        yield "volume", node.name, f"it has dilations {dilations}"


def _whole(graph: FileGraph, form: str) -> Iterator[Broken]:
    """Types and shapes, which ONNX's own checker knows once the model has no other operators."""
    try:
        known = in_standard_operators(graph.model) if form == DEPLOYABLE else graph.model
        inferred = onnx.shape_inference.infer_shapes(known, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
    except Exception as error:  # of any kind: the file may hold anything
        yield "graph", "the model", " ".join(str(error).split())[:300]
        return
    values = (*inferred.graph.input, *inferred.graph.value_info)
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}
    for node in graph.integer_layers.values():
        yield from _channels(graph, node, shapes.get(node.input[0], []))


def _channels(graph: FileGraph, node: onnx.NodeProto, shape: list[int]) -> Iterator[Broken]:
    """Whether the weight fits the channels of the input, where the shape is known."""
    a, weight = graph.attributes(node), graph.weight(node)
    images = node.op_type in ("Conv", "ConvTranspose")
    if weight is None or len(shape) < 2 or not all(shape):
        return
    if node.op_type == "Conv":
        wanted = weight.shape[1] * a.get("group", 1)
    else:
        wanted = weight.shape[int(node.op_type == "Gemm" and bool(a.get("transB", 0)))]
    found = shape[1] if images else shape[-1]
    if found != wanted or (images and len(shape) != weight.ndim):
        yield "graph", node.name, f"its input has {found} channels, and its weight is for {wanted}"
