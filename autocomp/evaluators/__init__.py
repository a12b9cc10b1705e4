"""Evaluators: they measure the accuracy of a plan, or its fidelity to the float network. Read ``base`` first."""

if __name__ != "autocomp.evaluators":
    raise ImportError(f"import autocomp.evaluators, not {__name__}")

from .accuracy import PlanEvaluator, synthetic_inputs
from .base import Evaluator, Measurement
from .engines import Engine, MindSporeEngine, OnnxEngine, choose_engine, relative_error
from .low_fidelity import evaluate_subset
from .scores import RUINED, Measure, Scores, divergence, score

__all__ = [
    "RUINED",
    "Engine",
    "Evaluator",
    "Measure",
    "Measurement",
    "MindSporeEngine",
    "OnnxEngine",
    "PlanEvaluator",
    "Scores",
    "choose_engine",
    "divergence",
    "evaluate_subset",
    "relative_error",
    "score",
    "synthetic_inputs",
]
