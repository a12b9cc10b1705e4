"""Who proposes plans."""

from .base import Outcome, Problem, Sampler, Vector
from .frontier import FrontierSampler, learned
from .frontier_solver import Solver, directions
from .optuna_samplers import OptunaSampler, quiet
from .proposals import Proposals
from .registry import check_sampler, register, sampler, samplers
from .uniform import RandomSampler, UniformSampler, spread, uniform_plans

__all__ = [
    "FrontierSampler",
    "OptunaSampler",
    "Outcome",
    "Problem",
    "Proposals",
    "RandomSampler",
    "Sampler",
    "Solver",
    "UniformSampler",
    "Vector",
    "check_sampler",
    "directions",
    "learned",
    "quiet",
    "register",
    "sampler",
    "samplers",
    "spread",
    "uniform_plans",
]
