"""The accuracy without any knowledge of the inputs, and suspicions that a comparison with it raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autocomp.errors import EvaluationError

if TYPE_CHECKING:
    from .accuracy import PlanEvaluator

SUSPICIOUS = 0.02  # of a metric's value, by which outputs of other samples may be better


def chance_of(evaluator: PlanEvaluator) -> float | None:
    """The accuracy of always giving the most frequent class; of a user's metric for outputs of other samples.

    0 of the fidelity; None where the metric does not tell.
    """
    if evaluator.measure is not None:
        return _of_shuffled(evaluator)
    expected = evaluator.plain_judged[0]
    right = evaluator.right(evaluator.plain_judged)
    if right is None:
        return 0.0
    if evaluator.labels is None and expected.dtype.kind != "f" and expected.ndim > 1:
        return 0.0  # masks: few of them are equal by chance
    answers = evaluator.labels if evaluator.labels is not None else expected.argmax(1)
    most = float(np.unique(answers, return_counts=True)[1].max() / len(answers))
    return max(most, 1 / expected.shape[1] if evaluator.classifies else 0.0)


def _of_shuffled(evaluator: PlanEvaluator) -> float | None:
    try:
        value = _shuffled(evaluator)
    except EvaluationError:  # the user's own code
        return None
    return max(0.0, 1 - value / evaluator.scale) if evaluator.scale else value


def _shuffled(evaluator: PlanEvaluator) -> float:
    """The user's metric for outputs of other samples."""
    assert evaluator.measure is not None
    order = np.random.default_rng(evaluator.seed).permutation(len(evaluator.inputs[0]))
    known = zip(evaluator.engine.described_outputs, evaluator.plain_outputs, strict=True)
    return evaluator.measure(tuple(output.rows(array, order).copy() for output, array in known), evaluator.labels)


def suspicions(evaluator: PlanEvaluator) -> tuple[str, ...]:
    """That a metric runs the other way, or that labels are not those of the samples."""
    return tuple(text for text in (_against_shuffled(evaluator), _against_chance(evaluator)) if text)


def _against_shuffled(evaluator: PlanEvaluator) -> str:
    """Outputs that belong to other samples should be worse."""
    if evaluator.measure is None or len(evaluator.inputs[0]) < 2:
        return ""
    try:
        value = evaluator.measure(evaluator._copied(), evaluator.labels)
        shuffled = _shuffled(evaluator)
    except EvaluationError:  # the search says so
        return ""
    if (shuffled - value) * (-1 if evaluator.measure.lower else 1) <= SUSPICIOUS * max(value, shuffled):
        return ""
    other = "is a higher value better (lower_is_better=False)" if evaluator.measure.lower else (
        "is a lower value better (then say Data(..., lower_is_better=True))"
    )  # fmt: skip
    return (
        f"{evaluator.measure} is {value:.3g} for the float network and {shuffled:.3g} for its outputs shuffled over "
        f"the samples, which should be worse: {other}, or are the labels those of other samples?"
    )


def _against_chance(evaluator: PlanEvaluator) -> str:
    """Who always answers the most frequent class has that accuracy."""
    if evaluator.metric != "accuracy" or evaluator.labels is None:
        return ""
    found, labels = evaluator.plain_judged[0], evaluator.labels.astype(np.int64)
    answers = found.argmax(1) if evaluator.classifies else found
    accuracy, (_, counts) = float(np.mean(answers == labels)), np.unique(labels, return_counts=True)
    chance = max(float(counts.max() / len(labels)), 1 / found.shape[1] if evaluator.classifies else 0.0)
    if accuracy > chance or len(counts) == 1:
        return ""
    moved = {move: float(np.mean(answers == labels + move)) for move in (-1, 1)}
    best = max(moved, key=lambda move: moved[move])
    shifted = (
        f"; with {best:+d} added to every label it is {moved[best]:.1%}"
        if moved[best] > chance + (1 - chance) / 4
        else ""
    )
    return (
        f"the float network's accuracy, {accuracy:.1%}, is not above chance ({chance:.1%} by always giving one "
        f"class): are the labels those of these samples, and the inputs normalised as in training{shifted}?"
    )
