"""What onnxruntime's convolutions do beside the arithmetic, of single layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autocomp.hardware_models
from autocomp.hardware_models import Device, device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.measurements.shapes import OperatorShape
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import Demand
from autocomp.hardware_models.roofline import work
from autocomp.hardware_models.runtimes.onnxruntime.extra_work import OnnxruntimeWork

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"


@pytest.fixture(scope="module")
def chip() -> Device:
    return device(TEMPLATE)


def demand(chip: Device, shape: OperatorShape) -> Demand:
    """Of the shape's first layer."""
    workload = shape.workload()
    return work(LoweredNetwork(chip, lower(workload.graph), workload), 0).demand


def extra(chip: Device, shape: OperatorShape) -> OnnxruntimeWork:
    """The runtime's own work at the shape's first layer."""
    found = demand(chip, shape).runtime
    assert isinstance(found, OnnxruntimeWork)
    return found


def depthwise(form: str, channels: int = 32, stride: int = 1, batch: int = 1) -> OperatorShape:
    return OperatorShape("conv", "", form, batch, channels, channels, 16, 16, 3, stride, channels)


def test_floats_of_integer_weights_copy_rows_of_images(chip: Device) -> None:
    found = extra(chip, depthwise("w8", batch=2))
    assert found.rows[0] == 2 * 32 * 9 * 16  # images, channels, positions of the kernel, rows
    assert found.groups[0] == 2 * 32
    assert found.strided[0] == found.separate_requantize[0] == 0


def test_a_kernel_that_steps_over_pixels_copies_each(chip: Device) -> None:
    found = extra(chip, depthwise("w8", stride=2))
    assert found.strided[0] == 32 * 9 * 8 * 8
    assert chip.costs(depthwise("w8", stride=2).workload()).latency_ms > chip.costs(
        depthwise("w8").workload()
    ).latency_ms / (4 * 0.9)


@pytest.mark.parametrize("form", ["float", "w8a8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_floats_and_integers_copy_nothing_in_depthwise_layers(chip: Device, form: str, stride: int) -> None:
    found = extra(chip, depthwise(form, stride=stride))
    assert found.rows[0] == found.strided[0] == found.gathered[0] == found.separate_requantize[0] == 0


@pytest.mark.parametrize(("channels", "blocks"), [(64, 4), (72, 4 + 8), (80, 5), (95, 5 + 15)])
def test_channels_beyond_whole_blocks_take_as_long_as_a_block_each(chip: Device, channels: int, blocks: int) -> None:
    assert demand(chip, depthwise("w8a8", channels)).grouped[0] == pytest.approx(blocks * 16 * 9 * 256)
    assert demand(chip, depthwise("w8", channels)).grouped[0] == channels * 9 * 256


@pytest.mark.parametrize(("channels", "odd"), [(3, True), (4, False), (16, False), (18, True)])
def test_integers_of_odd_channels_are_gathered_and_rounded_apart(chip: Device, channels: int, odd: bool) -> None:
    shape = OperatorShape("conv", "", "w8a8", 2, channels, 32, 16, 16, 3)
    found = extra(chip, shape)
    assert found.separate_requantize[0] == odd * 2 * 32 * 256
    assert found.rows[0] == odd * 2 * 3 * 256  # of the kernel, at each pixel


def test_integers_of_groups_are_copied_piece_by_piece(chip: Device) -> None:
    """ResNeXt's layers of four channels a group take longer in integers than in floats."""
    shapes = [OperatorShape("conv", "", form, 1, 128, 128, 56, 56, 3, 1, 32) for form in ("float", "w8", "w8a8")]
    assert [extra(chip, shape).rows[0] for shape in shapes] == [0, 128 * 9 * 56, 32 * 9 * 56 * 56]
    assert all(demand(chip, shape).grouped[0] == 0 for shape in shapes)
    floats, _, integers = (float(chip.costs(shape.workload()).latency_ms[0]) for shape in shapes)
    assert integers > 2 * floats


def test_no_other_device_is_charged_for_it() -> None:
    """A depthwise layer with weights in integers is as quick as in floats where they are turned into them once."""
    chip = device("nvidia-t4")
    for stride in (1, 2):
        costs = [float(chip.costs(depthwise(form, 72, stride).workload()).latency_ms[0]) for form in ("float", "w8")]
        assert costs[0] == costs[1]


def test_blocks_of_channels_are_a_number_above_0() -> None:
    data = device(TEMPLATE).data
    with pytest.raises(ValueError, match="grouped_block of a device file must be an integer above 0, but mine has 0"):
        Device.parse({**data, "matrix": {**data["matrix"], "grouped_block": 0}}, "mine")


def test_rates_of_rows_may_be_zero(chip: Device) -> None:
    data = {**chip.data, "rates": {**chip.data["rates"], "row_s": 0.0}}
    assert np.all(Device.parse(data, "mine").costs(depthwise("w8").workload()).latency_ms > 0)
