"""The accuracy of plans against what the outputs say."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator, Measurement, OnnxEngine, PlanEvaluator, synthetic_inputs
from autocomp.evaluators.distances import explained
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import NetworkGraph, Node, Plan
from tests.conftest import Subject
from tests.networks import images


def evaluator_of(subject: Subject, **changes: Any) -> PlanEvaluator:
    settings: dict[str, Any] = {"inputs": (subject.x,), "labels": None, "calibration": (subject.x,)} | changes
    return PlanEvaluator(OnnxEngine(subject.graph, subject.parameters), subject.space, subject.parameters, **settings)


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def test_is_an_evaluator(subject: Subject) -> None:
    assert isinstance(subject.evaluator, Evaluator)
    copy = pickle.loads(pickle.dumps(subject.evaluator))
    plan = subject.plans(1)[0]
    assert copy.key == subject.evaluator.key
    assert copy.evaluate(plan).accuracy == subject.evaluator.evaluate(plan).accuracy


def test_accuracy_by_hand(subject: Subject) -> None:
    """The share of right classes of the float network, and of a plan's converted network."""
    labels = np.random.default_rng(1).integers(0, 5, len(subject.x))
    plan = Plan({name: value for name, value in subject.plans(1)[0].items() if name.startswith("keep")})
    compressed = subject.evaluator.compress(plan)
    nets = {Plan(): subject.net, plan: convert(subject.net, subject.graph, subject.parameters, compressed)}
    for one, net in nets.items():
        expected = np.mean(forward(net, (subject.x,), graph=False)[0].argmax(1) == labels)
        found = subject.evaluator.evaluate(one)
        assert found.accuracy == pytest.approx(float(expected))
        assert (found.metric, found.samples, found.fidelity) == ("accuracy", 64, "64 samples")
        assert found.seconds > 0


def test_order_does_not_matter(subject: Subject) -> None:
    plans = subject.plans(4)
    there = [subject.evaluator.evaluate(plan).accuracy for plan in plans]
    back = [subject.evaluator.evaluate(plan).accuracy for plan in reversed(plans)]
    assert there == back[::-1]


def test_agreement_with_the_float_classes(residual: Subject) -> None:
    evaluator = evaluator_of(residual)
    assert evaluator.metric == "agreement"
    assert evaluator.evaluate(Plan()).accuracy == 1
    plans = [Plan(), *residual.plans(4), Plan({"keep/stem": 0.25, "keep/blocks.1.conv2": 0.25})]
    classes = [evaluator.engine.outputs(evaluator.compress(plan), (residual.x,))[0].argmax(1) for plan in plans]
    found = [evaluator.evaluate(plan).accuracy for plan in plans]
    assert found == pytest.approx([np.mean(some == classes[0]) for some in classes])
    assert min(found) < 1


