"""Size and memory of networks small enough to count by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autocomp.hardware_models import device
from autocomp.hardware_models.layouts import Layout
from autocomp.search_spaces import SearchSpace

from .networks import FORMATS, Builder


def chain() -> SearchSpace:
    """input 4 -> conv 8 -> conv 2 -> conv 6, 10x10 pixels, 3x3 kernels."""
    b = Builder(4, 10)
    b.conv(b.conv(b.conv(0, 8), 2), 6)
    return b.space()


def row(space: SearchSpace, **choices: int) -> np.ndarray:
    names = [knob.name.replace("/", "_") for knob in space.knobs]
    vector = np.zeros((1, len(names)), int)
    for name, choice in choices.items():
        vector[0, names.index(name)] = choice
    return vector


WEIGHTS = 9 * (4 * 8 + 8 * 2 + 2 * 6)
DENSE = replace(device("ascend"), layout=Layout())
MINDIR = device("ascend-310p3:mindspore")


def size_of(space: SearchSpace, **choices: int) -> float:
    """Bytes of a plan's MindIR."""
    return 1e6 * float(MINDIR.costs(space.workload(row(space, **choices)))[0].size_mb)


def test_memory_is_weights_and_the_most_that_is_live_at_once() -> None:
    space = chain()
    cost = DENSE.costs(space.workload(row(space), 5))[0]
    assert cost.memory_mb * 1e6 == 2 * WEIGHTS + 2 * 5 * 100 * (4 + 8)
    assert cost.params == WEIGHTS
    assert cost.macs == 5 * 100 * WEIGHTS


def test_a_shortcut_stays_live_until_it_is_added() -> None:
    b = Builder(4, 10)
    x = b.conv(0, 4)
    y = b.conv(b.conv(x, 4), 4)
    b.add("add", y, x)
    space = b.space()
    cost = DENSE.costs(space.workload(row(space)))[0]
    assert cost.memory_mb * 1e6 == 2 * 9 * 3 * 16 + 2 * 100 * 12


def test_pruned_channels_leave_memory_size_and_macs() -> None:
    space = chain()
    cost = DENSE.costs(space.workload(row(space, keep_g0=2), 1))[0]  # 8 -> 4 channels
    weights = 9 * (4 * 4 + 4 * 2 + 2 * 6)
    assert cost.params == weights
    assert cost.macs == 100 * weights
    assert cost.memory_mb * 1e6 == 2 * weights + 2 * 100 * 8
    assert size_of(space, keep_g0=2) == pytest.approx(size_of(space) - 4 * (WEIGHTS - weights))


def test_integer_activations_take_a_byte() -> None:
    space = chain()
    choice = {"format_conv2": FORMATS.index("w8a8"), "format_conv3": FORMATS.index("w8a8")}
    cost = DENSE.costs(space.workload(row(space, **choice)))[0]
    weights = 2 * 9 * 32 + 9 * (16 + 12)
    assert cost.memory_mb * 1e6 == weights + max(100 * (2 * 4 + 8), 100 * (8 + 2), 100 * (2 + 2 * 6))


def test_a_pixel_of_an_image_fills_whole_blocks() -> None:
    """32 bytes on an Ascend, which are 16 floats or 32 integers; the network's input lies as it is given."""
    b = Builder(4, 10)
    b.conv(b.conv(0, 24), 8)
    space = b.space()
    cut = {"keep_g0": 1, "format_conv1": 0}  # 24 -> 18 channels
    weights = 9 * (4 * 18 + 18 * 8)
    floats = device("ascend").costs(space.workload(row(space, **cut), 5))[0]
    assert floats.memory_mb * 1e6 == pytest.approx(2 * weights + 5 * 100 * (64 + 32))
    cut["format_conv2"] = FORMATS.index("w8a8")
    integers = device("ascend").costs(space.workload(row(space, **cut), 5))[0]
    assert integers.memory_mb * 1e6 == pytest.approx(9 * (2 * 4 * 18 + 18 * 8) + 5 * 100 * (32 + 32))


@pytest.mark.parametrize(("text", "byte"), [("w8", 1), ("w8a8", 1), ("w4", 0.5), ("w4a8", 0.5)])
def test_a_quantized_layer_stores_its_weights_and_a_scale_for_each_channel(text: str, byte: float) -> None:
    space = chain()
    saved = size_of(space) - size_of(space, format_conv1=FORMATS.index(text))
    operators = 9 * 32 * (4 - byte) - 8 * 4 - saved
    assert 200 < operators < 1200
    saved = size_of(space) - size_of(space, format_conv2=FORMATS.index(text))  # whose name is as long
    assert operators == pytest.approx(9 * 16 * (4 - byte) - 2 * 4 - saved)


def test_a_flattened_channel_takes_its_pixels_from_the_head() -> None:
    b = Builder(4, 2)
    b.dense(b.flatten(b.conv(0, 8, 1)), 10)
    space = b.space()
    cost = device("cpu").costs(space.workload(row(space, keep_g0=1)))[0]  # 8 -> 6 channels
    assert cost.params == 4 * 6 + 6 * 4 * 10 + 10


def test_batchnorm_goes_with_its_channels() -> None:
    b = Builder(4, 10)
    b.add("batchnorm", b.conv(0, 8))
    space = b.space(other_params=4 * 8 + 100)
    cost = device("cpu").costs(space.workload(np.array([[0, 0], [0, 2]])))
    assert cost.params.tolist() == [9 * 32 + 32 + 100, 9 * 16 + 16 + 100]


def test_a_layer_that_runs_twice_is_stored_once() -> None:
    b = Builder(8, 4)
    x = b.conv(0, 8, units=np.full(8, -1))
    first = b.nodes[x]
    b.nodes.append(
        type(first)(
            "again", "conv", "conv", (x,), first.shape, first.layer, first.weight_shape, first.attributes, first.units
        )
    )
    space = b.space()
    cost = device("cpu").costs(space.workload(row(space)))[0]
    assert cost.params == 9 * 64
    assert cost.macs == 2 * 16 * 9 * 64
