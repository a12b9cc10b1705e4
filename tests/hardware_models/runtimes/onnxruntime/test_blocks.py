"""Layouts of tensors in onnxruntime: blocks of channels for floats, channels last for integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autocomp.hardware_models
from autocomp.hardware_models import Device, device
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.rates import RuntimeWork
from autocomp.hardware_models.roofline import work
from autocomp.hardware_models.runtimes.onnxruntime.blocks import reordered
from autocomp.hardware_models.runtimes.onnxruntime.extra_work import OnnxruntimeWork
from autocomp.search_spaces import SearchSpace
from tests.hardware_models.networks import FORMATS, Builder

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"
PIXELS = 16 * 16


@pytest.fixture(scope="module")
def chip() -> Device:
    return device(TEMPLATE)


def chain(channels: int, pool: bool = False) -> SearchSpace:
    """Three convolutions with a ReLU behind each, of 16 x 16 pixels; a max pool behind the first if so."""
    b = Builder(channels, 16)
    x = 0
    for i in range(3):
        x = b.add("activation", b.conv(x, 32, units=np.full(32, -1)), op="ReLU")
        x = b.max_pool(x) if pool and not i else x
    return b.space()


def lowered(chip: Device, space: SearchSpace, *formats: str) -> LoweredNetwork:
    workload = space.workload(np.array([[FORMATS.index(text) for text in formats]]), 2)
    return LoweredNetwork(chip, lower(space.graph), workload)


def extra(network: LoweredNetwork, position: int) -> OnnxruntimeWork:
    found = work(network, position).demand.runtime
    assert isinstance(found, OnnxruntimeWork)
    return found


@pytest.mark.parametrize(
    ("channels", "formats", "tensors"),
    [
        (3, ("float", "float", "float"), (0, 0, 32)),  # an image's channels are read one by one
        (16, ("float", "float", "float"), (16, 0, 32)),
        (16, ("w8", "float", "w4"), (16, 0, 32)),  # weights alone in integers: floats are multiplied
        (3, ("w8a8", "float", "float"), (3, 64, 32)),  # out of one layout, into the other
        (16, ("float", "w8a8", "float"), (16, 64, 96)),
        (16, ("w8a8", "w4a8", "w8a8"), (16, 0, 32)),
    ],
)
def test_a_tensor_turns_where_writer_and_reader_differ(
    chip: Device, channels: int, formats: tuple[str, ...], tensors: tuple[int, ...]
) -> None:
    """The network's output beside the last."""
    found = lowered(chip, chain(channels), *formats)
    counts = [reordered(found, position)[0] / (2 * PIXELS) for position in range(3)]
    assert counts == list(tensors)
    gpu = LoweredNetwork(device("gpu"), found.program, found.workload)
    assert all(work(gpu, position).demand.runtime == RuntimeWork() for position in range(3))


def test_a_tensor_that_several_read_turns_once(chip: Device) -> None:
    """Two layers in integers read what a layer in floats writes; behind the second their outputs are added."""
    b = Builder(3, 16)
    x = b.add("activation", b.conv(0, 32, units=np.full(32, -1)), op="ReLU")
    ends = [b.conv(x, 32, units=np.full(32, -1)) for _ in range(2)]
    b.add("add", *ends, op="Add")
    space = b.space()
    for formats, counts in ((("float", "w8a8", "w8a8"), [0, 64, 32]), (("float", "float", "w8a8"), [0, 64, 96])):
        found = lowered(chip, space, *formats)
        assert [reordered(found, p)[0] / (2 * PIXELS) for p in range(3)] == counts


@pytest.mark.parametrize(
    ("formats", "integers"),
    [
        (("float", "float", "float"), False),
        (("float", "w8a8", "float"), False),  # files pool the floats, and round then
        (("w8", "w8a8", "w8a8"), False),
        (("w8a8", "float", "w8a8"), True),  # converted behind it
        (("w8a8", "w4a8", "float"), True),
        (("w8a8", "w8a8", "w8a8"), True),
    ],
)
def test_a_max_pool_runs_in_integers_between_integers(chip: Device, formats: tuple[str, ...], integers: bool) -> None:
    found = lowered(chip, chain(3, pool=True), *formats)
    pooled = 2 * 32 * PIXELS / 4
    assert found.graph.nodes[found.program.operators[1].head].kind == "pool"
    assert extra(found, 1).passed[0] == integers * pooled
    assert extra(found, 1).rounded[0] == pooled * (not integers and formats[1] in ("w8a8", "w4a8"))
    assert extra(found, 0).rounded[0] == 2 * 3 * PIXELS * (formats[0] == "w8a8")  # the network's input
    assert extra(found, 2).rounded[0] == (formats == ("w8a8", "float", "w8a8")) * (pooled + pooled)


@pytest.mark.parametrize("form", ["w8", "w4"])
def test_weights_that_are_stored_in_integers_alone_take_the_time_of_floats(chip: Device, form: str) -> None:
    """They are unpacked when the file is loaded."""
    rows = np.array([[FORMATS.index(text)] * 3 for text in ("float", form)])
    cost = chip.costs(chain(16).workload(rows, 4))
    assert cost.latency_ms[0] == cost.latency_ms[1] and cost.memory_mb[0] == cost.memory_mb[1]
    assert cost.size_mb[1] < cost.size_mb[0] / 2
