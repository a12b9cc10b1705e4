"""Memory as onnxruntime uses it, of networks small enough to count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import autocomp.hardware_models
from autocomp.hardware_models import device
from autocomp.hardware_models import lookup as lookup_module
from autocomp.hardware_models.lowered import LoweredNetwork
from autocomp.hardware_models.operators import lower
from autocomp.hardware_models.runtimes.onnxruntime.blocks import BLOCKED_ACTIVATIONS
from autocomp.hardware_models.runtimes.onnxruntime.transient import transient_bytes
from autocomp.search_spaces import SearchSpace
from tests.hardware_models.networks import FORMATS, Builder, spaces

TEMPLATE = Path(autocomp.hardware_models.__file__).parent / "templates" / "onnxruntime.toml"
TENSOR = 4 * 16 * 16 * 16  # bytes of 16 channels at 16x16 pixels
WEIGHT = 9 * 16 * 16  # elements of a layer


def chain() -> SearchSpace:
    """Three convolutions, 16 channels at 16x16 pixels, with a ReLU behind each."""
    b = Builder(16, 16)
    x = 0
    for _ in range(3):
        x = b.add("activation", b.conv(x, 16, units=np.full(16, -1)))
        b.nodes[x] = type(b.nodes[x])(**{**vars(b.nodes[x]), "op": "ReLU"})
    return b.space()


def memory(space: SearchSpace, *formats: str) -> float:
    row = np.array([[FORMATS.index(text) for text in formats]])
    return float(device(TEMPLATE).costs(space.workload(row)).memory_mb[0]) * 1e6


POINTERS = 8 * 9 * 256  # bytes of an integer convolution: one for each position of its kernel at each pixel


@pytest.mark.parametrize(
    ("formats", "stored", "peak"),
    [
        # the input, which the caller holds, in blocks, and the first output
        (("float", "float", "float"), 12 * WEIGHT, 3 * TENSOR),
        # stored integers are turned into floats when the file is loaded
        (("w8", "w4", "w8"), 12 * WEIGHT, 3 * TENSOR),
        # at the last: the input, the integers that it reads, and the network's output in floats
        (("w8a8", "w8a8", "w8a8"), 3 * WEIGHT, 2.25 * TENSOR + POINTERS),
        # at the middle: the input, and floats out of blocks, of which a quarter is the output's room, beside integers
        (("float", "w4a8", "float"), 9 * WEIGHT, 2.25 * TENSOR + POINTERS),
    ],
)
def test_a_runtime_holds_copies_for_a_moment(formats: tuple[str, ...], stored: float, peak: float) -> None:
    assert memory(chain(), *formats) == pytest.approx(stored + peak)


def test_a_max_pool_of_floats_whose_output_is_rounded_stays_in_blocks() -> None:
    """Floats are pooled, and then rounded: no copy, and a quarter of the bytes behind it."""
    b = Builder(4, 16)
    pool = b.max_pool(b.conv(0, 64, units=np.full(64, -1)))
    b.conv(pool, 16, 1, units=np.full(16, -1))
    weights, image, tensor = 4 * 9 * 4 * 64, 4 * 4 * 256, 4 * 64 * 256
    assert memory(b.space(), "float", "w4a8") == weights + 64 * 16 + image + tensor * (1 + 1 / 16)
    assert memory(b.space(), "float", "w4") == weights + 4 * 64 * 16 + image + tensor * (1 + 1 / 4)


@pytest.mark.parametrize(
    ("op", "form", "tensors"),
    [
        ("ReLU", "float", 1),
        ("HSwish", "float", 1),  # in blocks of channels it is one operator
        ("HSwish", "w8a8", 3),
        ("SiLU", "float", 2),
        ("SiLU", "w8a8", 1),  # in integers, which the next layer has in floats
        ("Elu", "float", 2),  # turned out of the blocks first
        ("Elu", "w8a8", 1),
        ("GeLU", "w8a8", 4),
    ],
)
def test_an_activation_holds_its_steps(op: str, form: str, tensors: int) -> None:
    """Measured: onnxruntime writes some activations over their input and makes others of several operators."""
    b = Builder(16, 16)
    x = b.add("activation", b.conv(0, 64, 1, units=np.full(64, -1)), op=op)
    b.conv(x, 16, 1, units=np.full(16, -1))
    stored = (1 if form == "w8a8" else 4) * 16 * 64 + 4 * 16 * 64
    peak = memory(b.space(), form, "float") - stored - TENSOR  # less the input, which the caller holds
    quick = (op in BLOCKED_ACTIVATIONS and form == "float") or (op == "SiLU" and form == "w8a8")
    least = 5 if quick else 8  # the next layer's output, or a copy of its input in blocks
    assert peak == pytest.approx(max(tensors * 4, least) * TENSOR)


def test_an_input_goes_when_its_last_reader_has_rounded_it() -> None:
    """A shortcut beside a layer: the first of them copies what both read, the last has it for itself."""
    b = Builder(16, 16)
    x = b.add("activation", b.conv(0, 64, units=np.full(64, -1)), op="ReLU")
    first, last = (b.conv(x, 64, 1, units=np.full(64, -1)) for _ in range(2))
    b.add("add", first, last)
    row = np.array([[FORMATS.index(text) for text in ("float", "w8a8", "w8a8")]])
    lowered = LoweredNetwork(device(TEMPLATE), lower(b.graph()), b.space().workload(row))
    held = TENSOR  # the network's input, which the caller holds
    assert [transient_bytes(lowered, position)[0] for position in (1, 2)] == [held + 4 * TENSOR, held]


def test_a_bias_of_rows_is_added_by_an_operator_of_its_own() -> None:
    b = Builder(16, 16)
    rows = b.add("reshape", 0, shape=(1, 256, 16), units=np.empty(0, np.int64))
    b.dense(rows, 64)
    weights = 4 * (16 * 64 + 64)
    assert memory(b.space(), "float") == pytest.approx(weights + TENSOR + 2 * 4 * TENSOR)


@settings(max_examples=20, deadline=None)
@given(spaces())
def test_looked_up_memory_equals_computed(space: SearchSpace) -> None:
    chip = device(TEMPLATE)
    plans = space.random(np.random.default_rng(0), 400)
    looked_up = chip.costs(space.workload(plans, 2)).memory_mb
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup_module, "MOST_COMBINATIONS", 0)
        assert np.array_equal(chip.costs(space.workload(plans, 2)).memory_mb, looked_up)
