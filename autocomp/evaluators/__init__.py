"""How good a plan is."""

if __name__ != "autocomp.evaluators":
    raise ImportError(f"import autocomp.evaluators, not {__name__}")

from .accuracy import PlanEvaluator, synthetic_inputs
from .base import Evaluator, Measurement
from .engines import Engine, MindSporeEngine, OnnxEngine, choose_engine, relative_error
from .low_fidelity import look
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
    "look",
    "relative_error",
    "score",
    "synthetic_inputs",
]
