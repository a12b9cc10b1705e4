"""A metric where lower is better, and a float network whose accuracy is suspicious."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.user_metric import UserMetric
from autocomp.search_spaces import Plan
from tests.conftest import Subject


@pytest.fixture(scope="module")
def residual(named_subject: Callable[[str], Subject]) -> Subject:
    return named_subject("residual")


def relative_error(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float(np.sqrt(np.mean((outputs - labels) ** 2)) / np.std(labels))


class TestLowerIsBetterInAnEvaluator:
    @staticmethod
    def evaluator(residual: Subject, lower: bool | None) -> PlanEvaluator:
        outputs = residual.evaluator.plain_outputs[0]
        labels = outputs + np.random.default_rng(3).normal(0, 0.1 * outputs.std(), outputs.shape)
        parts = (
            residual.evaluator.engine,
            residual.space,
            residual.parameters,
            (residual.x,),
            labels,
            (residual.x[:16],),
        )
        return PlanEvaluator(*parts, measure=UserMetric(relative_error, lower))

    def test_accuracy_falls_as_the_value_rises(self, residual: Subject) -> None:
        evaluator = self.evaluator(residual, True)
        of_float, of_plan = evaluator.evaluate(Plan()), evaluator.evaluate(residual.plans(1)[0])
        assert of_float.accuracy == pytest.approx(0.75) and of_plan.accuracy < of_float.accuracy
        assert evaluator.labels is not None
        value = relative_error(evaluator.plain_outputs[0], evaluator.labels)
        assert of_float.scale * (1 - of_float.accuracy) == pytest.approx(value)
        assert evaluator.remarks == ()

    def test_the_wrong_direction_is_suspicious(self, residual: Subject) -> None:
        (said,) = self.evaluator(residual, False).remarks
        assert "shuffled over the samples, which should be worse" in said and "lower_is_better=True" in said


class TestChance:
    @staticmethod
    def remarks(residual: Subject, labels: np.ndarray) -> tuple[str, ...]:
        parts = (
            residual.evaluator.engine,
            residual.space,
            residual.parameters,
            (residual.x,),
            labels,
            (residual.x[:16],),
        )
        return PlanEvaluator(*parts).remarks

    @pytest.mark.parametrize("seed", [1, 2])
    def test_labels_that_are_all_wrong(self, residual: Subject, seed: int) -> None:
        scores = residual.evaluator.plain_outputs[0]
        classes, count = scores.argmax(1), scores.shape[1]
        moves = np.random.default_rng(seed).integers(1, count, len(classes))
        (said,) = self.remarks(residual, (classes + moves) % count)
        assert "0.0%, is not above chance" in said and "the labels those of these samples" in said

    def test_one_class_alone_is_not_suspicious(self, residual: Subject) -> None:
        assert self.remarks(residual, np.zeros(len(residual.x), int)) == ()
