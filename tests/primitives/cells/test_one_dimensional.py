"""Convolutions of one dimension are layers with knobs, and every form of a network computes the same of them."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest

from autocomp.primitives import RTN, SLB, SimQAT
from autocomp.primitives.export.files import EXACT, ROUNDED
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import foldable
from tests.conftest import Subject, subject_of
from tests.primitives.agreement import FORMS, Agreement, agreements

LAYERS = ("stem", "depthwise", "wide", "grouped", "up", "padded", "head")
PLANS = range(8, 15)  # some without and some with rounded activations


@pytest.fixture(scope="module")
def sounds() -> Subject:
    return subject_of("sounds")


@pytest.fixture(scope="module")
def found() -> list[Agreement]:
    return agreements("sounds", PLANS.start, PLANS.stop)


def test_each_is_a_layer(sounds: Subject) -> None:
    assert tuple(sounds.graph.layers) == LAYERS
    assert not sounds.graph.unknown
    shapes = [sounds.graph.nodes[i].weight_shape for i in sounds.graph.layers.values()]
    assert shapes == [
        (16, 6, 1, 5),
        (16, 1, 1, 3),
        (32, 16, 1, 3),
        (32, 8, 1, 3),
        (12, 32, 1, 4),
        (8, 12, 1, 3),
        (5, 8),
    ]


def test_their_channels_are_cut_together(sounds: Subject) -> None:
    groups = [group.layers for group in sounds.graph.channel_groups]
    assert groups == [("stem", "depthwise"), ("wide",), ("grouped",), ("up",), ("padded",)]


def test_batchnorm_folds_into_them(sounds: Subject) -> None:
    assert foldable(sounds.graph) == {"norm": "stem", "norm2": "depthwise", "norm3": "padded"}


def test_plans_are_of_both_kinds(found: list[Agreement]) -> None:
    assert {one.rounded for one in found} == {False, True}
    assert all(one.distance > 1e-3 for one in found)


@pytest.mark.parametrize("form", FORMS)
def test_agree(found: list[Agreement], form: str) -> None:
    for one in found:
        error, tolerance = one.errors[FORMS.index(form)], ROUNDED if one.rounded else EXACT
        assert error <= tolerance, f"{form} differs by {error:.1e} under {one.plan}"


@pytest.mark.parametrize("algorithm", [RTN(weight_bits=8), SimQAT(), SLB()], ids=lambda a: type(a).__name__)
def test_trained_forms_convert_to_what_they_compute(sounds: Subject, algorithm: Any) -> None:
    net = algorithm.apply(sounds.net, calibrate=sounds.x)
    converted = algorithm.convert(net)
    inputs = (sounds.x[:4],)
    before, after = (forward(cell, inputs, graph=False)[0] for cell in (net.set_train(False), converted))
    plain = forward(sounds.net, inputs, graph=False)[0]
    assert np.linalg.norm(after - before) < 0.1 * np.linalg.norm(before)
    assert 1e-3 < np.linalg.norm(after - plain) / np.linalg.norm(plain) < 1
    assert np.isfinite(net.set_train(True)(ms.Tensor(sounds.x)).asnumpy()).all()
    integers = sum(p.size for p in converted.get_parameters() if "Int8" in str(p.dtype))
    assert integers > 0.4 * sum(p.size for p in converted.get_parameters())
