"""What onnxruntime's convolutions do beside the arithmetic, of single layers."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(
    ("form", "kernel", "stride", "elements"),
    [
        ("w8a8", 3, 1, 2 * 256 * 9 * 16),  # images, pixels, positions of the kernel, channels
        ("w4a8", 3, 1, 2 * 256 * 9 * 16),
        ("w8a8", 3, 2, 2 * 64 * 9 * 16),
        ("w8a8", 1, 1, 0),
        ("float", 3, 1, 0),
        ("w8", 3, 1, 0),
    ],
)
def test_integers_gather_what_a_kernel_sees(chip: Device, form: str, kernel: int, stride: int, elements: int) -> None:
    assert extra(chip, OperatorShape("conv", "", form, 2, 16, 32, 16, 16, kernel, stride)).gathered[0] == elements


def test_groups_gather_what_the_whole_layer_does(chip: Device) -> None:
    shapes = [OperatorShape("conv", "", "w8a8", 1, 128, 128, 14, 14, 3, 1, groups) for groups in (1, 32)]
    assert [extra(chip, shape).gathered[0] for shape in shapes] == [128 * 9 * 14 * 14] * 2


@pytest.mark.parametrize("form", ["float", "w8", "w8a8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_layers_gather_nothing(chip: Device, form: str, stride: int) -> None:
    assert extra(chip, depthwise(form, stride=stride)).gathered[0] == 0


@pytest.mark.parametrize(("channels", "blocks"), [(64, 4), (72, 4 + 8), (80, 5), (95, 5 + 15)])
def test_channels_beyond_whole_blocks_take_as_long_as_a_block_each(chip: Device, channels: int, blocks: int) -> None:
    assert demand(chip, depthwise("w8a8", channels)).grouped[0] == pytest.approx(blocks * 16 * 9 * 256)
    assert demand(chip, depthwise("w8", channels)).grouped[0] == channels * 9 * 256


@pytest.mark.parametrize("name", ["nvidia-t4", TEMPLATE])
def test_a_layer_whose_weights_alone_are_integers_is_as_quick_as_in_floats(name: str | Path) -> None:
    """The weights are turned into floats once."""
    for stride in (1, 2):
        workloads = [depthwise(form, 72, stride).workload() for form in ("float", "w8")]
        costs = [float(device(name).costs(workload).latency_ms[0]) for workload in workloads]
        assert costs[0] == costs[1]


def test_blocks_of_channels_are_a_number_above_0() -> None:
    data = device(TEMPLATE).data
    with pytest.raises(ValueError, match="grouped_block of a device file must be an integer above 0, but mine has 0"):
        Device.parse({**data, "matrix": {**data["matrix"], "grouped_block": 0}}, "mine")


@pytest.mark.parametrize("form", ["float", "w8a8"])
@pytest.mark.parametrize(("out", "groups"), [(64, 16), (64, 2), (128, 64)])
def test_zeros_between_groups_are_no_multiply_accumulates(chip: Device, form: str, out: int, groups: int) -> None:
    """They take time and memory, and stand in no file."""
    shape = OperatorShape("conv", "", form, 1, 64, out, 16, 16, 3, groups=groups)
    found, graph = chip.costs(shape.workload()), shape.workload().graph
    assert found.macs[0] == graph.macs == 256 * out * (64 // groups) * 9 + 256 * out * 8
    assert found.params[0] == out * (64 // groups) * 9 + out + 8 * out + 8


def test_a_layer_in_integers_multiplies_as_many_groups_together_as_make_it_wide(chip: Device) -> None:
    """32 channels of 128 are what the units multiply, for groups of 4 as for groups of 32."""
    shapes = [OperatorShape("conv", "", "w8a8", 1, 128, 128, 14, 14, 3, groups=groups) for groups in (32, 4, 1)]
    narrow, wide, whole = (demand(chip, shape).matrix["int8"][0] for shape in shapes)
    assert narrow == wide == pytest.approx(whole / 4, rel=0.01)


def test_channels_that_are_convolved_alone_into_two_cost_what_twice_as_many_do(chip: Device) -> None:
    """Beside what repeats them."""
    for form in ("float", "w8a8"):
        twice = demand(chip, OperatorShape("conv", "", form, 1, 32, 64, 16, 16, 3, groups=32))
        assert twice.grouped[0] == demand(chip, depthwise(form, 64)).grouped[0]
        assert isinstance(twice.runtime, OnnxruntimeWork) and twice.runtime.passed[0] == 64 * 256
