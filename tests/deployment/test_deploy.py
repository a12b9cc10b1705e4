"""Exports: written, read again and compared before they stand in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mindspore import Tensor, nn, ops

import autocomp
from autocomp.deployment.deploy import NetworkDeployer, onnx_bytes
from autocomp.deployment.restore import restore
from autocomp.errors import ExportError
from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.hardware_models import device
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import compare, norm_error, run_onnx, written_whole
from autocomp.primitives.tracing.platform import forward
from autocomp.problem.jobs import evaluator_of
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Format, Plan
from tests.conftest import Subject


def deployer_of(subject: Subject) -> NetworkDeployer:
    return NetworkDeployer(subject.net, subject.evaluator, (subject.x,), Choices((), 4), batch=4)


@pytest.fixture
def deployer(named_subject: Callable[[str], Subject]) -> NetworkDeployer:
    return deployer_of(named_subject("depthwise"))


def quantized(deployer: NetworkDeployer, chosen: str) -> Plan:
    return Plan({f"format/{layer}": chosen for layer in deployer.evaluator.space.graph.layers})


@pytest.mark.parametrize("ending", ["mindir", "onnx"])
def test_size_is_read_from_the_file_and_falls_with_the_bits(
    named_subject: Callable[[str], Subject], tmp_path: Path, ending: str
) -> None:
    deployer, sizes = deployer_of(named_subject("residual")), []
    for name in ("float", "w8", "w4"):
        plan = Plan() if name == "float" else quantized(deployer, name)
        report = deployer.export(plan, tmp_path / f"{name}.{ending}")
        assert report.format == ending and report.max_relative_error < 1e-4
        assert report.path.stat().st_size == round(1e6 * report.size_mb)
        sizes.append(report.size_mb)
    parameters = sum(p.size for p in deployer.net(Plan()).get_parameters())
    assert sizes[0] > sizes[1] > sizes[2]
    assert 1e6 * (sizes[0] - sizes[1]) > 2 * 0.9 * parameters, "three bytes of four are gone for almost every weight"


def test_onnx_holds_integers_and_takes_any_batch(deployer: NetworkDeployer, tmp_path: Path) -> None:
    report = deployer.export(quantized(deployer, "w8a8"), tmp_path / "net.onnx")
    model = onnx.load(report.path)
    onnx.checker.check_model(model)
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {onnx.TensorProto.INT8}
    ops = [node.op_type for node in model.graph.node]
    assert "QuantizeLinear" in ops and "BatchNormalization" not in ops
    for count in (1, 3):
        assert run_onnx(report.path, (deployer.evaluator.inputs[0][:count],))[0].shape == (count, 5)


def test_float_network_is_the_users(deployer: NetworkDeployer, named_subject: Callable[[str], Subject]) -> None:
    x = deployer.evaluator.inputs[0][:4]
    expected = forward(named_subject("depthwise").net, (x,), graph=False)[0]
    assert norm_error(forward(deployer.net(Plan()), (x,), graph=False)[0], expected) < 1e-5


def test_wrong_export_does_not_take_the_place_of_a_right_one(
    deployer: NetworkDeployer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    deployer.export(Plan(), path)
    before = path.read_bytes()
    known = deployer.evaluator
    other = onnx_bytes(known.space.graph, known.parameters, known.compress(quantized(deployer, "w4")))
    monkeypatch.setattr("autocomp.deployment.deploy.onnx_bytes", lambda *_: other)
    with pytest.raises(ExportError, match=r"\.onnx file computes something else than the network in memory: relative"):
        deployer.export(Plan(), path)
    monkeypatch.setattr("autocomp.deployment.deploy.onnx_bytes", lambda *_: b"no model")
    with pytest.raises(ExportError, match=r"the exported \.onnx file cannot be loaded again: "):
        deployer.export(Plan(), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["net.onnx"]


def test_nan_never_agrees(tmp_path: Path) -> None:
    x = (np.ones((2, 3), np.float32),)
    with pytest.raises(ExportError, match="relative error nan"):
        compare(lambda path, inputs: (np.full((2, 3), np.nan),), tmp_path / "net.onnx", x, x, 0.1)
    with pytest.raises(ExportError, match="relative error inf"):
        compare(lambda path, inputs: (np.ones((2, 4)),), tmp_path / "net.onnx", x, x, 0.1)


def test_a_file_may_differ_as_far_as_moved_inputs_move_the_outputs(tmp_path: Path) -> None:
    """Of a network that rounds; by twice as much, and never without a network to ask."""
    inputs = (np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32),)

    def network(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return (np.where(np.round(arrays[0] * 1e6) % 2 > 0, np.float32(1.1), np.float32(0.9)),)  # flips at any move

    expected = network(inputs)
    moves = norm_error(network((inputs[0] * np.float32(1.001),))[0], expected[0])

    def differing(share: float) -> float:
        found = (expected[0] * np.float32(1 + share * moves),)
        return compare(lambda path, arrays: found, tmp_path / "net.onnx", inputs, expected, 0.05, network)

    assert 0.1 < moves < 0.2 and differing(1.6) > 0.05
    with pytest.raises(ExportError, match=r"relative error 0\.\d+, but at most 0\.\d+ is right"):
        differing(2.5)
    with pytest.raises(ExportError, match=r"but at most 0\.05 is right"):
        compare(lambda path, arrays: (1.1 * expected[0],), tmp_path / "net.onnx", inputs, expected, 0.05)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"

    def fail() -> None:
        with written_whole(target) as draft:
            draft.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(target.parent.iterdir()) == []
    with written_whole(target) as draft:
        draft.write_text("whole")
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_weights_are_rounded_alike_after_loading(
    named_subject: Callable[[str], Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adaptive rounding is redone from the stored calibration samples: the same integers and biases come out."""
    subject = named_subject("residual")
    choices = Choices([Format.parse(text) for text in ("w8", "w4")], 4)
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    assert set(evaluator.compressor.patches) == set(subject.graph.layers)
    NetworkDeployer(subject.net, evaluator, (subject.x,), choices).store(tmp_path, [])
    monkeypatch.setattr(ParetoSet, "load", lambda folder, deployer, resolver: deployer)
    monkeypatch.setattr("autocomp.deployment.restore._resolver", lambda *_: None)  # there is no front in the folder
    restored: Any = restore(subject.net, tmp_path)
    plan = Plan({f"format/{layer}": "w4" for layer in subject.graph.layers} | {"keep/stem": 0.5})
    before, after = evaluator.compress(plan).layers, restored.evaluator.compress(plan).layers
    for layer, state in before.items():
        assert state.quantized is not None
        np.testing.assert_array_equal(after[layer].quantized.integers, state.quantized.integers)
        np.testing.assert_array_equal(after[layer].weight, state.weight)
        if state.bias is not None:
            np.testing.assert_array_equal(after[layer].bias, state.bias)


