"""Files of ours keep the documented rules for an Ascend; files that break one are refused by that rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import autocomp
from autocomp.primitives.export.ascend.checking import checked_model
from autocomp.primitives.export.ascend.rules import RULES
from tests.primitives.export.integer_networks import NAMES

from .models import Change, array, model, nodes, reader, set_attribute, store


@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w8", "w4"])
@pytest.mark.parametrize("form", ["deployable", "training"])
@pytest.mark.parametrize("name", NAMES)
def test_our_files_keep_the_rules(name: str, form: str, text: str) -> None:
    report = checked_model(model(name, text, form), Path("net.onnx"))
    assert report.problems == ()
    assert report.form == (form if "a" in text else "float")


def first(some: onnx.ModelProto, *kinds: str) -> onnx.NodeProto:
    return nodes(some, *kinds)[0]


def set_first(kind: str, name: str, value: object) -> Change:
    return lambda some: set_attribute(first(some, kind), name, value)


def param_of(some: onnx.ModelProto, kind: str) -> str:
    """deq_scale of the first layer of this kind."""
    return reader(some, first(some, kind), "AscendDequant").input[1]


def change_param(kind: str, change: object) -> Change:
    def apply(some: onnx.ModelProto) -> None:
        name = param_of(some, kind)
        store(some, name, change(array(some, name)))  # type: ignore[operator]

    return apply


def change_input(kind: str, i: int, change: object) -> Change:
    """Of the first node of this kind that has so many inputs."""

    def apply(some: onnx.ModelProto) -> None:
        node = next(one for one in nodes(some, kind) if len(one.input) > i)
        store(some, node.input[i], change(array(some, node.input[i])))  # type: ignore[operator]

    return apply


def bypass(kind: str, i: int = 0) -> Change:
    """Readers of the first node of this kind read its input instead."""

    def apply(some: onnx.ModelProto) -> None:
        node = first(some, kind)
        for other in some.graph.node:
            other.input[:] = [node.input[i] if name == node.output[0] else name for name in other.input]
        some.graph.node.remove(node)

    return apply


def quantize_a_relu(some: onnx.ModelProto) -> None:
    relu, quant = first(some, "Relu"), first(some, "AscendQuant")
    relu.input[0] = quant.output[0]
    some.graph.node.remove(relu)
    some.graph.node.insert(list(some.graph.node).index(quant) + 1, relu)


def also_return_the_integers(some: onnx.ModelProto) -> None:
    some.graph.output.append(helper.make_tensor_value_info(first(some, "Conv").output[0], TensorProto.INT32, None))


def dequantize_floats(some: onnx.ModelProto) -> None:
    node = first(some, "AscendDequant")
    some.graph.node.append(
        helper.make_node("AscendDequant", [some.graph.input[0].name, node.input[1]], ["z"], name="z")
    )


def free_batch(some: onnx.ModelProto) -> None:
    some.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"


def empty_axis(some: onnx.ModelProto) -> None:
    some.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0


def shuffle(some: onnx.ModelProto) -> None:
    last = some.graph.node[-1]
    some.graph.node.remove(last)
    some.graph.node.insert(0, last)


def set_opset(version: int) -> Change:
    def apply(some: onnx.ModelProto) -> None:
        some.opset_import[0].version = version

    return apply


def other_domain(some: onnx.ModelProto) -> None:
    first(some, "AscendQuant").domain = "com.huawei"


def rename(name: str) -> Change:
    def apply(some: onnx.ModelProto) -> None:
        some.graph.node[1].name = name or some.graph.node[0].name

    return apply


def round_the_output(some: onnx.ModelProto) -> None:
    node = first(some, "Identity")
    store(some, "one", np.float32(1))
    store(some, "none", np.int8(0))
    pair = [
        helper.make_node("QuantizeLinear", [node.input[0], "one", "none"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "one", "none"], ["dq"], name="dq"),
    ]
    node.input[0] = "dq"
    at = list(some.graph.node).index(node)
    for i, one in enumerate(pair):
        some.graph.node.insert(at + i, one)


def cut_a_weight(some: onnx.ModelProto) -> None:
    """A weight for fewer channels than its input has."""
    node = nodes(some, "Conv")[1]
    store(some, node.input[1], array(some, node.input[1])[:, :-1])


def weight_in_floats(some: onnx.ModelProto) -> None:
    node = first(some, "Conv")
    store(some, node.input[1], array(some, node.input[1]).astype(np.float32))


BROKEN: dict[str, tuple[str, Change, str]] = {  # title: network, change, the rule that refuses it
    "a scale of 0": ("residual", set_first("AscendQuant", "scale", 0.0), "quant-attributes"),
    "a negative scale": ("residual", set_first("AscendQuant", "scale", -2.0), "quant-attributes"),
    "a scale in integers": ("residual", set_first("AscendQuant", "scale", 2), "quant-attributes"),
    "no scale": ("residual", set_first("AscendQuant", "scale", None), "quant-attributes"),
    "no offset": ("residual", set_first("AscendQuant", "offset", None), "quant-attributes"),
    "an offset out of int8": ("residual", set_first("AscendQuant", "offset", 200.0), "quant-attributes"),
    "a broken offset": ("residual", set_first("AscendQuant", "offset", 0.5), "quant-attributes"),
    "4-bit inputs": ("residual", set_first("AscendQuant", "dst_type", "INT4"), "quant-attributes"),
    "a scale as input": ("residual", lambda m: first(m, "AscendQuant").input.append(m.graph.input[0].name),
                         "quant-attributes"),
    "an integer ReLU": ("residual", quantize_a_relu, "quant-readers"),
    "weights in floats": ("residual", weight_in_floats, "weight"),
    "unsigned weights": ("residual", change_input("Conv", 1, lambda w: np.abs(w).astype(np.uint8)), "weight"),
    "a bias in floats": ("residual", change_input("Conv", 2, lambda b: b.astype(np.float32)), "bias"),
    "a short bias": ("residual", change_input("Conv", 2, lambda b: b[:-1]), "bias"),
    "integers without AscendDequant": ("residual", bypass("AscendDequant"), "dequant"),
    "integers that are returned": ("residual", also_return_the_integers, "dequant"),
    "floats into AscendDequant": ("residual", dequantize_floats, "dequant"),
    "floats into integers": ("residual", bypass("AscendQuant"), "dequant"),
    "a dtype of ONNX": ("residual", set_first("AscendDequant", "dtype", 10), "dequant-attributes"),
    "a dtype in words": ("residual", set_first("AscendDequant", "dtype", "float"), "dequant-attributes"),
    "deq_scale in floats": ("residual", change_param("Conv", lambda p: p.astype(np.float32)), "deq-scale"),
    "deq_scale of 0": ("residual", change_param("Conv", np.zeros_like), "deq-scale"),
    "deq_scale with an offset": ("residual", change_param("Conv", lambda p: p | np.uint64(3 << 40)), "deq-scale"),
    "deq_scale as a matrix": ("residual", change_param("Conv", lambda p: p[None]), "deq-scale"),
    "deq_scale for other channels": ("residual", change_param("Conv", lambda p: p[:3]), "channels"),
    "deq_scale for each output of Gemm": ("residual", change_param("Gemm", lambda p: np.repeat(p, 5)), "channels"),
    "a pair of Q and DQ": ("residual", round_the_output, "one-form"),
    "Gemm with alpha": ("residual", set_first("Gemm", "alpha", 0.5), "gemm"),
    "Gemm of a transposed input": ("residual", set_first("Gemm", "transA", 1), "gemm"),
    "a dilated ConvTranspose": ("upsampling", set_first("ConvTranspose", "dilations", [2, 2]), "transposed"),
    "a free batch": ("residual", free_batch, "shapes"),
    "an axis of size 0": ("residual", empty_axis, "shapes"),
    "a late opset": ("residual", set_opset(18), "opset"),
    "an early opset": ("residual", set_opset(7), "opset"),
    "another domain": ("residual", other_domain, "opset"),
    "two nodes of one name": ("residual", rename(""), "names"),
    "nodes out of order": ("residual", shuffle, "graph"),
    "a weight of other channels": ("residual", cut_a_weight, "graph"),
}  # fmt: skip


@pytest.mark.parametrize("title", BROKEN)
def test_a_broken_file_is_refused_by_its_rule(title: str) -> None:
    name, change, rule = BROKEN[title]
    some = model(name)
    change(some)
    report = checked_model(some, Path("net.onnx"))
    assert not report.valid
    assert rule in {problem.rule.name for problem in report.problems}, report.problems


def split_pair(some: onnx.ModelProto) -> None:
    """Another scale for one of a pair."""
    node = first(some, "DequantizeLinear")
    store(some, "other", np.float32(0.7))
    node.input[1] = "other"


def lone_quantize(some: onnx.ModelProto) -> None:
    bypass("DequantizeLinear")(some)


def scales_for(kind: str, i: int, axis: int, count: int) -> Change:
    """So many scales along an axis for the pair that makes input i of the first node of this kind."""

    def apply(some: onnx.ModelProto) -> None:
        made = first(some, kind).input[i]
        pair = [node for node in nodes(some, "QuantizeLinear", "DequantizeLinear") if made in node.output[0]]
        pair += [node for node in some.graph.node if node.output[0] in pair[0].input]
        for node in pair:
            set_attribute(node, "axis", axis)
        store(some, pair[0].input[1], np.full(count, 0.1, np.float32))
        store(some, pair[0].input[2], np.zeros(count, np.int8))

    return apply


def weight_zero_point(some: onnx.ModelProto) -> None:
    zero = next(node for node in nodes(some, "DequantizeLinear") if node.name == first(some, "Conv").input[1]).input[2]
    store(some, zero, np.ones_like(array(some, zero)))


def weight_alone(some: onnx.ModelProto) -> None:
    node = first(some, "Conv")
    node.input[0] = some.graph.input[0].name


def pair_before_relu(some: onnx.ModelProto) -> None:
    relu = first(some, "Relu")
    made = next(node for node in nodes(some, "DequantizeLinear") if node.output[0] == nodes(some, "Conv")[0].input[0])
    relu.input[0] = made.output[0]


BROKEN_TRAINING: dict[str, tuple[Change, str]] = {
    "two factors": (split_pair, "pairs"),
    "QuantizeLinear alone": (lone_quantize, "pairs"),
    "scales for each channel of an input": (scales_for("Conv", 0, 1, 3), "input-scale"),
    "scales for each output of Gemm": (scales_for("Gemm", 1, 1, 5), "weight-scale"),
    "scales along another axis": (scales_for("Conv", 1, 1, 3), "weight-scale"),
    "a weight with a zero point": (weight_zero_point, "weight-zero"),
    "a rounded weight alone": (weight_alone, "both"),
    "a rounded ReLU": (pair_before_relu, "both"),
    "a free batch": (free_batch, "shapes"),
    "a late opset": (set_opset(21), "opset"),
    "Gemm with beta": (set_first("Gemm", "beta", 2.0), "gemm"),
}


@pytest.mark.parametrize("title", BROKEN_TRAINING)
def test_a_broken_file_for_the_toolkit_is_refused_by_its_rule(title: str) -> None:
    change, rule = BROKEN_TRAINING[title]
    some = model("residual", form="training")
    change(some)
    report = checked_model(some, Path("net.onnx"))
    assert rule in {problem.rule.name for problem in report.problems}, report.problems


def test_every_rule_refuses_a_file_and_names_its_source() -> None:
    tried = {rule for *_, rule in (*BROKEN.values(), *BROKEN_TRAINING.values())}
    without = {"volume", "matmul", "weight-constant"}  # no small network has such a layer: below
    assert tried | without == set(RULES)
    assert all("hiascend.com" in r.source or "github.com" in r.source or "onnx.ai" in r.source for r in RULES.values())


def layer_model(kind: str, weight: np.ndarray, shape: list[int], **attributes: Any) -> onnx.ModelProto:
    """AscendQuant, one layer, AscendDequant."""
    made = [
        helper.make_node("AscendQuant", ["x"], ["q"], name="q", scale=1.0, offset=0.0, dst_type="INT8"),
        helper.make_node(kind, ["q", "w"], ["y"], name="layer", **attributes),
        helper.make_node("AscendDequant", ["y", "s"], ["z"], name="d", dtype=0),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]
    graph = helper.make_graph(made, "g", inputs, outputs)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)
    store(found, "w", weight)
    store(found, "s", np.array([0x3F800000], np.uint64))
    return found


def test_a_dilated_volume_and_a_stack_of_matrices_are_refused() -> None:
    volume = np.ones((2, 2, 3, 3, 3), np.int8)
    kept = layer_model("Conv", volume, [1, 2, 8, 8, 8], dilations=[1, 2, 2])
    assert checked_model(kept, Path("a.onnx")).valid
    dilated = layer_model("Conv", volume, [1, 2, 8, 8, 8], dilations=[2, 1, 1])
    assert [problem.rule.name for problem in checked_model(dilated, Path("a.onnx")).problems] == ["volume"]
    stacked = layer_model("MatMul", np.ones((3, 4, 5), np.int8), [3, 2, 4])
    assert "matmul" in {problem.rule.name for problem in checked_model(stacked, Path("a.onnx")).problems}
    assert checked_model(layer_model("MatMul", np.ones((4, 5), np.int8), [3, 2, 4]), Path("a.onnx")).valid


def test_a_rounded_weight_that_is_computed_is_refused() -> None:
    some = model("residual", form="training")
    pair = next(node for node in nodes(some, "QuantizeLinear") if node.output[0].startswith("stem.weight"))
    some.graph.node.insert(0, helper.make_node("Identity", [pair.input[0]], ["computed"], name="computed"))
    pair.input[0] = "computed"
    names = {problem.rule.name for problem in checked_model(some, Path("a.onnx")).problems}
    assert "weight-constant" in names


def test_the_report_says_what_was_checked_and_what_was_not(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model("residual"), path)
    report = autocomp.validate_ascend(path)
    assert report.valid and report.form == "deployable" and len(report.layers) == 8
    assert "keeps the documented rules" in str(report) and "not checked: that atc compiles the file" in str(report)
    assert all(f"checked: {rule.text} ({rule.source})" in str(report) for rule in report.checked)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x07"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"net\.onnx must be an ONNX file"):
        autocomp.validate_ascend(tmp_path / "net.onnx")
