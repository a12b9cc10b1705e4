"""Plans that put ReLUs in the place of other activations: the same numbers in every form, costs of the other network,
rebuilt and restored."""

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
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.gains import device_gains
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject

PRIMITIVES = ("channel-pruning", "adaround", "low-rank", "activations")
IN_FLOATS = Choices([Format.parse(text) for text in ("w8", "w4")], 4, PRIMITIVES)
CHOICES = Choices([Format.parse(text) for text in ("w8", "w8a8", "w4a8")], 4, PRIMITIVES, quantizes_tensors=True)
RELU = "relu@activations"
CELLS = ("stem.2", "expand.2", "depthwise.2", "leaky", "gelu")
EVERY = {f"activation/{cell}": RELU for cell in CELLS}
Made = tuple[Subject, Any]


def _made(subject: Subject, choices: Choices) -> Made:
    return subject, evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))


@pytest.fixture(scope="module")
def in_floats(named_subject: Callable[[str], Subject]) -> Made:
    return _made(named_subject("curved"), IN_FLOATS)


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    return _made(named_subject("curved"), CHOICES)


def _drawn(evaluator: Any, count: int, seed: int) -> list[Plan]:
    return [evaluator.space.decode(v) for v in evaluator.space.random(np.random.default_rng(seed), count)]


def test_each_cell_that_runs_once_behind_a_layer_is_a_choice(made: Made) -> None:
    found = {knob.name: knob.values for knob in made[1].space.knobs if knob.kind == "activation"}
    assert found == dict.fromkeys(EVERY, ("kept", RELU))


def test_the_elastic_network_and_onnx_agree_over_the_whole_space(in_floats: Made) -> None:
    subject, evaluator = in_floats
    space, described = evaluator.space, evaluator.engine.described_outputs
    relus = tuple(space.activations.values())
    other = MindSporeEngine(subject.net, subject.graph, described, space.chains, activations=relus)
    plans, x = _drawn(evaluator, 6, 3), (subject.x[:8],)
    assert {name for plan in plans for name in plan if name.startswith("activation/")} == EVERY.keys()
    for plan in plans:
        compressed = evaluator.compress(plan)
        assert norm_error(other.outputs(compressed, x)[0], evaluator.engine.outputs(compressed, x)[0]) < 1e-4, plan


def test_files_agree_with_the_converted_network(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer, x = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS), (subject.x[:1],)
    plan = Plan(EVERY | {"keep/expand.0": 0.5, "format/head": "w4"})
    expected = forward(deployer.net(plan), x)[0]
    assert norm_error(evaluator.engine.outputs(evaluator.compress(plan), x)[0], expected) < 1e-4
    assert norm_error(expected, evaluator.engine.outputs(evaluator.compress(Plan()), x)[0]) > 1e-2
    for ending, run in ((".onnx", run_onnx), (".mindir", run_mindir)):
        path = tmp_path / f"net{ending}"
        deployer.export(plan, path)
        assert norm_error(run(path, x)[0], expected) < 1e-4, ending
        assert b"HardSwish" not in path.read_bytes(), ending
    deployer.export(plan, tmp_path / "net.safetensors")
    again = autocomp.rebuild(subject.net, tmp_path / "net.safetensors")
    assert norm_error(forward(again, x)[0], expected) < 1e-6
    with pytest.raises(ValueError, match=r"put 'relu' in the place of an activation, stem\.2, .*but got 'twice'"):
        autocomp.rebuild(subject.net, Plan({"activation/twice": RELU}), subject.x[:1])


def test_files_in_integers_agree_with_what_was_evaluated(made: Made, tmp_path: Path) -> None:
    subject, evaluator = made
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES)
    plan = Plan(EVERY | {f"format/{layer}": "w8a8" for layer in evaluator.space.graph.layers})
    deployer.export(plan, tmp_path / "net.onnx")
    found = run_onnx(tmp_path / "net.onnx", (subject.x,))[0]
    assert norm_error(found, evaluator.engine.outputs(evaluator.compress(plan), (subject.x,))[0]) < 0.02
    expected = evaluator.engine.outputs(evaluator.compress(Plan(EVERY)), (subject.x,))[0]
    assert norm_error(found, expected) < 0.1, "rounded alone it is near the same network in floats"


@pytest.mark.parametrize("cell", ["stem.2", "depthwise.2", "leaky"])
def test_what_a_relu_shifts_is_taken_back_by_the_biases_behind_it(in_floats: Made, cell: str) -> None:
    """Behind an addition, behind the mean before a gate, and behind a mean."""
    subject, evaluator = in_floats
    plan, compressor, errors = Plan({f"activation/{cell}": RELU}), evaluator.compressor, []
    for corrects in (compressor.corrects, None):
        compressor.corrects, before = corrects, compressor.corrects
        try:
            outputs = evaluator.run(evaluator.compress(plan), (subject.x,))[0]
        finally:
            compressor.corrects = before
        errors.append(norm_error(outputs, evaluator.plain_outputs[0]))
    assert errors[0] < 0.8 * errors[1], errors


@pytest.mark.parametrize("name", ["cpu", "ascend-310p3"])
def test_costs_are_those_of_the_other_network(made: Made, name: str) -> None:
    """Size nearly: names of tensors in the file differ."""
    chip, space = device(name), made[1].space
    vectors = space.random(np.random.default_rng(6), 12)
    tables = CostTables(chip, space, 2)(vectors)
    alone = [chip.costs(space.workload(vector, 2).specialised) for vector in vectors]
    for field in ("macs", "params", "bops", "latency_ms", "memory_mb", "size_mb", "energy_mj"):
        expected = np.array([float(getattr(cost, field)[0]) for cost in alone])
        errors = np.abs(getattr(tables, field) / expected - 1)
        assert errors.max() < (0.05 if field == "size_mb" else 1e-9), (field, errors.max())


@pytest.mark.parametrize(("name", "alike"), [("cpu", ()), ("ascend-310p3", ("leaky",))])
def test_what_a_runtime_computes_as_fast_is_no_gain(made: Made, name: str, alike: tuple[str, ...]) -> None:
    """Ascend computes LeakyReLU within the layer before, as it does a ReLU."""
    chip, space = device(name), made[1].space
    plans = [Plan(), *(Plan({name: RELU}) for name in EVERY)]
    latency = chip.costs(space.workload(np.stack([space.encode(plan) for plan in plans]), 256)).latency_ms
    faster = latency[1:] < latency[0]
    assert [cell for cell, gains in zip(CELLS, faster, strict=True) if not gains] == [*alike]


def test_a_relu_is_no_choice(named_subject: Callable[[str], Subject]) -> None:
    assert not device_gains(device("cpu"), named_subject("residual").graph, 1, ("activations",))
    found = device_gains(device("cpu"), named_subject("curved").graph, 256, ("activations",))
    assert found == dict.fromkeys(EVERY, (RELU,))
