from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.deployment.inspection.profiler import Profiler, signal_to_noise
from autocomp.hardware_models import device
from autocomp.primitives.numerics.quantizers import ActivationQuantizer
from autocomp.results.network_profile import NetworkProfile
from autocomp.search_spaces import Plan
from tests.conftest import Subject

BROKEN = "blocks.1.conv1"


@pytest.fixture(scope="module")
def profiler(named_subject: Callable[[str], Subject]) -> Profiler:
    return Profiler(named_subject("residual").evaluator, device("ascend-310p3"), 2)


def everywhere(profiler: Profiler, form: str) -> Plan:
    return Plan({knob.name: form for knob in profiler.evaluator.space.knobs if knob.kind == "format"})


@pytest.fixture
def broken(profiler: Profiler) -> Iterator[None]:
    """The quantizer of one layer's input, with a range that cuts nearly everything off."""
    ranges = profiler.evaluator.compressor.ranges
    before = ranges[BROKEN, 8]
    ranges[BROKEN, 8] = ActivationQuantizer(before.scale / 50, before.zero_point, 8)
    yield
    ranges[BROKEN, 8] = before


def test_a_broken_quantizer_is_named_first(profiler: Profiler, broken: None) -> None:
    found = profiler(everywhere(profiler, "w8a8"), 8)
    first, second = found.worst[:2]
    assert first.name == BROKEN and first.output_db is not None and second.output_db is not None
    assert first.output_db < second.output_db - 10
    assert f"loses most by {BROKEN} (w8a8)" in str(found)


def test_fewer_bits_are_more_noise_and_noise_accumulates(profiler: Profiler) -> None:
    eight, four = (profiler(everywhere(profiler, form), 8) for form in ("w8a8", "w4a8"))
    for one, other in zip(eight.layers, four.layers, strict=True):
        assert one.alone_db is not None and other.alone_db is not None and one.alone_db > other.alone_db
    assert four.layers[-1].accumulated_db == pytest.approx(four.output_db, abs=0.1)  # the last layer is the output
    assert sum(layer.alone_db > layer.accumulated_db for layer in four.layers[1:]) >= len(four.layers) - 2  # type: ignore[operator]


def test_the_float_network_has_tensors_and_no_noise(profiler: Profiler) -> None:
    found = profiler(Plan(), 8)
    assert found.output_db is None and found.worst == ()
    for layer in found.layers:
        assert layer.low is not None and layer.low <= layer.mean <= layer.high  # type: ignore[operator]
        assert layer.alone_db is None and layer.latency_ms > 0
    assert sum(layer.share for layer in found.layers) < 1


def test_cut_channels_are_left_out_of_the_comparison(profiler: Profiler) -> None:
    keep = next(knob for knob in profiler.evaluator.space.knobs if knob.kind == "keep")
    found = profiler(Plan({keep.name: keep.values[-1]}), 8)
    first = next(layer for layer in found.layers if layer.name == keep.layers[0])
    assert first.accumulated_db is not None and first.accumulated_db > 60  # what is left is computed as before
    assert found.worst[0].name == first.name and found.output_db is not None and found.output_db < 60


def test_signal_to_noise() -> None:
    x = np.ones(100)
    assert signal_to_noise(x, x) == math.inf
    assert signal_to_noise(x, x * 1.1) == pytest.approx(20)
    assert signal_to_noise(0 * x, x) == -math.inf


def test_as_json_and_as_a_page(profiler: Profiler, tmp_path: Path) -> None:
    found = profiler(everywhere(profiler, "w8a8"), 4)
    value = json.loads(json.dumps(found.as_dict()))
    assert [row["name"] for row in value["layers"]] == [layer.name for layer in found.layers]
    page = found.report(tmp_path / "profile.html").read_text()
    assert all(f">{layer.name}<" in page for layer in found.layers) and "loses most" in page


def test_a_mislabelled_class_is_named_first(profiler: Profiler, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = profiler.evaluator
    right = judge.plain_outputs[0].argmax(1)
    wrong = int(np.bincount(right).argmax())
    other = (wrong + 1) % 5
    half = (right == wrong) & (np.arange(len(right)) % 2 == 0)
    monkeypatch.setattr(judge, "labels", np.where(half, other, right))  # half of a class is said to be another one
    found = profiler(everywhere(profiler, "w8a8"), 2)
    assert sum(one.samples for one in found.classes) == len(right)
    assert found.hardest[0].label == other and found.hardest[0].of_float < 1
    assert f"class {other}" in str(found)


def test_of_a_network(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    found = autocomp.profile(subject.net, subject.x[:16], {"format/stem": "w3a8"}, "ascend-310p3", samples=4)
    assert isinstance(found, NetworkProfile) and found.samples == 4
    assert [layer.name for layer in found.worst] == ["stem"] and found.worst[0].format == "w3a8"
