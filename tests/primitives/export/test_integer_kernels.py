"""Exported files as onnxruntime runs them: every layer in integers, with the results of the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from autocomp.measurement.integer_sums import adds_in_16_bits
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, LayerState, PlanCompressor
from autocomp.primitives.numerics.quantizers import quantize_weight, saturates

from .integer_networks import EXPORT, FORMATS, NAMES, Rounded, rounded

FLOATS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
INTEGERS = ("QLinearConv", "QGemm", "MatMulIntegerToFloat", "QLinearMatMul")
MULTIPLIES = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@pytest.mark.parametrize("form", ["w8a8", "w4a8"])
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_runs_in_integers(name: str, form: str, tmp_path: Path) -> None:
    found = rounded(name)
    compressed = found.compressed(form)
    ran = found.kernels(compressed, tmp_path)
    written = onnx_network(found.graph, found.parameters, compressed, EXPORT).graph.node
    assert sum(ran[kernel] for kernel in FLOATS) == 0
    assert sum(ran[kernel] for kernel in INTEGERS) == sum(node.op_type in MULTIPLIES for node in written)


@pytest.mark.parametrize("form", ["w8a8", "w4a8"])
@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_evaluation(name: str, form: str) -> None:
    """Kernels in integers and the rewrites before them change nothing but numbers between two levels."""
    found = rounded(name)
    compressed = found.compressed(form)
    exported, floats = found.run(compressed, EXPORT), found.run(found.compressed("float"), EXPORT)
    assert norm_error(exported, found.run(compressed, EXPORT, optimized=False)) < 1e-3
    evaluated = found.run(compressed, Style())
    assert norm_error(exported, evaluated) < min(0.02, 0.7 * norm_error(evaluated, floats))


@pytest.mark.parametrize("name", NAMES)
def test_mixed_plans_give_the_results_of_the_evaluation(name: str) -> None:
    found, rng = rounded(name), np.random.default_rng(3)
    for _ in range(20):
        formats = rng.choice(FORMATS, len(found.graph.layers)).tolist()
        compressed = found.compressed(*formats)
        assert norm_error(found.run(compressed, EXPORT), found.run(compressed, Style())) < 0.03, formats


def with_whole_range(found: Rounded, compressed: CompressedWeights) -> CompressedWeights:
    """The plan's network with weights of 8 bits whose pairs are not limited."""
    layers = {}
    for layer, state in compressed.layers.items():
        weight = found.parameters[found.graph.nodes[found.graph.layers[layer]].weight]
        quantized = quantize_weight(weight, 8)
        layers[layer] = replace(state, quantized=quantized, weight=quantized.dequantized())
    return replace(compressed, layers=layers)


def stored(found: Rounded, compressed: CompressedWeights) -> dict[str, int]:
    """Layer -> the type of its weight in the file."""
    model = onnx_network(found.graph, found.parameters, compressed, EXPORT)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {layer: types[found.graph.nodes[i].weight] for layer, i in found.graph.layers.items()}


@pytest.mark.parametrize("name", ["residual", "concatenating", "depthwise", "grouped"])
def test_pairs_of_weights_fit_into_16_bits(name: str) -> None:
    """But those of depthwise layers, whose kernel adds in 32 bits."""
    found = rounded(name)
    compressed = found.compressed("w8a8")
    for layer, i in found.graph.layers.items():
        quantized = compressed.layers[layer].quantized
        assert quantized is not None
        assert found.graph.nodes[i].depthwise or not saturates(quantized)
    assert set(stored(found, compressed).values()) == {TensorProto.INT8}


@pytest.mark.parametrize("name", ["residual", "concatenating", "rows", "grouped"])
def test_weights_whose_pairs_do_not_fit_are_stored_unsigned(name: str, tmp_path: Path) -> None:
    """Kernels for them do not saturate: the results stay those of the evaluation, in integers."""
    found = rounded(name)
    compressed = with_whole_range(found, found.compressed("w8a8"))
    nodes = {layer: found.graph.nodes[i] for layer, i in found.graph.layers.items()}
    added = {layer: state.quantized for layer, state in compressed.layers.items() if not nodes[layer].depthwise}
    beyond = {layer for layer, quantized in added.items() if quantized and saturates(quantized)}
    types = stored(found, compressed)
    assert beyond and {layer for layer, kind in types.items() if kind == TensorProto.UINT8} == beyond
    assert norm_error(found.run(compressed, EXPORT), found.run(compressed, Style())) < 0.02
    ran = found.kernels(compressed, tmp_path)
    assert sum(ran[kernel] for kernel in FLOATS) == 0


def distance(some: Mapping[str, LayerState], others: Mapping[str, LayerState]) -> float:
    return sum(norm_error(some[layer].weight, others[layer].weight) for layer in others)


@pytest.mark.parametrize("name", ["residual", "concatenating", "rows", "grouped"])
def test_where_sums_have_32_bits_weights_have_their_whole_range(name: str, tmp_path: Path) -> None:
    """They are stored signed, for the faster kernels: evaluation and file have the same numbers."""
    found = rounded(name)
    known = found.compressor
    compressor = PlanCompressor(known.space, found.parameters, known.ranges, tensors=known.tensors, int16_sums=False)
    limited = found.compressed("w8a8")
    compressed = compressor(limited.plan)
    for layer, i in found.graph.layers.items():
        quantized = compressed.layers[layer].quantized
        whole = quantize_weight(found.parameters[found.graph.nodes[i].weight], 8)
        assert quantized is not None and np.array_equal(quantized.integers, whole.integers)
    assert set(stored(found, compressed).values()) == {TensorProto.INT8}
    floats = found.compressed("float").layers
    assert distance(compressed.layers, floats) < distance(limited.layers, floats)
    evaluated = found.run(compressed, Style())
    assert norm_error(found.run(compressed, EXPORT, optimized=False), evaluated) < 0.02
    assert adds_in_16_bits() or norm_error(found.run(compressed, EXPORT), evaluated) < 0.02
    ran = found.kernels(compressed, tmp_path)
    assert sum(ran[kernel] for kernel in FLOATS) == 0


def test_nothing_in_a_file_is_computed_in_vain() -> None:
    """Of a layer in floats before a max pool the pool's output alone is rounded."""
    found = rounded("shuffling")
    formats = ["float", *["w8a8"] * (len(found.graph.layers) - 1)]
    model = onnx_network(found.graph, found.parameters, found.compressed(*formats), EXPORT)
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    assert [node.name for node in model.graph.node if read.isdisjoint(node.output)] == []
    assert [tensor.name for tensor in model.graph.initializer if tensor.name not in read] == []


@pytest.mark.parametrize("form", ["float", "w8a8", "w4a8", "w8"])
def test_groups_are_those_for_which_onnxruntime_has_fast_kernels(form: str) -> None:
    """It takes up to twenty times as long for channels that are convolved alone into several, up to five times for
    groups in integers, and for groups of floats that fill no block."""
    found = rounded("grouped")
    written = onnx_network(found.graph, found.parameters, found.compressed(form), EXPORT).graph
    left = {
        node.name.split("/")[0]: helper.get_node_attr_value(node, "group") for node in written.node if groups_of(node)
    }
    wide = {"narrow": 3, "wide": 3, "middle": 6, "halves": 2}
    assert left == {"twice": 96} | (wide if form in ("float", "w8") else {})


def groups_of(node: NodeProto) -> bool:
    return any(one.name == "group" and one.i > 1 for one in node.attribute)
