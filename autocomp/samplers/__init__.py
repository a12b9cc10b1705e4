"""Samplers: the strategies that propose plans. Read ``base`` first, then ``frontier``."""

from autocomp.process.optuna_logging import quiet
from autocomp.samplers.papers.amc import AMCSampler
from autocomp.samplers.papers.haq import HAQSampler

from .architectures import ArchitectureSampler
from .base import Outcome, Problem, Sampler, Vector
from .frontier import FrontierSampler
from .frontier_solver import Solver, directions
from .observations import Observations, fit_surrogate
from .optuna_samplers import OptunaSampler
from .proposals import Proposals
from .registry import check_sampler, register, sampler, sampler_names
from .uniform import RandomSampler, UniformSampler, spread, uniform_plans

__all__ = [
    "AMCSampler",
    "ArchitectureSampler",
    "FrontierSampler",
    "HAQSampler",
    "Observations",
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
    "fit_surrogate",
    "quiet",
    "register",
    "sampler",
    "sampler_names",
    "spread",
    "uniform_plans",
]
