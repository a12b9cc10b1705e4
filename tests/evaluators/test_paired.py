"""Standard errors of changes against the float network, on the same samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import OnnxEngine, PlanEvaluator
from autocomp.evaluators.paired import change_error, error_of_ratio, share_error
from autocomp.evaluators.user_metric import UserMetric
from autocomp.search_spaces import Plan
from tests.conftest import Subject
from tests.networks import images


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.1), (0.1, 0.3), (0.5, 0.0)])
def test_the_error_of_a_change_is_what_it_says(lost: float, gained: float) -> None:
    rng, off = np.random.default_rng(0), []
    for _ in range(400):
        of_float, moved = rng.random(1000) < 0.9, rng.random(1000)
        right = np.where(of_float, moved >= lost, moved < gained)
        truth = 0.1 * gained - 0.9 * lost
        off.append((right.mean() - of_float.mean() - truth) / change_error(right, of_float))
    assert abs(np.mean(off)) < 0.25 and 0.85 < np.std(off) < 1.15


def test_equal_answers_leave_the_doubt_of_one_sample() -> None:
    right = np.arange(100) < 90
    assert change_error(right, right) == pytest.approx(0.01)
    assert share_error(right) == pytest.approx(0.03, rel=0.05)
    assert share_error(np.ones(100, bool)) > 0.005


def test_the_error_of_a_ratio_is_what_it_says() -> None:
    rng, found, errors = np.random.default_rng(1), [], []
    for _ in range(300):
        y = rng.normal(size=(200, 4)) * rng.gamma(2, size=(200, 1))
        noisy = y + 0.2 * rng.normal(size=y.shape) * rng.gamma(2, size=(200, 1))
        found.append(((noisy - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())
        errors.append(error_of_ratio([noisy], [y]))
    assert 0.85 < np.std(found) / np.mean([error or 0.0 for error in errors]) < 1.2
    assert error_of_ratio([np.ones((1, 3))], [np.ones((1, 3))]) is None


COUNT = 120


@pytest.fixture(scope="module")
def small(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def evaluator_of(subject: Subject, labels: Any = "given", **changes: Any) -> PlanEvaluator:
    given = np.random.default_rng(0).integers(0, 5, COUNT) if isinstance(labels, str) else labels
    settings: dict[str, Any] = {"inputs": (images(COUNT),), "labels": given, "calibration": (subject.x,)} | changes
    return PlanEvaluator(OnnxEngine(subject.graph, subject.parameters), subject.space, subject.parameters, **settings)


def mild(subject: Subject) -> Plan:
    return Plan({knob.name: "w4a8" for knob in subject.space.knobs if "w4a8" in knob.values})


class TestMeasurement:
    def test_of_a_plan_says_how_sure_its_change_is(self, small: Subject) -> None:
        evaluator = evaluator_of(small)
        plan = mild(small)
        found, of_float = evaluator.evaluate(plan), evaluator.evaluate(Plan())
        outputs = evaluator.judged(evaluator.engine.outputs(evaluator.compress(plan), evaluator.inputs))
        right, expected = evaluator.right(outputs), evaluator.right(evaluator.plain_judged)
        assert right is not None and expected is not None
        assert found.change_error == change_error(right, expected)
        assert found.accuracy_error == share_error(right)
        assert found.divergence is not None and found.divergence > 0 and of_float.divergence == 0

    def test_of_a_metric_of_ones_own_it_is_that_of_groups(self, small: Subject) -> None:
        def mean_right(outputs: Any, labels: Any) -> float:
            return float(np.mean(outputs.argmax(1) == labels))

        plain, own = evaluator_of(small), evaluator_of(small, measure=UserMetric(mean_right))
        found, expected = own.evaluate(mild(small)), plain.evaluate(mild(small))
        assert found.accuracy == pytest.approx(expected.accuracy)
        assert found.change_error is not None and expected.change_error is not None
        assert 0.3 < found.change_error / expected.change_error < 3
        assert own.chance is not None and own.chance < 0.5

    def test_of_a_metric_that_takes_all_samples_alone_it_is_not_known(self, small: Subject) -> None:
        def whole(outputs: Any, labels: Any) -> float:
            if len(outputs) < COUNT:
                raise RuntimeError("all samples are needed")
            return float(np.mean(outputs.argmax(1) == labels))

        found = evaluator_of(small, measure=UserMetric(whole)).evaluate(mild(small))
        assert found.change_error is None and found.accuracy_error is None and found.divergence is not None

    def test_of_the_fidelity(self, small: Subject) -> None:
        found = evaluator_of(small, labels=None, compared_by="fidelity").evaluate(mild(small))
        assert found.metric == "fidelity" and found.change_error == found.accuracy_error
        assert 0 < (found.change_error or 0) < 1 - found.accuracy


def test_other_samples_are_measured_by_the_same_compression(small: Subject) -> None:
    evaluator, plan = evaluator_of(small), mild(small)
    labels = np.random.default_rng(7).integers(0, 5, 50)
    other = evaluator.on((images(50, seed=9),), labels, None)
    found = other.evaluate(plan)
    outputs = evaluator.engine.outputs(evaluator.compress(plan), (images(50, seed=9),))[0]
    assert found.samples == 50 and found.accuracy == pytest.approx(np.mean(outputs.argmax(1) == labels))
    assert evaluator.evaluate(plan).samples == COUNT


def test_chance_is_always_giving_one_class(small: Subject) -> None:
    labels = np.repeat([3, 1], [90, 30])
    assert evaluator_of(small, labels=labels).chance == 0.75
    assert evaluator_of(small, labels=None, compared_by="fidelity").chance == 0
