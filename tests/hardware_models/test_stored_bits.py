"""Each width has a size of its own where files pack it, and of formats that cost the same one is offered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autocomp.hardware_models import Device, device
from autocomp.search_spaces import Format

WIDTHS = ["float", *(f"w{bits}a8" for bits in range(8, 0, -1)), "w4"]


def with_formats(container: str) -> Device:
    chip = device("ascend-310p3:mindspore")
    data = {**chip.data, "container": container}
    return replace(chip, formats=tuple(map(Format.parse, WIDTHS)), data=data)


def test_every_width_is_offered_where_files_pack_it() -> None:
    assert [str(some) for some in with_formats("mindir").distinct_formats()] == WIDTHS


def test_of_widths_stored_alike_the_most_bits_are_offered() -> None:
    assert [str(some) for some in with_formats("onnx").distinct_formats()] == ["float", "w8a8", "w4a8", "w4"]


def test_low_bits_beside_the_formats_of_four() -> None:
    listed = tuple(map(Format.parse, ["float", "w8a8", "w4a8", "w4", "w2"]))
    chip = replace(with_formats("mindir"), formats=listed)
    assert list(map(str, chip.low_formats())) == ["w2a8", "w1a8", "w1"]
    assert replace(chip, data={**chip.data, "container": "onnx"}).low_formats() == ()


def test_a_width_costs_what_is_stored() -> None:
    bits = np.array([1, 2, 3, 4, 5, 6, 7, 8, 32])
    exact, nibbles = with_formats("mindir").container, with_formats("onnx").container
    np.testing.assert_array_equal(exact.stored_bits(bits), bits)
    np.testing.assert_array_equal(nibbles.stored_bits(bits), [4, 4, 4, 4, 8, 8, 8, 8, 32])