def test_a_space_with_a_strict_divisor_is_restored(
    named_subject: Callable[[str], Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = named_subject("residual")
    choices = Choices([Format(), Format(8, 8)], 10, strict_divisor=True, quantizes_tensors=True, int16_sums=False)
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    knobs = {knob.name: knob for knob in evaluator.space.knobs if knob.group is not None}
    assert knobs and {knob.channel_divisor for knob in knobs.values()} == {10}
    fine = evaluator_of(
        subject.net, subject.graph, replace(choices, strict_divisor=False), (subject.x,), None, (subject.x,)
    )
    assert fine.space.key != evaluator.space.key
    NetworkDeployer(subject.net, evaluator, (subject.x,), choices).store(tmp_path, [])
    monkeypatch.setattr(ParetoSet, "load", lambda folder, deployer, resolver: deployer)
    monkeypatch.setattr("autocomp.deployment.restore._resolver", lambda *_: None)  # there is no front in the folder
    restored: Any = restore(subject.net, tmp_path)
    assert restored.evaluator.space.key == evaluator.space.key and restored.choices.strict_divisor
    assert evaluator.compress(Plan()).int16_sums is restored.evaluator.compress(Plan()).int16_sums is False
    limited = evaluator_of(
        subject.net, subject.graph, replace(choices, int16_sums=True), (subject.x,), None, (subject.x,)
    )
    assert limited.space.key == evaluator.space.key and limited.key != evaluator.key  # other numbers, not other plans


def test_nothing_is_collected_for_rounding_to_8_bits(named_subject: Callable[[str], Subject]) -> None:
    subject = named_subject("residual")
    choices = Choices([Format.parse(text) for text in ("w8", "w8a8")], 4)
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    assert evaluator.compressor.patches == {}


def zero_points(path: Path) -> set[tuple[int, int]]:
    """Type and value of each that a rounded input has."""
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [stored[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    return {(tensor.data_type, int(onnx.numpy_helper.to_array(tensor))) for tensor in found}


@pytest.mark.parametrize("chosen", ["w8a8", "w4a8"])
def test_where_the_runtime_knows_no_zero_points_there_are_none(
    named_subject: Callable[[str], Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    """TensorRT refuses an input that is rounded to unsigned integers, or to others than around zero."""
    subject = named_subject("residual")
    choices = Choices([Format.parse(chosen)], 4, symmetric=device("gpu").symmetric_inputs)
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), choices)
    deployer.export(quantized(deployer, chosen), tmp_path / "net.onnx")
    assert zero_points(tmp_path / "net.onnx") == {(onnx.TensorProto.INT8, 0)}
    with monkeypatch.context() as as_without_data:
        as_without_data.setattr(evaluator, "synthetic", True)
        tuned, found = deployer.fine_tune(quantized(deployer, chosen), subject.x, FineTuning(epochs=1, batch=32))
    assert found.fidelity.startswith(f"{len(subject.x)} synthetic inputs, after 1 epoch of ")
    tuned.export(quantized(deployer, chosen), tmp_path / "tuned.onnx")
    assert zero_points(tmp_path / "tuned.onnx") == {(onnx.TensorProto.INT8, 0)}
    deployer.store(tmp_path, [])
    monkeypatch.setattr(ParetoSet, "load", lambda folder, deployer, resolver: deployer)
    monkeypatch.setattr("autocomp.deployment.restore._resolver", lambda *_: None)  # there is no front in the folder
    restored: Any = restore(subject.net, tmp_path)
    assert restored.evaluator.compressor.ranges == evaluator.compressor.ranges


def test_elsewhere_inputs_use_all_levels(deployer: NetworkDeployer, tmp_path: Path) -> None:
    deployer.export(quantized(deployer, "w8a8"), tmp_path / "net.onnx")
    assert (onnx.TensorProto.UINT8, 0) in zero_points(tmp_path / "net.onnx")


def test_on_the_same_data_the_float_network_runs_once(
    deployer: NetworkDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    inner = PlanEvaluator._run_float

    def counted(*given: Any) -> None:
        runs.append(1)
        inner(*given)

    monkeypatch.setattr(PlanEvaluator, "_run_float", counted)
    x, y = deployer.evaluator.inputs[0][:32].copy(), np.arange(32) % 3
    plans = [Plan(), quantized(deployer, "w8a8"), quantized(deployer, "w4a8")]
    found = [deployer.measure(plan, (x.copy(), y.copy()))[0] for plan in plans]
    whole, eight, four = (one.divergence or 0.0 for one in found)
    assert len(runs) == 1 and whole == 0 < eight < four
    x[0] += 1
    deployer.measure(plans[1], (x, y))
    deployer.measure(plans[1], (x, np.roll(y, 1)))
    deployer.measure(plans[1], autocomp.Data(evaluate=(x, y), metric=_largest))
    deployer.measure(plans[1], autocomp.Data(evaluate=(x, y), metric=_largest))
    assert len(runs) == 4


def _largest(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(1 / (1 + np.exp(-outputs.max())))


@pytest.mark.parametrize("chosen", ["w8a8", "w4a4"])
def test_what_was_evaluated_is_what_is_exported(
    named_subject: Callable[[str], Subject], tmp_path: Path, chosen: str
) -> None:
    """onnxruntime would round weights and biases behind rounded inputs once more."""
    subject = named_subject("residual")
    choices = Choices([Format.parse(chosen)], 4)
    evaluator = evaluator_of(subject.net, subject.graph, choices, (subject.x,), None, (subject.x,))
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), choices, len(subject.x))
    plan = quantized(deployer, chosen)
    compressed = evaluator.compress(plan)
    expected = forward(deployer.net(plan), (subject.x,), graph=False)[0]
    found = evaluator.engine.outputs(compressed, (subject.x,))[0]
    assert float(np.median(np.abs(found - expected).max(1))) < 1e-4 * np.abs(expected).max()
    assert deployer.export(plan, tmp_path / "net.onnx").max_relative_error < 0.01


class Counting(nn.Cell):
    """Logits, and a number of all samples; ``counts``: divided by their number, a constant once it is traced."""

    def __init__(self, counts: bool) -> None:
        super().__init__()
        self.counts, self.hidden, self.head = counts, nn.Dense(6, 16), nn.Dense(16, 3)

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(ops.relu(self.hidden(x)))
        return y, y.square().sum() / x.shape[0] if self.counts else y.square().sum()


@pytest.mark.parametrize("counts", [False, True])
def test_numbers_of_all_samples_are_compared_on_several(counts: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    front = autocomp.search(Counting(counts), "size<95%", "ascend-310p3", x, trials=3, fine_tune=0, progress=False)
    assert any("output 1 has no axis that counts the samples" in note for note in front.notes)
    assert front.float_point.export(tmp_path / "net.mindir").max_relative_error < 1e-5
    if counts:
        with pytest.raises(ExportError, match="something else than the network in memory as its output 1: relative"):
            front.float_point.export(tmp_path / "net.onnx", "simulated")
        return
    path = front.float_point.export(tmp_path / "net.onnx", "simulated").path
    for found, expected in zip(run_onnx(path, (x,)), forward(front.float_point.net, (x,)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
