"""Files for atc and for its toolkit compute what the search evaluated, in the integers that their rules ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from autocomp.errors import ExportError
from autocomp.hardware_models import device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import FLOAT
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.ascend.checking import checked_model
from autocomp.primitives.export.ascend.deployable import deployable_model, packed
from autocomp.primitives.export.ascend.integer_form import in_standard_operators, scales_of
from autocomp.primitives.export.ascend.layers import output_scales
from autocomp.primitives.export.ascend.opset import OPSET, lowered
from autocomp.primitives.export.files import ROUNDED, norm_error, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style, Writer
from autocomp.primitives.numerics.plan_compressor import CompressedWeights
from autocomp.primitives.registry import search_space
from autocomp.search_spaces import Format
from tests.primitives.export.integer_networks import FORMATS, NAMES, rounded

from .models import array, model, nodes, simulated, weights

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def run(some: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return run_onnx(in_standard_operators(some).SerializeToString(), (x,))[0]


@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w8", "w4"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_for_atc_computes_what_the_search_evaluated(name: str, text: str) -> None:
    found = run(model(name, text), rounded(name).x)
    assert norm_error(found, simulated(name, text)) < (ROUNDED / 2 if "a" in text else 1e-6)


@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w8", "w4"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_for_the_toolkit_computes_what_the_search_evaluated(name: str, text: str) -> None:
    """Its biases are floats: nothing is rounded that the search did not round. A scale that is divided by a whole
    factor moves a few inputs to the other side of a half, and so does a processor that adds in another order."""
    found = run_onnx(model(name, text, "training").SerializeToString(), (rounded(name).x,))[0]
    assert norm_error(found, simulated(name, text)) < {"w4a8": 5e-3, "w8a8": 1e-3}.get(text, 1e-5)


def on_steps(name: str) -> CompressedWeights:
    """Every layer in w8a8, with biases that are whole steps of its integers."""
    some, compressed = rounded(name), weights(name, "w8a8")
    writer = Writer(some.graph, some.parameters, compressed, Style())
    layers = {}
    for layer in compressed.layers:
        if writer.folded_into.get(layer) is None and (bias := compressed.layers[layer].bias) is not None:
            steps = output_scales(compressed.layers[layer])
            snapped = (np.rint(bias / steps) * steps).astype(np.float32)
            layers[layer] = replace(compressed.layers[layer], bias=snapped)
    return replace(compressed, layers={**compressed.layers, **layers})


@pytest.mark.parametrize("name", ["gated", "rows", "upsampling", "shuffling"])
def test_only_biases_are_rounded_more_than_in_the_search(name: str) -> None:
    """With biases that are whole steps the integers give the evaluated outputs to the last digits."""
    some, compressed = rounded(name), on_steps(name)
    evaluated = onnx_network(some.graph, some.parameters, compressed).SerializeToString()
    found = run(deployable_model(some.graph, some.parameters, compressed, len(some.x)), some.x)
    assert norm_error(found, run_onnx(evaluated, (some.x,))[0]) < 1e-3  # a few roundings of a half


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_a_plan_in_integers_stands_in_integers(name: str) -> None:
    found = model(name)
    assert {node.name for node in nodes(found, *LAYERS)} >= set(checked_model(found, Path("net.onnx")).layers)
    assert len(checked_model(found, Path("net.onnx")).layers) == len(rounded(name).graph.layers)
    for node in nodes(found, *LAYERS):
        assert array(found, node.input[1]).dtype == np.int8


def credited(name: str, text: str, chip: str = "ascend-310p3") -> set[str]:
    """The layers that the cost model computes in integers."""
    some, formats = rounded(name), [Format.parse(one) for one in FORMATS]
    space = search_space(some.graph, some.parameters, Choices(formats, 4, "rtn"))
    workload = space.workload(np.array([[knob.formats.index(Format.parse(text)) for knob in space.knobs]]), 1)
    network = LoweredNetwork(device(chip), lower(some.graph, device(chip).fuses_pools), workload)
    return {layer for layer, i in some.graph.layers.items() if network.precision(i)[0] > FLOAT}


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_the_layers_that_are_credited_are_those_that_stand_in_integers(name: str, text: str) -> None:
    graph = rounded(name).graph
    written = checked_model(model(name, text), Path("net.onnx")).layers if text != "float" else ()
    layers = {node.layer for node in graph.nodes if node.layer is not None and _written(node, set(written))}
    assert layers == credited(name, text)


def _written(node: object, names: set[str]) -> bool:
    name = str(getattr(node, "name", ""))
    return name in names or f"{name}.product" in names


def test_a_dense_layer_has_one_scale_and_its_channels_are_corrected_behind_it() -> None:
    found = model("rows")
    for node in nodes(found, "Gemm"):
        dequant = next(one for one in nodes(found, "AscendDequant") if node.output[0] in one.input)
        factor = next(one for one in nodes(found, "Mul") if dequant.output[0] in one.input)
        assert array(found, dequant.input[1]).shape == (1,) and array(found, factor.input[1]).ndim == 1


def test_scales_are_packed_as_the_bits_of_floats() -> None:
    scales = np.array([1.0, 0.5, 3.7e-5], np.float32)
    assert packed(scales).tolist() == [0x3F800000, 0x3F000000, int(scales[2:].view(np.uint32)[0])]
    assert scales_of(packed(scales)).tolist() == scales.tolist()


@pytest.mark.parametrize("form", ["deployable", "training"])
@pytest.mark.parametrize("name", NAMES)
def test_files_have_a_low_opset_and_static_shapes(name: str, form: str) -> None:
    found = model(name, form=form)
    assert [(one.domain, one.version) for one in found.opset_import] == [("", OPSET)]
    for value in found.graph.input:
        assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [16, 3, 12, 12]


def test_a_part_of_a_shape_becomes_a_slice() -> None:
    """Shape gives parts since opset 15."""
    make, kind = onnx.helper, onnx.TensorProto
    given = make.make_tensor_value_info("x", kind.FLOAT, ["batch", 3, 5])
    result = make.make_tensor_value_info("y", kind.INT64, [2])
    graph = make.make_graph([make.make_node("Shape", ["x"], ["y"], name="y", start=1, end=3)], "g", [given], [result])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=10)
    found = lowered(model)
    assert [node.op_type for node in found.graph.node] == ["Shape", "Slice"]
    (sizes,) = run_onnx(found.SerializeToString(), (np.zeros((2, 3, 5), np.float32),))
    assert sizes.tolist() == [3, 5]


def test_an_operator_of_a_later_opset_is_named() -> None:
    node = onnx.helper.make_node("Mish", ["x"], ["y"], name="head/act")
    graph = onnx.helper.make_graph([node], "g", [], [])
    with pytest.raises(ExportError, match="head/act needs ONNX's operator Mish"):
        lowered(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]))