def test_fidelity_is_one_less_noise_to_signal(residual: Subject) -> None:
    x = synthetic_inputs(residual.graph, 0)
    evaluator = evaluator_of(residual, inputs=x, calibration=x, synthetic=True)
    assert evaluator.metric == "fidelity"
    assert evaluator.evaluate(Plan()).accuracy == 1
    plan = Plan({"format/blocks.0.conv1": "w8"})
    y, found = (evaluator.engine.outputs(evaluator.compress(p), x)[0] for p in (Plan(), plan))
    wanted = 1 - ((found - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    measured = evaluator.evaluate(plan)
    assert measured.accuracy == pytest.approx(wanted, rel=1e-5) and 0.9 < measured.accuracy < 1
    assert measured.fidelity == f"{len(x[0])} synthetic inputs"
    harsh = Plan({f"format/{layer}": "w4a8" for layer in residual.graph.layers} | {"keep/stem": 0.25})
    assert evaluator.evaluate(harsh).accuracy < measured.accuracy


def test_what_all_outputs_have_in_common_is_no_signal() -> None:
    y = np.random.default_rng(0).normal(0, 1, (50, 3)).astype(np.float32)
    found = y + np.float32(0.1) * y[::-1]
    assert explained(found, y) == pytest.approx(0.99, abs=0.001)
    assert explained(found + 300, y + 300) == pytest.approx(explained(found, y), abs=1e-4)
    assert explained(np.ones((4, 2)), np.ones((4, 2))) == 1 and explained(np.zeros((4, 2)), np.ones((4, 2))) == 0


def test_outputs_that_are_not_finite(residual: Subject) -> None:
    engine = OnnxEngine(residual.graph, residual.parameters)
    evaluator = evaluator_of(residual)
    outputs = engine.outputs

    def nan(compressed: Any, inputs: Any) -> Any:
        (found,) = outputs(compressed, inputs)
        found[3, 2] = np.nan
        return (found,)

    evaluator.engine.outputs = nan  # type: ignore[method-assign]
    plan = Plan({"format/stem": "w8"})
    with pytest.raises(EvaluationError, match=r'outputs under the plan \{"format/stem":"w8"\} are not finite'):
        evaluator.evaluate(plan)
    engine.outputs = nan  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="outputs of the float network are not finite"):
        PlanEvaluator(engine, residual.space, residual.parameters, (residual.x,), None, (residual.x,))


def test_labels_out_of_range(residual: Subject) -> None:
    labels = np.zeros(len(residual.x), np.int64)
    labels[7] = 5
    with pytest.raises(ValueError, match=r"labels up to 5 need an output of shape \(n, classes\), but .* \(n, 5\)"):
        evaluator_of(residual, labels=labels)


class TestKey:
    def test_same_for_the_same(self, residual: Subject) -> None:
        assert evaluator_of(residual).key == evaluator_of(residual).key

    @pytest.mark.parametrize(
        "changes",
        [
            {"inputs": (images(64, seed=1),)},
            {"calibration": (images(64, seed=1),)},
            {"labels": np.zeros(64, np.int64)},
            {"seed": 1},
        ],
    )
    def test_changes_with_data_and_settings(self, residual: Subject, changes: dict[str, Any]) -> None:
        assert evaluator_of(residual, **changes).key != evaluator_of(residual).key

    def test_changes_with_what_is_rounded_adaptively(self, residual: Subject) -> None:
        patches = residual.evaluator.compressor.patches
        keys = {evaluator_of(residual, patches=some).key for some in ({}, patches, {"head": patches["head"]})}
        assert len(keys) == 3

    def test_changes_with_a_weight(self, residual: Subject) -> None:
        other = dict(residual.parameters)
        other["head.bias"] = other["head.bias"] + np.float32(1e-3)
        engine = OnnxEngine(residual.graph, other)
        found = PlanEvaluator(engine, residual.space, other, (residual.x,), None, (residual.x,))
        assert found.key != evaluator_of(residual).key

    @pytest.mark.parametrize(("op", "other"), [("ReLU", {"op": "Sigmoid"}), ("Conv2D", {"stride": (1, 1, 2, 2)})])
    def test_changes_with_what_the_same_weights_compute(
        self, residual: Subject, op: str, other: dict[str, Any]
    ) -> None:
        nodes = list(residual.graph.nodes)
        place = next(i for i, node in enumerate(nodes) if node.op == op)
        operator = {**nodes[place].attributes.operator, **{k: v for k, v in other.items() if k != "op"}}
        attributes = replace(nodes[place].attributes, operator=operator)
        nodes[place] = replace(nodes[place], op=other.get("op", op), attributes=attributes)
        graph = replace(residual.graph, nodes=tuple(nodes))
        space = replace(residual.space, graph=graph)
        assert graph.key != residual.graph.key
        engine = OnnxEngine(residual.graph, residual.parameters)
        found = PlanEvaluator(engine, space, residual.parameters, (residual.x,), None, (residual.x,))
        assert found.key != evaluator_of(residual).key

    def test_the_network_traced_again_is_the_same(self, residual: Subject) -> None:
        assert trace(residual.net, (residual.x[:1],)).key == trace(residual.net, (residual.x[:1],)).key


class TestSyntheticInputs:
    @staticmethod
    def graph(*shapes: tuple[int, ...]) -> NetworkGraph:
        return NetworkGraph(tuple(Node(f"x{i}", "input", "Input", (), s) for i, s in enumerate(shapes)), (0,))

    def test_standardised_and_seeded(self) -> None:
        x, y = synthetic_inputs(self.graph((1, 3, 32, 32), (1, 7)), 0)
        assert x.shape[1:] == (3, 32, 32) and y.shape[1:] == (7,) and len(x) == len(y) and x.dtype == np.float32
        np.testing.assert_allclose(x.mean((2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(x.std((1, 2, 3)), 1, rtol=1e-4)
        again, other = (synthetic_inputs(self.graph((1, 3, 32, 32)), seed)[0] for seed in (0, 1))
        np.testing.assert_array_equal(x, again)
        assert np.abs(x - other).max() > 1

    def test_neighbours_are_alike_as_in_photographs(self) -> None:
        (x,) = synthetic_inputs(self.graph((1, 1, 64, 64)), 0)
        sibling = np.mean(x[..., 1:] * x[..., :-1])
        far = np.mean(x[..., 20:] * x[..., :-20])
        assert sibling > 0.6 > 0.3 > abs(far)


class TestMeasurement:
    def test_there_and_back(self) -> None:
        one = Measurement(0.5, "agreement", 10, 0.1, 3, "10 samples")
        assert Measurement.from_json(one.to_json()) == one

    @pytest.mark.parametrize("accuracy", [-0.1, 1.1])
    def test_out_of_range(self, accuracy: float) -> None:
        with pytest.raises(ValueError, match=rf"accuracy must be in \[0, 1\], but got accuracy={accuracy}"):
            Measurement(accuracy)

    @pytest.mark.parametrize("metric", ["", "mean iou", 3])
    def test_a_metric_is_a_name(self, metric: Any) -> None:
        assert Measurement(0.5, "mean_iou").metric == "mean_iou"
        with pytest.raises(ValueError, match=rf"metric must be a name, but got metric={metric!r}"):
            Measurement(0.5, metric)

    @pytest.mark.parametrize("text", ["3", "[]", "x"])
    def test_what_is_no_measurement(self, text: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            Measurement.from_json(text)
