"""Files for TensorRT keep the rules of its explicit quantization.

Source: NVIDIA TensorRT documentation, "Explicit Quantization" (quantized weights, ONNX support, recommendations on
where to place Q and DQ), here in our words:
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from autocomp.evaluators import OnnxEngine
from autocomp.evaluators.calibration import calibrate_ranges, calibrate_tensors, shared_ranges
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, Plan
from tests.networks import NETWORKS, images, randomised

from .integer_networks import OTHERS

NAMES = (*NETWORKS, *OTHERS)
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@cache
def model(name: str) -> onnx.ModelProto:
    """Every layer in w8a8, in the form for TensorRT; checked to give what the evaluation gives."""
    net, x = randomised((NETWORKS | OTHERS)[name]()), images(16)
    graph, parameters = trace(net, (x[:1],)), parameters_of(net)
    space = search_space(graph, parameters, Choices([Format(), Format.parse("w8a8")], 4, "rtn", symmetric=True))
    engine, plain = OnnxEngine(graph, parameters), PlanCompressor(space, parameters)(Plan())
    tensors = calibrate_tensors(engine, graph, plain, (x,), symmetric=True)
    ranges = shared_ranges(graph, calibrate_ranges(engine, space, plain, (x,), symmetric=True), tensors)
    compressor = PlanCompressor(space, parameters, ranges, tensors=tensors)
    compressed = compressor(Plan({knob.name: "w8a8" for knob in space.knobs}))
    style = Style(integer_weights=True, unpacks_at_load=False)
    found = onnx_network(graph, parameters, compressed, style)
    evaluated = onnx_network(graph, parameters, compressed).SerializeToString()
    assert norm_error(run_onnx(found.SerializeToString(), (x,))[0], run_onnx(evaluated, (x,))[0]) < 0.02
    return found


class Read:
    """A model's nodes by what they make, and its constants."""

    def __init__(self, name: str) -> None:
        graph = model(name).graph
        self.nodes = list(graph.node)
        self.maker = {output: node for node in graph.node for output in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def made_by(self, tensor: str) -> str:
        return self.maker[tensor].op_type if tensor in self.maker else "constant"

    def of(self, *kinds: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in kinds]


@pytest.fixture(params=NAMES)
def read(request: pytest.FixtureRequest) -> Read:
    return Read(request.param)


def test_quantization_is_symmetric_in_signed_integers(read: Read) -> None:
    """Rule: quantization is symmetric. Zero points are 0, of INT8."""
    for node in read.of("QuantizeLinear", "DequantizeLinear"):
        for name in node.input[2:]:
            assert read.constants[name].dtype == np.int8 and not read.constants[name].any()


def test_activations_have_one_scale_and_weights_one_for_each_output(read: Read) -> None:
    """Rule: activations per tensor, weights per tensor or per channel, along the axis of the outputs."""
    for node in read.of("QuantizeLinear"):
        assert read.constants[node.input[1]].shape == ()
    stored = [node for node in read.of("DequantizeLinear") if node.input[0] in read.constants]
    assert stored
    for node in stored:
        (axis,) = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
        weight, scale = read.constants[node.input[0]], read.constants[node.input[1]]
        assert weight.dtype == np.int8 and scale.shape == (weight.shape[axis],) and np.all(scale > 0)


def test_all_inputs_of_weighted_operators_are_quantized(read: Read) -> None:
    """Rule: all inputs of weighted operators are quantized. A weight may be moved by operators that TensorRT folds."""
    weighted = read.of(*WEIGHTED)
    assert weighted
    for node in weighted:
        assert read.made_by(node.input[0]) == "DequantizeLinear"
        weight = node.input[1]
        while read.made_by(weight) in ("Transpose", "Reshape"):
            weight = read.maker[weight].input[0]
        assert read.made_by(weight) == "DequantizeLinear"


def test_biases_are_floats(read: Read) -> None:
    """A bias is no input that may be quantized: it is added in the layer's accumulator."""
    for node in read.of("Conv", "ConvTranspose", "Gemm"):
        for name in node.input[2:]:
            assert read.constants[name].dtype == np.float32


@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_one_operand_of_an_addition_is_quantized_and_the_other_is_not(name: str) -> None:
    """Rules: outputs of weighted operators are not quantized by default, the residual of a skip connection is: so
    convolution and addition are fused."""
    read = Read(name)
    added = [sorted(read.made_by(operand) for operand in node.input) for node in read.of("Add")]
    assert all(kinds == ["Conv", "DequantizeLinear"] for kinds in added)
    assert added or name != "residual"
