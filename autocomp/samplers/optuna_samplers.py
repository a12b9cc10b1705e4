"""Optuna's samplers, and ``auto``, which starts one of them from plans that are good already."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from autocomp.process.optuna_logging import quiet

from .base import Outcome, Problem, Sampler, Vector
from .frontier import FrontierSampler
from .registry import register
from .uniform import spread, uniform_plans

# Optuna's default, 50, would make one generation a quarter of a usual search.
POPULATION = 24
MOST_FOR_TPE = 1000


class OptunaSampler:
    """Any Optuna sampler, on a study in memory with one integer for each knob: the index of its value.

    The values of a knob are ordered from mild to strong; an integer passes this order to the sampler, a category would
    not.

    start: vectors that are proposed before the sampler's own.
    """

    def __init__(
        self, problem: Problem, sampler: optuna.samplers.BaseSampler, start: Iterable[np.ndarray] = ()
    ) -> None:
        with quiet():
            self._study = optuna.create_study(directions=["minimize"] * problem.objectives, sampler=sampler)
        self._distributions: dict[str, BaseDistribution] = {
            knob.name: IntDistribution(0, len(knob.values) - 1) for knob in problem.space.knobs
        }
        self._start = deque(_vector(plan) for plan in start)
        self._pending: dict[Vector, deque[Trial]] = {}

    def ask(self, count: int) -> list[np.ndarray]:
        return [np.array(self._next(), np.int64) for _ in range(count)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if not self._pending.get(outcome.vector):
                if outcome.values is None:
                    continue
                self._propose(outcome.vector)
            trial = self._pending[outcome.vector].popleft()
            if outcome.values is None:
                self._study.tell(trial, state=TrialState.FAIL)
                continue
            for i, violation in enumerate(outcome.violations):
                trial.set_constraint(str(i), violation)
            self._study.tell(trial, outcome.values)

    def _next(self) -> Vector:
        if self._start:
            return self._propose(self._start.popleft())
        return self._ask()

    def _propose(self, vector: Vector) -> Vector:
        self._study.enqueue_trial(dict(zip(self._distributions, vector, strict=True)))
        return self._ask()

    def _ask(self) -> Vector:
        trial = self._study.ask(self._distributions)
        vector = tuple(int(trial.params[name]) for name in self._distributions)
        self._pending.setdefault(vector, deque()).append(trial)
        return vector


@register("nsga2")
def nsga2(problem: Problem) -> OptunaSampler:
    return OptunaSampler(problem, _nsga2(problem))


@register("tpe")
def tpe(problem: Problem) -> OptunaSampler:
    return OptunaSampler(problem, _tpe(problem))


@register("auto")
def auto(problem: Problem) -> Sampler:
    """The frontier sampler where the costs of plans are known.

    Otherwise it starts with uniform plans that are spread over the space, and goes on with TPE, or with NSGA-II where
    there are more than a thousand trials. On synthetic problems of 12 and 32 knobs, 200 evaluations from this start,
    TPE's front had a larger hypervolume than NSGA-II's in each case; but the time that TPE needs for a proposal grows
    with the number of finished trials.
    """
    if problem.costs is not None:
        return FrontierSampler(problem)
    start = spread(uniform_plans(problem.space), problem.space.sizes)
    return OptunaSampler(problem, (_tpe if problem.trials <= MOST_FOR_TPE else _nsga2)(problem), start)


def _nsga2(problem: Problem) -> optuna.samplers.BaseSampler:
    return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=problem.seed)


def _tpe(problem: Problem) -> optuna.samplers.BaseSampler:
    # With several objectives Optuna's default treats every knob by itself and splits all trials again for each:
    # with 12 knobs five times slower, and no better.
    return optuna.samplers.TPESampler(multivariate=True, seed=problem.seed)


def _vector(plan: Iterable[int]) -> Vector:
    return tuple(int(i) for i in plan)
