"""Plans that replace layers: the same numbers in every form, costs of the replaced network, rebuilt and restored."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.deployment.restore import restore
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.evaluators.fine_tuning import FineTuning, fine_tune, pruned_only, rebuilt
from autocomp.hardware_models import CostTables, device
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error, run_mindir, run_onnx
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.problem.jobs import evaluator_of
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject
from tests.networks import images

PRIMITIVES = ("channel-pruning", "adaround", "operators", "sparsity")
CHOICES = Choices([Format.parse(text) for text in ("w8", "w8a8", "w4", "w4a8")], 4, PRIMITIVES, quantizes_tensors=True)
IN_FLOATS = Choices([Format.parse(text) for text in ("w8", "w4")], 4, PRIMITIVES)
GHOST = "ghost2@ghost"
RANK = "rank0.5@low-rank"
PLAN = Plan(
    {"structure/blocks.0.conv2": RANK, "format/blocks.0.conv2": "w4", "keep/stem": 0.5, "keep/blocks.1.conv1": 0.5}
)
CONVOLUTIONS = Plan(
    {
        "structure/blocks.0.conv1": "separable2@separable",
        "structure/blocks.0.conv2": "groups2@grouped",
        "structure/blocks.1.conv2": "kernel1@smaller-kernel",
        "keep/stem": 0.75,
        "keep/blocks.0.conv1": 0.75,
        "format/blocks.0.conv2": "w4",
    }
)
Made = tuple[Subject, Any]


@pytest.fixture(scope="module")
def made(named_subject: Callable[[str], Subject]) -> Made:
    subject = named_subject("residual")
    return subject, evaluator_of(subject.net, subject.graph, CHOICES, (subject.x,), None, (subject.x,))


@pytest.fixture(scope="module")
def in_floats(named_subject: Callable[[str], Subject]) -> Made:
    subject = named_subject("residual")
    return subject, evaluator_of(subject.net, subject.graph, IN_FLOATS, (subject.x,), None, (subject.x,))


def _drawn(evaluator: Any, count: int, seed: int) -> list[Plan]:
    return [evaluator.space.decode(v) for v in evaluator.space.random(np.random.default_rng(seed), count)]


def test_the_elastic_network_and_onnx_agree_over_the_whole_space(in_floats: Made) -> None:
    subject, evaluator = in_floats
    space = evaluator.space
    assert {knob.kind for knob in space.knobs} == {"keep", "format", "structure", "sparsity"}
    other = MindSporeEngine(subject.net, subject.graph, evaluator.engine.described_outputs, space.chains)
    plans = _drawn(evaluator, 30, 3)
    replaced = {value for plan in plans for name, value in plan.items() if name.startswith("structure/")}
    assert replaced == {value for knob in space.knobs if knob.kind == "structure" for value in knob.values[1:]}
    x = (subject.x[:8],)
    for plan in plans:
        compressed = evaluator.compress(plan)
        assert norm_error(other.outputs(compressed, x)[0], evaluator.engine.outputs(compressed, x)[0]) < 1e-4, plan


def test_files_agree_with_the_converted_network(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS)
    x = (subject.x[:1],)
    for number, plan in enumerate([CONVOLUTIONS, *_drawn(evaluator, 1, 5)]):
        expected = forward(deployer.net(plan), x, graph=False)[0]
        assert norm_error(evaluator.engine.outputs(evaluator.compress(plan), x)[0], expected) < 1e-4
        for ending, run in ((".onnx", run_onnx), (".mindir", run_mindir)):
            path = tmp_path / f"{number}{ending}"
            deployer.export(plan, path)
            assert norm_error(run(path, x)[0], expected) < 1e-4, plan


@pytest.mark.parametrize(
    ("plan", "within"),
    [(PLAN, "blocks.0.conv2.rank0_5_first"), (CONVOLUTIONS, "blocks.0.conv1.separable2_kernels")],
)
def test_files_in_integers_agree_with_what_was_evaluated(made: Made, tmp_path: Path, plan: Plan, within: str) -> None:
    subject, evaluator = made
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES)
    plan = Plan(dict(plan) | {knob.name: "w8a8" for knob in evaluator.space.knobs if knob.kind == "format"})
    compressed = evaluator.compress(plan)
    assert compressed.graph is not None
    inner = [compressed.graph.nodes[i].layer for i in compressed.tensors]
    assert within in inner, "the tensor within the chain stays in integers"
    deployer.export(plan, tmp_path / "net.onnx")
    found, expected = (
        run_onnx(tmp_path / "net.onnx", (subject.x,))[0],
        evaluator.engine.outputs(compressed, (subject.x,))[0],
    )
    assert norm_error(found, expected) < 0.02


@pytest.mark.parametrize("name", ["cpu", "ascend-310p3", "jetson-orin"])
def test_costs_are_those_of_the_replaced_network(made: Made, name: str) -> None:
    evaluator = made[1]
    chip, space = device(name), evaluator.space
    vectors = space.random(np.random.default_rng(6), 60)
    tables = CostTables(chip, space, 2)(vectors)
    at_once = chip.costs(space.workload(vectors, 2))
    for row, vector in enumerate(vectors):
        alone = chip.costs(space.workload(vector, 2).specialised)
        for field in ("latency_ms", "size_mb", "energy_mj", "macs", "params", "memory_mb", "bops"):
            expected = float(getattr(alone, field)[0])
            share = {"latency_ms": 0.02, "energy_mj": 0.02, "memory_mb": 0.1}.get(field, 1e-9)
            for found in (tables, at_once):
                assert getattr(found, field)[row] == pytest.approx(expected, rel=share), (field, space.decode(vector))
        rows = chip.cost_table(space.workload(vector, 2))
        assert sum(one.macs for one in rows) == pytest.approx(float(alone.macs[0]))


def test_a_ghost_layer_makes_half_of_the_channels_from_the_others(made: Made) -> None:
    plan = Plan({"structure/blocks.1.conv1": GHOST, "keep/blocks.1.conv1": 0.5})
    layers = made[1].compress(plan).layers
    computed, cheap = (layers[f"blocks.1.conv1.ghost2_{part}"].weight.shape for part in ("primary", "cheap"))
    assert 2 * computed[0] == cheap[0] and cheap[1:] == (1, 3, 3)


def test_more_rank_is_nearer_to_the_layer(made: Made) -> None:
    evaluator = made[1]
    shares = [0.75, 0.5, 0.25]
    plans = [Plan({"structure/blocks.0.conv2": f"rank{share}@low-rank"}) for share in shares]
    accuracies = [evaluator._outputs(evaluator.compress(plan))[0] for plan in plans]
    errors = [norm_error(found, evaluator.plain_outputs[0]) for found in accuracies]
    assert errors[0] < errors[1] < errors[2]


def test_a_rank_follows_the_channels_that_are_left(made: Made) -> None:
    evaluator = made[1]
    whole, cut = (
        evaluator.compress(plan).layers["blocks.1.conv1.rank0_5_first"].weight.shape
        for plan in (
            Plan({"structure/blocks.1.conv1": RANK}),
            Plan({"structure/blocks.1.conv1": RANK, "keep/blocks.1.conv1": 0.5}),
        )
    )
    assert cut[0] == whole[0] // 2


def test_a_replaced_network_is_rebuilt(made: Made, tmp_path: Path) -> None:
    ms, (subject, evaluator) = load_mindspore(), made
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES)
    plan = Plan(dict(CONVOLUTIONS) | {"structure/blocks.1.conv1": GHOST, "format/blocks.1.conv1": "w8a8"})
    small = deployer.net(plan)
    again = autocomp.rebuild(subject.net, plan, subject.x[:1])
    missing, unused = ms.load_param_into_net(again, {p.name: p for p in small.get_parameters()}, True)
    assert not missing and not unused
    for name, value in parameters_of(small).items():
        np.testing.assert_array_equal(parameters_of(again)[name], value)
    deployer.export(plan, tmp_path / "net.safetensors")
    stored = autocomp.rebuild(subject.net, tmp_path / "net.safetensors")
    x = (subject.x[:4],)
    np.testing.assert_allclose(forward(stored, x, graph=False)[0], forward(small, x, graph=False)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("nowhere", RANK, "dense layers and of convolutions with one group: .*; but got 'nowhere'"),
        ("head", "rank2@low-rank", "must be rank<share>, share in"),
        ("blocks.0.conv2", "half", "must be rank<share>, share in .0, 1., .*, ghost2; but got"),
    ],
)
def test_a_structure_that_there_is_not_is_named(made: Made, place: str, value: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        autocomp.rebuild(made[0].net, {f"structure/{place}": value}, made[0].x[:1])


def test_the_space_and_its_numbers_are_restored(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, evaluator = made
    NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES).store(tmp_path, [])
    monkeypatch.setattr(ParetoSet, "load", lambda folder, deployer, resolver: deployer)
    monkeypatch.setattr("autocomp.deployment.restore._resolver", lambda *_: None)  # there is no front in the folder
    restored: Any = restore(subject.net, tmp_path)
    assert restored.evaluator.space.key == evaluator.space.key
    before, after = evaluator.compress(PLAN).layers, restored.evaluator.compress(PLAN).layers
    for layer, state in before.items():
        np.testing.assert_array_equal(after[layer].weight, state.weight)


def test_a_point_names_who_replaces_a_layer(made: Made) -> None:
    assert set(made[1].space.primitives(PLAN).values()) == {"low-rank", "adaround", "channel-pruning"}


def test_the_size_of_files_is_predicted(made: Made, tmp_path: Path) -> None:
    subject, evaluator = made
    sizes = FileSizes(device("ascend"), evaluator.space)
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), CHOICES, sizes=sizes)
    for plan, ending in ((CONVOLUTIONS, "onnx"), (CONVOLUTIONS, "mindir")):
        report = deployer.export(plan, tmp_path / f"net.{ending}")
        assert report.size_mb == pytest.approx(report.predicted_mb, abs=0.0025), "MB of names and shapes"


@pytest.mark.parametrize("engine", ["onnx", "mindspore"])
def test_training_begins_with_layers_fitted_to_the_whole_network(in_floats: Made, engine: str) -> None:
    """One after the other, in either engine: with cut channels, in groups, behind replaced layers."""
    subject, evaluator = in_floats
    plan = Plan(dict(CONVOLUTIONS) | {"structure/blocks.1.conv1": GHOST})
    if engine == "mindspore":
        described, chains = evaluator.engine.described_outputs, evaluator.space.structure(plan)
        own = {layer: (chain,) for layer, chain in chains.items()}
        evaluator = copy.copy(evaluator)
        evaluator.engine = MindSporeEngine(subject.net, subject.graph, described, own)
    others = images(64, seed=9)
    expected, errors = forward(subject.net, (others,), graph=False)[0], []
    for seen in ((), (images(128),)):
        smaller = pruned_only(subject.net, evaluator, plan, seen)
        errors.append(norm_error(forward(smaller, (others,), graph=False)[0], expected))
    assert errors[1] < 0.8 * errors[0]


def test_cheaper_convolutions_train_in_their_formats(made: Made) -> None:
    subject, evaluator = made
    formats = {f"format/{name.partition('/')[2]}": "w4a8" for name in CONVOLUTIONS if name.startswith("structure/")}
    plan = Plan(dict(CONVOLUTIONS) | formats)
    tuned = fine_tune(subject.net, evaluator, plan, (subject.x, None), FineTuning(epochs=1, batch=16), (subject.x,))
    shapes = {
        "blocks.0.conv1.separable2_kernels": (24, 1, 3, 3),
        "blocks.0.conv1.separable2_mixing": (12, 24, 1, 1),
        "blocks.0.conv2.groups2": (16, 6, 3, 3),
        "blocks.1.conv2.kernel1": (32, 32, 1, 1),
    }
    before = evaluator.compress(plan).layers
    for layer, shape in shapes.items():
        state = tuned.compressed.layers[layer]
        assert state.weight.shape == shape and state.quantized is not None and state.quantized.bits == 4
        assert np.abs(state.weight - before[layer].weight).max() > 1e-4, "it is trained"


def test_a_replaced_layer_trains_in_its_format(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, evaluator = made
    plan = Plan({"structure/blocks.0.conv2": RANK, "format/blocks.0.conv2": "w4a8", "keep/stem": 0.5})
    settings = FineTuning(epochs=1, batch=16, rate=0.01)
    tuned = fine_tune(subject.net, evaluator, plan, (subject.x, None), settings, (subject.x,))
    before = evaluator.compress(plan).layers
    for part in ("first", "last"):
        state = tuned.compressed.layers[f"blocks.0.conv2.rank0_5_{part}"]
        assert state.quantized is not None and state.quantized.bits == 4 and state.activation is not None
        assert np.abs(state.weight - before[f"blocks.0.conv2.rank0_5_{part}"].weight).max() > 1e-4, "it is trained"
    monkeypatch.setattr(evaluator.compressor, "int16_sums", False)
    again = rebuilt(subject.net, evaluator, plan, "lsq", tuned.parameters)
    assert tuned.compressed.int16_sums and not again.compressed.int16_sums  # its file has the faster kernels
    x = (subject.x[:4],)
    np.testing.assert_allclose(forward(again.net, x, graph=False)[0], forward(tuned.net, x, graph=False)[0], atol=1e-4)
