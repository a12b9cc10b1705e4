"""Plans that skip blocks: the same numbers in every form, costs of the shorter network, rebuilt and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.hardware_models import CostTables, device
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error, run_mindir, run_onnx
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject

PRIMITIVES = ("channel-pruning", "adaround", "low-rank", "depth")
IN_FLOATS = Choices([Format.parse(text) for text in ("w8", "w4")], 4, PRIMITIVES)
CHOICES = Choices([Format.parse(text) for text in ("w8", "w8a8", "w4a8")], 4, PRIMITIVES, quantizes_tensors=True)
SKIPPED = "skipped@block-skipping"
BLOCKS = ("first.0", "first.1", "second.0", "second.1")
Made = tuple[Subject, Any]


def _made(subject: Subject, choices: Choices) -> Made:
    return subject, evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))


@pytest.fixture(scope="module")
def in_floats(named_subject: Callable[[str], Subject]) -> Made:
    return _made(named_subject("deep"), IN_FLOATS)


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    return _made(named_subject("deep"), CHOICES)


def _drawn(evaluator: Any, count: int, seed: int) -> list[Plan]:
    return [evaluator.space.decode(v) for v in evaluator.space.random(np.random.default_rng(seed), count)]


def test_each_block_is_a_choice(made: Made) -> None:
    assert [knob.name for knob in made[1].space.knobs if knob.kind == "skip"] == [f"skip/{name}" for name in BLOCKS]


def test_the_elastic_network_and_onnx_agree_over_the_whole_space(in_floats: Made) -> None:
    subject, evaluator = in_floats
    space, described = evaluator.space, evaluator.engine.described_outputs
    other = MindSporeEngine(subject.net, subject.graph, described, space.chains, tuple(space.blocks.values()))
    plans, x = _drawn(evaluator, 24, 3), (subject.x[:8],)
    assert {name for plan in plans for name in plan if name.startswith("skip/")} == {f"skip/{name}" for name in BLOCKS}
    for plan in plans:
        compressed = evaluator.compress(plan)
        assert norm_error(other.outputs(compressed, x)[0], evaluator.engine.outputs(compressed, x)[0]) < 1e-4, plan


def test_files_agree_with_the_converted_network(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer, x = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS), (subject.x[:1],)
    plan = Plan({"skip/first.0": "skipped", "skip/second.1": "skipped", "keep/stem.0": 0.5, "format/head": "w4"})
    expected = forward(deployer.net(plan), x)[0]
    assert norm_error(evaluator.engine.outputs(evaluator.compress(plan), x)[0], expected) < 1e-4
    assert norm_error(expected, evaluator.engine.outputs(evaluator.compress(Plan()), x)[0]) > 1e-2
    for ending, run in ((".onnx", run_onnx), (".mindir", run_mindir)):
        path = tmp_path / f"net{ending}"
        deployer.export(plan, path)
        assert norm_error(run(path, x)[0], expected) < 1e-4, ending
        assert b"first.0" not in path.read_bytes(), "what is skipped is not in the file"


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
    chip, space = device(name), made[1].space
    vectors = space.random(np.random.default_rng(6), 60)
    tables = CostTables(chip, space, 2)(vectors)
    alone = [chip.costs(space.workload(vector, 2).specialised) for vector in vectors]
    for field in ("macs", "params", "bops", "latency_ms", "memory_mb", "size_mb", "energy_mj"):
        expected = np.array([float(getattr(cost, field)[0]) for cost in alone])
        errors = np.abs(getattr(tables, field) / expected - 1)
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
    assert norm_error(forward(again, (subject.x[:2],))[0], forward(small, (subject.x[:2],))[0]) < 1e-6
    with pytest.raises(ValueError, match=r"must skip cells that can be left out, first\.0, .*but got 'down'"):
        autocomp.rebuild(subject.net, Plan({"skip/down": "skipped"}), subject.x[:1])
