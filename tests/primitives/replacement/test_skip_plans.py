"""Plans that skip blocks: the same numbers in every form, costs of the shorter network, rebuilt and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.primitives.export.files import norm_error, run_onnx
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.search_spaces import Plan
from tests.conftest import Subject

from .plan_forms import Made, check_elastic, check_files, choices_of, cost_errors, drawn, made_of

PRIMITIVES = ("channel-pruning", "adaround", "low-rank", "depth")
IN_FLOATS, CHOICES = choices_of(PRIMITIVES, True), choices_of(PRIMITIVES, False)
SKIPPED = "skipped@block-skipping"
BLOCKS = ("first.0", "first.1", "second.0", "second.1")


@pytest.fixture(scope="module")
def in_floats(named_subject: Callable[[str], Subject]) -> Made:
    return made_of(named_subject("deep"), IN_FLOATS)


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    return made_of(named_subject("deep"), CHOICES)


def test_each_block_is_a_choice(made: Made) -> None:
    assert [knob.name for knob in made[1].space.knobs if knob.kind == "skip"] == [f"skip/{name}" for name in BLOCKS]


def test_the_elastic_network_and_onnx_agree_over_the_whole_space(in_floats: Made) -> None:
    plans = drawn(in_floats[1], 24, 3)
    assert {name for plan in plans for name in plan if name.startswith("skip/")} == {f"skip/{name}" for name in BLOCKS}
    check_elastic(in_floats, plans)


def test_files_agree_with_the_converted_network(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS)
    plan = Plan({"skip/first.0": "skipped", "skip/second.1": "skipped", "keep/stem.0": 0.5, "format/head": "w4"})
    check_files(in_floats, deployer, plan, tmp_path, b"first.0")


def test_files_in_integers_agree_with_what_was_evaluated(made: Made, tmp_path: Path) -> None:
    subject, evaluator = made
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES)
    skips = {"skip/first.1": "skipped", "skip/second.0": "skipped"}
    layers = [layer for layer in evaluator.space.graph.layers if not layer.startswith(("first.1", "second.0"))]
    plan = Plan(skips | {f"format/{layer}": "w8a8" for layer in layers})
    deployer.export(plan, tmp_path / "net.onnx")
    found = run_onnx(tmp_path / "net.onnx", (subject.x,))[0]
    assert norm_error(found, evaluator.engine.outputs(evaluator.compress(plan), (subject.x,))[0]) < 0.02


@pytest.mark.parametrize("name", ["cpu", "ascend-310p3", "jetson-orin"])
def test_costs_are_those_of_the_shorter_network(made: Made, name: str) -> None:
    """Size and energy nearly: conversions before a block are those for the layer that would read the tensor in it."""
    for field, errors in cost_errors(made[1].space, name, 60).items():
        if field in ("size_mb", "energy_mj"):
            assert errors.mean() < 0.04, field
        else:
            assert errors.max() < (0.01 if field == "latency_ms" else 1e-9), field


def test_what_is_chosen_for_skipped_layers_is_left_out(made: Made) -> None:
    space = made[1].space
    chosen = {"skip/first.0": SKIPPED, "format/first.0.conv1": "w8", "format/head": "w8"}
    vector = np.array([knob.index(chosen[knob.name]) if knob.name in chosen else 0 for knob in space.knobs])
    assert space.decode(vector) == Plan({"skip/first.0": SKIPPED, "format/head": "w8"})
    with pytest.raises(ValueError, match=r"nothing for layers that it skips, but got format/first\.0\.conv1"):
        space.encode(Plan(chosen))


def test_a_shorter_network_is_rebuilt(made: Made) -> None:
    ms, (subject, evaluator) = load_mindspore(), made
    plan = Plan({"skip/first.1": "skipped", "skip/second.0": "skipped", "keep/first.0.conv1": 0.5})
    small = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES).net(plan)
    again = autocomp.rebuild(subject.net, plan, subject.x[:1])
    missing, unused = ms.load_param_into_net(again, {p.name: p for p in small.get_parameters()}, True)
    assert not missing and not unused
    assert (
        norm_error(forward(again, (subject.x[:2],), graph=False)[0], forward(small, (subject.x[:2],), graph=False)[0])
        < 1e-6
    )
    with pytest.raises(ValueError, match=r"must skip cells that can be left out, first\.0, .*but got 'down'"):
        autocomp.rebuild(subject.net, Plan({"skip/down": "skipped"}), subject.x[:1])
