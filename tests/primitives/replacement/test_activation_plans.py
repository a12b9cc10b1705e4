"""Plans that put ReLUs in the place of other activations: the same numbers in every form, costs of the other network,
rebuilt and restored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.hardware_models import device
from autocomp.primitives.export.files import norm_error, run_onnx
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.gains import device_gains
from autocomp.search_spaces import Plan
from tests.conftest import Subject

from .plan_forms import Made, check_elastic, check_files, choices_of, cost_errors, drawn, made_of

PRIMITIVES = ("channel-pruning", "adaround", "low-rank", "activations")
IN_FLOATS, CHOICES = choices_of(PRIMITIVES, True), choices_of(PRIMITIVES, False)
RELU = "relu@activations"
CELLS = ("stem.2", "expand.2", "depthwise.2", "leaky", "gelu")
EVERY = {f"activation/{cell}": RELU for cell in CELLS}


@pytest.fixture(scope="module")
def in_floats(named_subject: Callable[[str], Subject]) -> Made:
    return made_of(named_subject("curved"), IN_FLOATS)


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    return made_of(named_subject("curved"), CHOICES)


def test_each_cell_that_runs_once_behind_a_layer_is_a_choice(made: Made) -> None:
    found = {knob.name: knob.values for knob in made[1].space.knobs if knob.kind == "activation"}
    assert found == dict.fromkeys(EVERY, ("kept", RELU))


def test_the_elastic_network_and_onnx_agree_over_the_whole_space(in_floats: Made) -> None:
    plans = drawn(in_floats[1], 6, 3)
    assert {name for plan in plans for name in plan if name.startswith("activation/")} == EVERY.keys()
    check_elastic(in_floats, plans)


def test_files_agree_with_the_converted_network(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer, x = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS), (subject.x[:1],)
    plan = Plan(EVERY | {"keep/expand.0": 0.5, "format/head": "w4"})
    expected = check_files(in_floats, deployer, plan, tmp_path, b"HardSwish")
    deployer.export(plan, tmp_path / "net.safetensors")
    again = autocomp.rebuild(subject.net, tmp_path / "net.safetensors")
    assert norm_error(forward(again, x, graph=False)[0], expected) < 1e-6
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
    for field, errors in cost_errors(made[1].space, name, 12).items():
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
