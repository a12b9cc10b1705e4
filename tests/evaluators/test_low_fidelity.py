"""What a part of the samples says of all of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autocomp.evaluators import Measurement, OnnxEngine, PlanEvaluator, evaluate_subset
from autocomp.evaluators.low_fidelity import FIRST, estimate
from tests.conftest import Subject
from tests.networks import images

TOTAL = 20_000


class Answers:
    """A float network and a plan on 20,000 samples, as which of their answers are right."""

    def __init__(self, lost: float, gained: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.of_float = rng.random(TOTAL) < 0.9
        moved = rng.random(TOTAL)
        self.right = np.where(self.of_float, moved >= lost, moved < gained)

    def estimate(self, count: int = FIRST) -> tuple[float, float]:
        return estimate(self.right[:count], self.of_float[:count], float(self.of_float.mean()), TOTAL)


@pytest.mark.parametrize(("lost", "gained"), [(0.0, 0.0), (0.01, 0.02), (0.1, 0.3), (0.8, 0.0)])
@pytest.mark.parametrize("count", [FIRST, 8000])
def test_the_error_is_what_it_says(lost: float, gained: float, count: int) -> None:
    """Of 200 networks the estimates lie around the truth, as wide as their standard errors say."""
    off = []
    for seed in range(200):
        answers = Answers(lost, gained, seed)
        accuracy, error = answers.estimate(count)
        assert error > 0
        off.append((accuracy - answers.right.mean()) / error)
    assert abs(np.mean(off)) < 0.25
    if lost:
        assert 0.8 < np.std(off) < 1.2
        assert np.mean(np.abs(off) < 2) > 0.9


def test_a_part_says_more_than_its_own_accuracy_would() -> None:
    """Samples that both get right or wrong add no doubt."""
    of_float = [Answers(0.02, 0.05, seed) for seed in range(200)]
    truth = [answers.right.mean() for answers in of_float]
    estimated = np.std([a.estimate()[0] - t for a, t in zip(of_float, truth, strict=True)])
    plain = np.std([a.right[:FIRST].mean() - t for a, t in zip(of_float, truth, strict=True)])
    assert estimated < 0.6 * plain


MANY = 4100


def evaluator_of(subject: Subject, count: int, **changes: Any) -> PlanEvaluator:
    labels = np.random.default_rng(0).integers(0, 5, count)
    settings: dict[str, Any] = {"inputs": (images(count),), "labels": labels, "calibration": (subject.x,)} | changes
    engine = OnnxEngine(subject.graph, subject.parameters)
    return PlanEvaluator(engine, subject.space, subject.parameters, **settings)


@pytest.fixture(scope="module")
def small(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


@pytest.fixture(scope="module")
def many(small: Subject) -> PlanEvaluator:
    return evaluator_of(small, MANY)


class TestPlanEvaluator:
    def test_looks_at_the_first_samples(self, many: PlanEvaluator, small: Subject) -> None:
        assert many.evaluates_subsets
        for plan in small.plans(3):
            found, outputs = evaluate_subset(many, plan), many._outputs(many.compress(plan))[0].argmax(1)
            right = outputs == many.labels
            of_float = many.plain_outputs[0].argmax(1) == many.labels
            accuracy, error = estimate(right[:FIRST], of_float[:FIRST], float(of_float.mean()), MANY)
            expected = Measurement(accuracy, "accuracy", FIRST, found.seconds, 0, f"{FIRST} of {MANY} samples", error)
            assert found == expected and error > 0
            assert many.evaluate(plan).accuracy == right.mean() and many.evaluate(plan).error == 0

    def test_samples_and_labels_stay_together(self, many: PlanEvaluator) -> None:
        x = images(MANY)
        labels = np.random.default_rng(0).integers(0, 5, MANY)
        where = {row.tobytes(): i for i, row in enumerate(x)}
        order = [where[row.tobytes()] for row in many.inputs[0]]
        assert many.labels is not None and (many.labels == labels[order]).all()
        assert sorted(order) == list(range(MANY)) and order != sorted(order)

    def test_workers_look(self, many: PlanEvaluator, small: Subject) -> None:
        plan = small.plans(1)[0]
        question, copy = pickle.loads(pickle.dumps((evaluate_subset, many)))
        assert replace(question(copy, plan), seconds=0) == replace(evaluate_subset(many, plan), seconds=0)

    def test_few_samples_and_outputs_that_are_no_classes_are_not_looked_at(self, small: Subject) -> None:
        assert not evaluator_of(small, 100).evaluates_subsets
        assert not evaluator_of(small, MANY, labels=None, synthetic=True).evaluates_subsets
        assert evaluator_of(small, MANY, labels=None).evaluates_subsets


def test_an_error_is_stored() -> None:
    found = Measurement(0.5, samples=2000, error=0.01)
    assert Measurement.from_json(found.to_json()) == found
    older = {key: value for key, value in json.loads(found.to_json()).items() if key != "error"}
    assert Measurement.from_json(json.dumps(older)).error == 0
