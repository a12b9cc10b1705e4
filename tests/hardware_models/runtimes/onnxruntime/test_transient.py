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


@pytest.mark.parametrize(
    ("formats", "stored", "peak"),
    [
        # the input, which the caller holds, in blocks, and the first output
        (("float", "float", "float"), 12 * WEIGHT, 3 * TENSOR),
        # the input, two tensors, the floats of a layer's weight
        (("w8", "w8", "w8"), 3 * WEIGHT, 3 * TENSOR + 4 * WEIGHT),
        # at the last: the input, the floats of the integers that it reads, which are gone then, its output, its weight
        (("w8a8", "w8a8", "w8a8"), 3 * WEIGHT, 3 * TENSOR + 4 * WEIGHT),
        # at the middle: the input, what it reads rounded and in floats again, its output, the floats of its weight
        (("float", "w4a8", "float"), 8 * WEIGHT + WEIGHT / 2, 3 * TENSOR + 4 * WEIGHT),
    ],
)
def test_a_runtime_holds_copies_for_a_moment(formats: tuple[str, ...], stored: float, peak: float) -> None:
    assert memory(chain(), *formats) == pytest.approx(stored + peak)


def test_few_pixels_are_gathered_for_the_kernel() -> None:
    """Where a layer has more filters than pixels, all that its kernel sees is copied together."""
    b = Builder(64, 2)
    b.conv(0, 64, units=np.full(64, -1))
    weight = 9 * 64 * 64
    assert memory(b.space(), "w8") == weight + 4 * (weight + 9 * 64 * 4 + 2 * 64 * 4)


def test_a_max_pool_whose_output_is_rounded_is_not_in_blocks() -> None:
    """What a layer in blocks gives it is copied out of them first, beside the input that the caller holds."""
    b = Builder(4, 16)
    x = b.conv(0, 64, units=np.full(64, -1))
    pool = b.add("pool", x, shape=(1, 64, 8, 8))
    b.nodes[pool] = type(b.nodes[pool])(**{**vars(b.nodes[pool]), "op": "MaxPool"})
    b.conv(pool, 16, 1, units=np.full(16, -1))
    weights, image, tensor = 9 * 4 * 64, 4 * 4 * 256, 4 * 64 * 256
    assert memory(b.space(), "float", "w4a8") == 4 * weights + 64 * 16 / 2 + image + 2 * tensor
    assert memory(b.space(), "float", "w4") == 4 * weights + 64 * 16 / 2 + image + 1.25 * tensor


@pytest.mark.parametrize(
    ("op", "form", "tensors"),
    [
        ("ReLU", "float", 1),
        ("HSwish", "float", 1),  # in blocks of channels it is one operator
        ("HSwish", "w8", 3),
        ("SiLU", "float", 2),
        ("SiLU", "w8", 2),
        ("Elu", "float", 2),  # turned out of the blocks first
        ("Elu", "w8", 1),
        ("GeLU", "w8", 4),
    ],
)
def test_an_activation_holds_its_steps(op: str, form: str, tensors: int) -> None:
    """Measured: onnxruntime writes some activations over their input and makes others of several operators."""
    b = Builder(16, 16)
    x = b.add("activation", b.conv(0, 64, 1, units=np.full(64, -1)), op=op)
    b.conv(x, 16, 1, units=np.full(16, -1))
    stored = (1 if form == "w8" else 4) * 16 * 64 + 4 * 16 * 64
    peak = memory(b.space(), form, "float") - stored - TENSOR  # less the input, which the caller holds
    least = 5 if op in BLOCKED_ACTIVATIONS and form == "float" else 8  # the next layer's output, or a copy in blocks
    assert peak == pytest.approx(max(tensors * 4, least) * TENSOR)


def test_an_input_goes_when_its_last_reader_has_rounded_it() -> None:
    """A shortcut beside a layer: the first of them copies what both read, the last has it for itself."""
    b = Builder(16, 16)
    x = b.add("activation", b.conv(0, 64, units=np.full(64, -1)), op="ReLU")
    first, last = (b.conv(x, 64, 1, units=np.full(64, -1)) for _ in range(2))
    b.add("add", first, last)
    row = np.array([[FORMATS.index(text) for text in ("float", "w8a8", "w8a8")]])
    lowered = LoweredNetwork(device(TEMPLATE), lower(b.graph()), b.space().workload(row))
    least = 4 * 64 * 64 + TENSOR  # the floats of the weight, and the network's input, which the caller holds
    assert [transient_bytes(lowered, position)[0] for position in (1, 2)] == [least + 4 * TENSOR, least]


def test_a_bias_of_rows_is_added_by_an_operator_of_its_own() -> None:
    b = Builder(16, 16)
    rows = b.add("reshape", 0, shape=(1, 256, 16), units=np.empty(0, np.int64))
    b.dense(rows, 64)
    weights = 4 * (16 * 64 + 64)
    assert memory(b.space(), "float") == pytest.approx(weights + TENSOR + 2 * 4 * TENSOR)


def test_floats_of_a_weight_wait_for_the_next_of_its_shape() -> None:
    b = Builder(16, 8)
    x = 0
    for kernel in (3, 5, 1, 3, 3):
        x = b.conv(x, 16, kernel, units=np.full(16, -1))
    weight, tensor = 16 * 16, 4 * 16 * 64
    stored = (9 + 25 + 1 + 9 + 9) * weight
    middle = 3 * tensor + 4 * 25 * weight  # the input, which the caller holds, two tensors and the floats at hand
    waiting, wider = 4 * 9 * weight, 3 * 9 * weight  # a layer in floats is stored in them
    space = b.space()
    assert memory(space, "w8", "w8", "w8", "w8", "w8") == pytest.approx(stored + middle + waiting)
    assert memory(space, "w8", "w8", "w8", "float", "w8") == pytest.approx(stored + wider + middle + waiting)
    assert memory(space, "w8", "w8", "w8", "float", "float") == pytest.approx(stored + 2 * wider + middle)


def test_floats_of_a_weight_do_not_wait_for_one_that_is_cut() -> None:
    b = Builder(16, 8)
    x = 0
    for kernel, units in ((3, -1), (5, -1), (3, 0)):
        x = b.conv(x, 16, kernel, units=np.full(16, -1) if units else b.group(16))
    b.conv(x, 16, 1, units=np.full(16, -1))
    space = b.space()
    whole = [FORMATS.index("w8") if knob.kind == "format" else 0 for knob in space.knobs]
    cut = [code or int(knob.kind == "keep") for code, knob in zip(whole, space.knobs, strict=True)]
    plans = space.workload(np.array([whole, cut]))
    kept, less = plans.channels_of(3)
    memory_as_it_is, memory_cut = device(TEMPLATE).costs(plans).memory_mb * 1e6
    stored = (kept - less) * (9 * 16 + 16)
    assert less < kept and memory_as_it_is - memory_cut == pytest.approx(stored + 4 * 9 * 16 * 16)


@settings(max_examples=20, deadline=None)
@given(spaces())
def test_looked_up_memory_equals_computed(space: SearchSpace) -> None:
    chip = device(TEMPLATE)
    plans = space.random(np.random.default_rng(0), 400)
    looked_up = chip.costs(space.workload(plans, 2)).memory_mb
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup_module, "MOST_COMBINATIONS", 0)
        assert np.array_equal(chip.costs(space.workload(plans, 2)).memory_mb, looked_up)
