"""Blocks of channels, as onnxruntime's convolutions in floats read and write them."""

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
from autocomp.hardware_models.runtimes.onnxruntime.blocks import pooled_in_integers, reordered
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
        (16, ("w8", "float", "float"), (0, 32, 32)),
        (16, ("float", "w8", "float"), (16, 32, 64)),
        (16, ("w8", "w8", "w8"), (0, 0, 0)),
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
    """Two layers with integer weights read what a layer in floats writes; behind the second their outputs are added."""
    b = Builder(3, 16)
    x = b.add("activation", b.conv(0, 32, units=np.full(32, -1)), op="ReLU")
    ends = [b.conv(x, 32, units=np.full(32, -1)) for _ in range(2)]
    b.add("add", *ends, op="Add")
    space = b.space()
    for formats, counts in ((("float", "w8", "w8"), [0, 32, 0]), (("float", "float", "w8"), [0, 32, 32])):
        found = lowered(chip, space, *formats)
        assert [reordered(found, p)[0] / (2 * PIXELS) for p in range(3)] == counts


@pytest.mark.parametrize(
    ("formats", "slow"),
    [
        (("float", "float", "float"), False),
        (("float", "w8", "float"), False),
        (("float", "w8a8", "float"), True),  # rounded before the pool, for which there is no kernel in integers
        (("w8", "w4a8", "w8a8"), True),
        (("w8a8", "w8a8", "w8a8"), False),  # the first runs in integers, the pool as it does
    ],
)
def test_a_max_pool_of_integers_beside_floats_is_slow(chip: Device, formats: tuple[str, ...], slow: bool) -> None:
    found = lowered(chip, chain(3, pool=True), *formats)
    operator = found.program.operators[1]
    assert found.graph.nodes[operator.head].kind == "pool"
    assert pooled_in_integers(found, operator)[0] == slow
    pooled, vector = extra(found, 1).pooled[0], work(found, 1).demand.vector[0]
    assert (pooled > 0) == slow and not (pooled and vector)


def test_four_bits_take_their_own_time_to_unpack(chip: Device) -> None:
    networks = [lowered(chip, chain(16), "float", text, "float") for text in ("w8", "w4")]
    own = [extra(network, 1) for network in networks]
    weights = 32 * 32 * 9
    assert [w.unpacked[0] for w in own] == [weights, 0] and [w.unpacked4[0] for w in own] == [0, weights]
    seconds = [chip.rates.seconds(work(network, 1).demand).total[0] for network in networks]
    rates = chip.rates.constants()
    more = weights * (1 / rates["unpack4_per_s"] - 1 / rates["unpack_per_s"])
    assert seconds[1] - seconds[0] == pytest.approx(more)
