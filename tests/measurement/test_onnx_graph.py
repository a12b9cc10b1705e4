"""An ONNX file costs what the network costs of which it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from autocomp.hardware_models import device
from autocomp.hardware_models.measurements.shapes import OperatorShape
from autocomp.measurement.onnx_graph import read_workload
from autocomp.measurement.operator_models import fixed_batch, operator_model, workload_model
from autocomp.search_spaces import SearchSpace, Workload
from tests.conftest import Subject

CHIPS = ("ascend-310p3", "nvidia-t4", "nvidia-h100")
SHAPES = [
    OperatorShape("conv", "", "float", 4, 24, 40, 28, 28, 3, repeat=3),
    OperatorShape("conv", "", "w8a8", 4, 32, 64, 28, 28, 3, repeat=2),
    OperatorShape("conv", "", "w8", 1, 32, 64, 28, 28, 1, repeat=2),
    OperatorShape("conv", "ReLU6", "float", 2, 96, 96, 28, 28, 3, 2, 96),
    OperatorShape("conv", "SiLU", "float", 2, 32, 32, 28, 28, 3),
    OperatorShape("conv", "GeLU", "float", 2, 32, 32, 28, 28, 1),
    OperatorShape("dense", "", "float", 8, 256, 512, repeat=2),
    OperatorShape("dense", "", "w8a8", 2, 256, 512, 64),
    OperatorShape("matmul", channels_in=64, channels_out=196, height=196, groups=12),
    OperatorShape("add", "Add", channels_in=64, height=28, width=28),
    OperatorShape("pool", "MaxPool", channels_in=64, height=28, width=28, kernel=2),
    OperatorShape("pool", "AvgPool", channels_in=64, height=28, width=28, kernel=2),
    OperatorShape("mean", channels_in=64, height=28, width=28),
    OperatorShape("softmax", channels_in=196, height=196, groups=12),
    OperatorShape("layernorm", channels_in=768, height=196),
    OperatorShape("activation", "HSwish", channels_in=64, height=56, width=56),
    OperatorShape("activation", "Mish", channels_in=64, height=56, width=56),
]


def latencies(workload: Workload) -> list[float]:
    return [float(device(name).costs(workload).latency_ms[0]) for name in CHIPS]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_file_costs_what_its_shape_costs(shape: OperatorShape, tmp_path: Path) -> None:
    free, fixed = tmp_path / "free.onnx", tmp_path / "fixed.onnx"
    free.write_bytes(operator_model(shape))
    fixed.write_bytes(fixed_batch(operator_model(shape), shape.batch))
    wanted = pytest.approx(latencies(shape.workload()), rel=0.01)
    assert latencies(read_workload(free, shape.batch)) == wanted
    assert latencies(read_workload(fixed, 1 + shape.batch)) == wanted


def test_a_written_network_costs_what_it_costs_traced(subject: Subject, tmp_path: Path) -> None:
    """BatchNorm is folded in the file, and costs nothing in the graph."""
    workload = Workload(SearchSpace(subject.graph, ()), np.zeros((1, 0), np.int64), 4)
    path = tmp_path / "net.onnx"
    path.write_bytes(workload_model(workload, subject.parameters, {}, {}))
    assert latencies(read_workload(path, 4)) == pytest.approx(latencies(workload), rel=0.02)


def test_layers_keep_the_formats_of_the_file(tmp_path: Path) -> None:
    """Weights that are only stored in integers are floats for every device's arithmetic."""
    for form, kept in (("float", set()), ("w8", set()), ("w8a8", {"w8a8"})):
        shape = OperatorShape("conv", "", form, 1, 32, 64, 28, 28, 1, repeat=2)
        (tmp_path / "net.onnx").write_bytes(operator_model(shape))
        found = read_workload(tmp_path / "net.onnx")
        assert {str(knob.values[1]) for knob in found.space.knobs} == kept


def _stored(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], weights: dict[str, np.ndarray]) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def test_the_parts_of_a_split_are_read_where_they_lie(tmp_path: Path) -> None:
    sums = [helper.make_node("Sum", [f"p{i}" for i in range(4)], ["y"])]
    nodes = [helper.make_node("Split", ["x"], [f"p{i}" for i in range(4)], axis=1), *sums]
    found = read_workload(_stored(tmp_path / "net.onnx", nodes, ["n", 64, 28, 28], {}))
    parts = [node for node in found.graph.nodes if node.attributes.part is not None]
    assert [(node.shape, node.part.start) for node in parts] == [((1, 16, 28, 28), start) for start in (0, 16, 32, 48)]
    assert [row.kind for row in device("ascend").cost_table(found)] == ["add"]


def test_a_transposed_convolution_counts_the_pixels_that_it_reads(tmp_path: Path) -> None:
    weight = {"w": np.ones((32, 16, 2, 2), np.float32)}
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])]
    found = read_workload(_stored(tmp_path / "net.onnx", nodes, ["n", 32, 14, 14], weight))
    assert device("ascend").costs(found).macs[0] == 14 * 14 * 32 * 16 * 4


def test_shapes_that_the_file_computes_are_known(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Concat", ["b", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([-1]), "w": np.ones((64, 10), np.float32)}
    found = read_workload(_stored(tmp_path / "net.onnx", nodes, ["n", 4, 4, 4], weights), 8)
    assert found.graph.nodes[-1].shape == (8, 10)
    assert device("ascend").costs(found).macs[0] == 8 * 640


WRONG: list[tuple[list[onnx.NodeProto], list[int | str], str]] = [
    ([helper.make_node("NonZero", ["x"], ["y"])], [1, 4], "operators of known cost, but .* has NonZero"),
    ([helper.make_node("Relu", ["x"], ["y"])], [1, "tokens"], "fixed sizes but for its batch, but .* has x"),
    ([helper.make_node("Identity", ["w"], ["y"])], [1, 4], "compute an output from its input"),
    ([helper.make_node("Reshape", ["x", "w"], ["y"])], [1, 4], "sizes that no number decides, but .* has y"),
]


@pytest.mark.parametrize(("nodes", "shape", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_cannot_be_costed_is_refused(
    nodes: list[onnx.NodeProto], shape: list[int | str], message: str, tmp_path: Path
) -> None:
    path = _stored(tmp_path / "net.onnx", nodes, shape, {"w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=message):
        read_workload(path)


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match=r"must be an ONNX file, but .* cannot be read"):
        read_workload(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_workload(tmp_path / "missing.onnx")
