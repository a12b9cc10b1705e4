"""Dense layers of one row with weights of 4 bits for onnxruntime: the file, its size, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mindspore import nn

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.hardware_models import Device, device
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.onnx_blocks import packed_blocks
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import BLOCK, Format, Plan

INPUTS, WIDE, OUTPUTS = 200, 1024, 130  # 200 inputs fill no whole number of blocks
LAYERS = ("0", "2", "4")


@pytest.fixture(scope="module")
def evaluator() -> Any:
    """A network whose last layer is too small to gain."""
    net = nn.SequentialCell(nn.Dense(INPUTS, WIDE), nn.ReLU(), nn.Dense(WIDE, OUTPUTS), nn.ReLU(), nn.Dense(OUTPUTS, 3))
    net.set_train(False)
    x = np.random.default_rng(0).normal(size=(32, INPUTS)).astype(np.float32)
    graph, formats = trace(net, (x[:1],)), [Format.parse(text) for text in ("w8", "w8a8", "w4", "w4a8")]
    choices = Choices(formats, 4, ["channel-pruning", "rtn"], quantizes_tensors=True)
    return net, choices, evaluator_of(net, graph, choices, (x,), None, (x,), True, 0)


def deployer(made: Any, chip: Device, batch: int) -> NetworkDeployer:
    net, choices, known = made
    sizes = FileSizes(chip, known.space, batch)
    return NetworkDeployer(net, known, known.inputs, choices, batch, sizes=sizes)


def plan_of(made: Any, text: str, **more: Any) -> Plan:
    knobs = {knob.name: knob for knob in made[2].space.knobs if knob.kind == "format"}
    named = {name: next(v for v in knob.values if str(v).startswith(text)) for name, knob in knobs.items()}
    return Plan({**named, **more})


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_the_file_multiplies_packed_weights_and_has_the_predicted_size(
    evaluator: Any, tmp_path: Path, kept: float
) -> None:
    keep = next(knob for knob in evaluator[2].space.knobs if knob.kind == "keep")
    plan = plan_of(evaluator, "w4", **({keep.name: kept} if kept < 1 else {}))
    report = deployer(evaluator, device(TEMPLATE), 1).export(plan, tmp_path / "net.onnx")
    assert operators(report.path).count("MatMulNBits") == 2
    assert report.max_relative_error < 1e-5
    assert report.predicted_mb == pytest.approx(report.size_mb, rel=0.02)


def test_several_images_inputs_in_integers_and_other_devices_get_none(evaluator: Any, tmp_path: Path) -> None:
    for text, chip, batch in (("w4", TEMPLATE, 4), ("w4a8", TEMPLATE, 1), ("w8", TEMPLATE, 1), ("w4", "gpu", 1)):
        report = deployer(evaluator, device(chip), batch).export(plan_of(evaluator, text), tmp_path / "net.onnx")
        assert "MatMulNBits" not in operators(report.path)


@pytest.mark.parametrize(
    ("name", "gains", "unpacked"), [(TEMPLATE, ["w4"], ["w8"]), ("ascend-910b1:mindspore", ["w8", "w4"], []),
                                    ("ascend-310p3:mindspore", ["w8"], ["w4"]), ("ascend-310p3", [], ["w8", "w4"])]
)  # fmt: skip
def test_a_device_says_which_weights_it_reads_as_they_are_stored(
    evaluator: Any, name: Any, gains: list[str], unpacked: list[str]
) -> None:
    space, chip = evaluator[2].space, device(name)

    def cost(text: str, batch: int = 1) -> Any:
        plan = Plan() if text == "float" else plan_of(evaluator, text)
        return chip.costs(space.workload(space.encode(plan)[None], batch))[0]

    floats = cost("float")
    for text in gains:
        assert cost(text).latency_ms < floats.latency_ms and cost(text).memory_mb < 0.8 * floats.memory_mb
    for text in unpacked:
        assert (cost(text).latency_ms, cost(text).memory_mb) == (floats.latency_ms, floats.memory_mb)
    if gains:
        blind = replace(chip, weight_only=())
        plan = plan_of(evaluator, gains[0])
        assert blind.costs(space.workload(space.encode(plan)[None], 1))[0].memory_mb == floats.memory_mb


def test_blocks_hold_the_integers_and_a_scale_each() -> None:
    rng = np.random.default_rng(1)
    levels, scale = rng.integers(-8, 8, (3, 300)).astype(np.int8), rng.uniform(1, 2, 3).astype(np.float32)
    packed, scales = packed_blocks(levels, scale)
    assert packed.shape == (3, 3, BLOCK // 2) and scales.shape == (9,)
    unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(3, -1).astype(int) - 8
    np.testing.assert_array_equal(unpacked[:, :300], levels)
    assert not unpacked[:, 300:].any()
    np.testing.assert_array_equal(scales.reshape(3, 3), np.repeat(scale[:, None], 3, 1))
