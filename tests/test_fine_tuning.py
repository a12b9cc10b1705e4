"""A point's network trained: on the quick start's network and real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deploy import NetworkDeployer
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.jobs import Choices, evaluator_of
from autocomp.point import Point
from autocomp.primitives.export import norm_error
from autocomp.primitives.platform import forward, load_mindspore
from autocomp.primitives.trace import trace
from autocomp.quickstart import load_network, load_samples
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject
from tests.test_deploy import deployer_of

ms = load_mindspore()

TRAINED = 768


@pytest.fixture(scope="module")
def point() -> Point:
    """The fewest channels of every group, four bits: a plan that loses much."""
    net, calibration, held = load_network(), load_samples("calibrate"), load_samples("evaluate").take(500)
    graph = trace(net, (calibration.x[0][:1],))
    choices = Choices([Format.parse(text) for text in ("float", "w4a8")], 4, ("channel-pruning", "rtn"))
    samples = tuple(x[:128] for x in calibration.x)
    evaluator = evaluator_of(net, graph, choices, held.x, held.y, samples, False, 0)
    fewest = {knob.name: knob.values[-1] for knob in evaluator.space.knobs if knob.kind == "keep"}
    plan = Plan({f"format/{layer}": "w4a8" for layer in evaluator.space.graph.layers} | fewest)
    deployer = NetworkDeployer(net, evaluator, samples, batch=4, granularity=4)
    found = evaluator.evaluate(plan)
    cost: Any = None
    return Point(plan, found.accuracy, found.metric, cost, fidelity=found.fidelity, deployer=deployer)


@pytest.fixture(scope="module")
def tuned(point: Point) -> Point:
    return point.fine_tune(training(), epochs=2, batch=64, rate=0.02)


def training() -> tuple[np.ndarray, np.ndarray]:
    samples = load_samples("calibrate").take(TRAINED)
    assert samples.y is not None
    return samples.x[0], samples.y


def test_it_wins_accuracy_back(point: Point, tuned: Point) -> None:
    assert tuned.accuracy > point.accuracy + 0.1, (point.accuracy, tuned.accuracy)
    assert tuned.plan == point.plan and tuned.fidelity == f"500 samples, after 2 epochs of {TRAINED}"


def test_the_float_network_is_untouched(point: Point, tuned: Point) -> None:
    expected = {p.name: p.asnumpy() for p in load_network().get_parameters()}
    deployer = point.deployer
    assert isinstance(deployer, NetworkDeployer) and tuned.deployer is not deployer
    for p in deployer._float.get_parameters():
        np.testing.assert_array_equal(p.asnumpy(), expected[p.name])


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
def test_it_is_exported_and_smaller_by_as_much(point: Point, tuned: Point, tmp_path: Path, ending: str) -> None:
    before, after = (p.export(tmp_path / f"{name}.{ending}") for name, p in (("before", point), ("after", tuned)))
    assert after.max_relative_error < 0.05
    assert after.size_mb == pytest.approx(before.size_mb, rel=0.05)  # each reader of a tensor has its own range


def test_what_it_measured_is_what_the_network_does(tuned: Point) -> None:
    held = load_samples("evaluate").take(500)
    found = float((forward(tuned.net, (held.x[0],))[0].argmax(1) == held.y).mean())
    assert found == pytest.approx(tuned.accuracy, abs=0.03)  # rounding at the half of a step: see test_agreement.py


def test_a_checkpoint_of_it_loads_into_the_rebuilt_network(tuned: Point, tmp_path: Path) -> None:
    x = load_samples("evaluate").take(8).x[0]
    ms.save_checkpoint(tuned.net, str(tmp_path / "tuned.ckpt"))
    again = autocomp.rebuild(load_network(), tuned.plan, x[:1])
    missing, unread = ms.load_param_into_net(again, ms.load_checkpoint(str(tmp_path / "tuned.ckpt")))
    assert not missing and not unread
    assert norm_error(forward(again, (x,))[0], forward(tuned.net, (x,))[0]) < 1e-5


def test_bad_arguments(tuned: Point) -> None:
    with pytest.raises(ValueError, match="this point is fine-tuned already"):
        tuned.fine_tune(training())
    with pytest.raises(ValueError, match="needs its network to be carried out"):
        replace(tuned, deployer=None).fine_tune(training())
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"teacher": 2.0}, "teacher must be a share"),
        ({"algorithm": "slb"}, "algorithm must be one of lsq, simqat, pact"),
    )
    for settings, message in cases:
        with pytest.raises(ValueError, match=message):
            FineTuning(**settings)


def test_shapes_of_the_samples_are_checked(named_subject: Any) -> None:
    subject: Subject = named_subject("depthwise")
    deployer = deployer_of(subject)
    with pytest.raises(ValueError, match="must have the shape"):
        deployer.fine_tune(Plan(), (subject.x[:, :2], None), FineTuning())
