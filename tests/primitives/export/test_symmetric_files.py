"""Files for runtimes without zero points, where weights of 4 bits stand beside inputs of 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import autocomp
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.export.onnx_moved import round_moved
from autocomp.primitives.numerics.bit_packing import pack_bits
from autocomp.primitives.tracing.platform import forward
from tests.networks import Tensor, nn, randomised


class Patches(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4, pad_mode="valid")
        self.norm, self.attention = nn.LayerNorm((16,)), nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Dense(16, 4)

    def construct(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        x = x.reshape((x.shape[0], 16, -1)).transpose((0, 2, 1))
        y = self.norm(x)
        return self.head((x + self.attention(y, y, y, need_weights=False)[0]).mean(1))


def test_a_file_whose_rounded_inputs_pass_a_reshape_is_loaded(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
    front = autocomp.search(
        randomised(Patches()), "size<95%", "nvidia-t4", x, primitives=["rtn"], trials=1, fine_tune=0, progress=False
    )
    point = front.evaluate(autocomp.Plan({"format/patch": "w8a8", "format/head": "w4a4"}))
    point.export(tmp_path / "net.onnx")
    found = autocomp.load_deployed(tmp_path / "net.onnx").run(x)[0]
    assert norm_error(found, forward(point.net, (x,), graph=False)[0]) < 0.05
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (plain,) = session.run(None, {session.get_inputs()[0].name: x})  # as users do, without options
    np.testing.assert_array_equal(plain, found)


@pytest.mark.parametrize(
    ("op", "times"),
    [("Reshape", 1), ("Reshape", 2), ("Transpose", 1), ("Slice", 2), ("Squeeze", 1), ("Unsqueeze", 2), ("MaxPool", 2)],
)
def test_what_moves_a_rounded_tensor_is_rounded_again(op: str, times: int) -> None:
    """A chain of such operators, before a weight of 4 bits, at opset 21."""
    model, x = moved(op, times), np.random.default_rng(1).standard_normal((1, 4, 16, 1)).astype(np.float32)

    def run(model: onnx.ModelProto, options: dict[str, Any]) -> np.ndarray:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"], **options
        )
        return np.asarray(session.run(None, {"x": x})[0])

    expected = run(model, {"disabled_optimizers": ["QDQS8ToU8Transformer"]})
    with pytest.raises(Exception, match="output_dtype INT8 does not match"):
        run(model, {})
    round_moved(model)
    np.testing.assert_allclose(run(model, {}), expected, rtol=1e-5)
    count = len(model.graph.node)
    round_moved(model)
    assert len(model.graph.node) == count, "once is enough"


def moved(op: str, times: int) -> onnx.ModelProto:
    """(1, 4, 16, 1) rounded, moved ``times`` times, and multiplied by a weight of 4 bits."""
    inputs: dict[str, list[Any]] = {
        "Reshape": [[1, 4, 1, 16]], "Slice": [[0], [2], [1]], "Squeeze": [[0]], "Unsqueeze": [[0]],
    }  # fmt: skip
    attributes: dict[str, Any] = {"Transpose": {"perm": [0, 1, 3, 2]}, "MaxPool": {"kernel_shape": [1, 1]}}.get(op, {})
    tensors = [
        numpy_helper.from_array(np.array(0.02, np.float32), "scale"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
        numpy_helper.from_array(np.array(0.01, np.float32), "step"),
        numpy_helper.from_array(np.array([-1, 16]), "rows"),
        onnx.TensorProto(
            name="weight", data_type=onnx.TensorProto.INT4, dims=(16, 8),
            raw_data=pack_bits(np.ones((16, 8), int), 4).tobytes(),
        ),
        *(numpy_helper.from_array(np.array(some), f"k{i}") for i, some in enumerate(inputs.get(op, []))),
    ]  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["m0"]),
    ]
    for i in range(times):
        names = [f"m{i}", *(f"k{k}" for k in range(len(inputs.get(op, []))))]
        nodes.append(helper.make_node(op, names, [f"m{i + 1}"], **attributes))
    nodes += [
        helper.make_node("Flatten", [f"m{times}"], ["flat"], axis=0),
        helper.make_node("Reshape", ["flat", "rows"], ["matrix"]),
        helper.make_node("DequantizeLinear", ["weight", "step"], ["floats"]),
        helper.make_node("MatMul", ["matrix", "floats"], ["y"]),
    ]
    given, made = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
                   for name, shape in (("x", [1, 4, 16, 1]), ("y", None)))  # fmt: skip
    graph = helper.make_graph(nodes, "moved", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
