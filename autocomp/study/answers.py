"""What is asked about a plan, and the answer where it raises: an error that is a value and names the plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from autocomp.errors import EvaluationError
from autocomp.evaluators import Evaluator, Measurement
from autocomp.search_spaces import Plan

TRIES = 3  # of a plan whose evaluation raises what may pass, as a full disk
PAUSE_S = 0.1  # before the second try; twice as long before the third

Result = Measurement | EvaluationError
Found = TypeVar("Found")
Question = Callable[[Any, Plan], Found]  # an importable function of an evaluator and a plan


def evaluate(evaluator: Evaluator, plan: Plan) -> Measurement:
    return evaluator.evaluate(plan)


def answer(question: Question[Found], evaluator: Evaluator, plan: Plan) -> Found | EvaluationError:
    """The answer to the question, or the error. EvaluationError says something of the plan; others may pass, and the
    question is asked again."""
    for number in range(TRIES):
        try:
            return question(evaluator, plan)
        except EvaluationError as error:
            return failure(plan, str(error), error)
        except Exception as error:
            last = error
        if number < TRIES - 1:
            time.sleep(PAUSE_S * 2**number)
    return failure(plan, f"{type(last).__name__}: {last}", last)


def question_of(question: Question[Found], plan: Plan) -> Question[Found]:
    """The question as it is sent for this plan: one that knows more than that leaves it out in ``of_plan``."""
    part: Callable[[Plan], Question[Found]] | None = getattr(question, "of_plan", None)
    return question if part is None else part(plan)


def failure(plan: Plan, reason: str, cause: Exception | None = None) -> EvaluationError:
    error = EvaluationError(f"plan {plan} could not be evaluated: {reason}")
    error.__cause__ = cause
    return error
