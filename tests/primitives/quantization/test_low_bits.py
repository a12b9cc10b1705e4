"""Weights of every width, in every form that a plan is carried out in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import export_mindir, norm_error, run_mindir, run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import PlanCompressor
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import Format, Plan, SearchSpace
from tests.conftest import Subject

WIDTHS = tuple(Format.parse(f"w{bits}a8") for bits in range(8, 2, -1))
LOW = (Format.parse("w2a8"), Format.parse("w1a8"))


def space_of(subject: Subject, *names: str) -> SearchSpace:
    return search_space(subject.graph, subject.parameters, Choices(WIDTHS, 4, names, low_formats=LOW))


def test_low_bits_are_offered_to_slb_alone(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("concatenating")
    values = {knob.values for knob in space_of(subject, "adaround", "slb").knobs}
    assert values == {("float", "w8a8", "w7a8", "w6a8", "w5a8", "w4a8", "w3a8", "w2a8@slb", "w1a8@slb")}
    assert {knob.values[-1] for knob in space_of(subject, "adaround", "lsq").knobs} == {"w3a8"}


def test_a_bit_has_no_zero_and_leaves_sparse_layers_alone(named_subject: Callable[[str], Subject]) -> None:
    space = space_of(named_subject("concatenating"), "slb", "sparsity")
    sparse = {layer for knob in space.knobs if knob.kind == "sparsity" for layer in knob.layers}
    formats = {knob.layers[0]: knob.values for knob in space.knobs if knob.kind == "format"}
    assert sparse and all("w1a8@slb" not in formats[layer] for layer in sparse)


@pytest.mark.parametrize("width", [7, 5, 3, 2, 1])
def test_forms_agree_and_files_shrink(width: int, named_subject: Callable[[str], Subject], tmp_path: Path) -> None:
    subject = named_subject("concatenating")
    space, known = space_of(subject, "adaround", "slb"), subject.evaluator.compressor
    compressor = PlanCompressor(space, subject.parameters, known.ranges, patches=known.patches)
    values = {knob.name: value for knob in space.knobs for value in knob.values if str(value).startswith(f"w{width}")}
    compressed = compressor(Plan(values))
    levels = {np.unique(state.quantized.integers).size for state in compressed.layers.values() if state.quantized}
    assert max(levels) <= 2**width
    net, inputs = convert(subject.net, subject.graph, subject.parameters, compressed), (subject.x[:4],)
    expected = forward(net, inputs, graph=False)[0]
    export_mindir(net, inputs, tmp_path / "net.mindir")
    model = onnx_network(subject.graph, subject.parameters, compressed, Style(integer_weights=True))
    assert norm_error(run_mindir(tmp_path / "net.mindir", inputs)[0], expected) < 1e-3
    assert norm_error(run_onnx(model.SerializeToString(), inputs)[0], expected) < 1e-3
    stored = sum(p.nbytes for p in net.get_parameters() if p.name.endswith("weight.weight"))
    count = sum(state.weight.size for state in compressed.layers.values())
    assert count * width / 8 <= stored <= count * width / 8 + 8 * len(compressed.layers)
