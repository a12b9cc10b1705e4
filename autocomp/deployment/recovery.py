"""Training as a part of a search: plans near the front recover in rounds, the better half of them in longer ones.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) over pairs of a plan and the primitives that train its layers:
in each round all that are left are trained on, then the half stays whose points together have the largest hypervolume.
Every round costs the same number of steps. What a round trained is kept and continued, never repeated. The plans of a
round are trained side by side where the search has several workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.primitives.registry import primitive
from autocomp.primitives.tracing.mindir import first_line
from autocomp.problem.budget import ACCURACY, Budget
from autocomp.problem.pareto import by_worth
from autocomp.results.front import ParetoSet, Point
from autocomp.search_spaces import Format, Plan, SearchSpace, Value, carried_out_by, split_value

from .tuning import EXPECTED, PointTraining, Tuner

log = logging.getLogger("autocomp")

ROUNDS = 3
POOL = 6  # pairs of a plan and its trainers in the first round; half of them in the next one
COMPARED = 2  # plans, at most, that are trained by every assignment of trainers; others by the first
FEW = 2000  # samples on which most plans of a search are measured
WORK = 0.2  # training samples for each evaluated one: a step computes about five times what an evaluation does
LEAST_STEPS = 40  # of a plan in the first round
CHECKED = 4  # trained plans, at least, on which an elastic network is checked
PREDICTED, FURTHER = 48, 3  # evaluated plans, at most, that it is asked about, and that are then trained
LEFT = 0.25  # of the accuracy that a plan lost is expected to be lost after training: to choose plans by


def usual_epochs(trials: int, samples: int, tuner: Tuner) -> float:
    """Epochs whose training takes about as long as the evaluations of the search, but 40 steps of each plan at least.

    samples: evaluated for each plan. It depends on the call alone, not on the machine, so that fronts are the same.
    """
    steps = WORK * trials * min(samples, FEW) / tuner.settings.batch
    return max(steps, ROUNDS * POOL * LEAST_STEPS) / tuner.steps_in_epoch


@dataclass(frozen=True)
class Trained:
    """One of the pool. settings: of its trainings so far; point: as it is after them."""

    point: Point
    settings: tuple[FineTuning, ...] = ()


class Recovery:
    """The training of a search.

    tuner: trains, and stores what it trained. space: says which primitives may train a layer. epochs: passes over the
    training samples that all trainings make together. predict: the accuracy of a plan with weights that it inherits
    from a trained elastic network; where it ranks the first trained plans better than their accuracy before training
    did, it chooses further ones.
    """

    def __init__(
        self, tuner: Tuner, space: SearchSpace, epochs: float, predict: Callable[[Plan], float] | None = None
    ) -> None:
        self.tuner, self.space, self.predict = tuner, space, predict
        self.steps = max(1, round(epochs * tuner.steps_in_epoch / (ROUNDS * POOL)))  # of each in the first round

    def run(self, front: ParetoSet) -> None:
        """Add trained points to the front. Ctrl-C and the time limit end it with the results so far."""
        pool = [Trained(point) for point in self.pool(front)]
        done: list[Point] = []
        try:
            for number in range(ROUNDS):
                pool = self._better_half(front, pool) if number and pool else pool
                pool = self._trained(front, pool, number)
                done += [one.point for one in pool]
                if number == 0 and self.predict is not None:
                    further = self._further(front, pool, self.predict)
                    done += [one.point for one in further]
                    pool += further
        except KeyboardInterrupt:
            front.remarks += ("the training was interrupted",)
        finally:
            self.tuner.close()
        if done:
            log.info("%d plans were trained in %d trainings", len({point.plan for point in done}), len(done))

    def pool(self, front: ParetoSet) -> list[Point]:
        """Points with plans that name who trains each layer: those near the front, as it is expected after training."""
        found: list[Point] = []
        compared = 0
        for point in self._candidates(front):
            plans = assignments(point.plan, self.space)
            several = len(plans) > 1 and compared < COMPARED
            compared += several
            found += [replace(point, plan=plan) for plan in (plans if several else plans[:1])]
        return found[:POOL]

    def _further(self, front: ParetoSet, pool: Sequence[Trained], predict: Callable[[Plan], float]) -> list[Trained]:
        """Plans that an elastic network chooses, trained as those of the first round; none where it ranks the pool no
        better than the accuracies before training do. The front says which."""
        before = {point.plan: point.accuracy for point in front.evaluated}
        untrained = [Plan({name: self._untrained(name, v) for name, v in one.point.plan.items()}) for one in pool]
        reached: dict[Plan, float] = {}
        for plan, one in zip(untrained, pool, strict=True):
            reached[plan] = max(reached.get(plan, 0.0), one.point.accuracy)
        plans = [plan for plan in reached if plan in before]
        if len(plans) < CHECKED:
            front.remarks += (f"the elastic network was not used: {len(plans)} trained plans are too few to check it",)
            return []
        inherited = {plan: predict(plan) for plan in plans}
        ranks = [rank_correlation([of[plan] for plan in plans], [reached[plan] for plan in plans])
                 for of in (inherited, before)]  # fmt: skip
        told = (
            f"the elastic network ranks {len(plans)} trained plans with a correlation of {ranks[0]:.2f}, accuracies "
            f"without training with {ranks[1]:.2f}"
        )
        if not ranks[0] > ranks[1]:
            front.remarks += (f"{told}: it chose no plans",)
            return []
        gained = float(np.mean([reached[plan] - inherited[plan] for plan in plans]))
        points = [point for point in self._within(front) if point.plan not in reached]
        chosen = self._best(front, points, pool, lambda plan: predict(plan) + gained)
        front.remarks += (f"{told}: it chose {len(chosen)} further plans",)
        return self._trained(front, [Trained(replace(p, plan=assignments(p.plan, self.space)[0])) for p in chosen], 0)

    def _best(
        self, front: ParetoSet, points: Sequence[Point], pool: Sequence[Trained], predict: Callable[[Plan], float]
    ) -> list[Point]:
        """Those points that the front of the pool needs most, if they reach the predicted accuracies."""
        if not points:
            return []
        first = by_worth(_rows(front, points), np.array(front.reference))[:PREDICTED]
        points = [points[i] for i in first]
        rows = np.concatenate([_rows(front, points), _rows(front, [one.point for one in pool])])
        rows[: len(points), 0] = [1 - predict(point.plan) for point in points]
        order = by_worth(rows, np.array(front.reference))
        return [points[i] for i in order if i < len(points)][:FURTHER]

    def _untrained(self, name: str, value: Value) -> Value:
        """The value as the space has it, without the name of who trains it."""
        knob = next(knob for knob in self.space.knobs if knob.name == name)
        return knob.values[knob.index(value)]

    def _within(self, front: ParetoSet) -> list[Point]:
        """Evaluated points within the bounds on costs."""
        bounds = Budget(tuple(bound for bound in front.budget.bounds if bound.metric != ACCURACY))
        own = front.float_point
        return [
            point
            for point in front.evaluated
            if not point.is_float and bounds.violation(point.cost, point.accuracy, own.cost, own.accuracy)[0] <= 0
        ]

    def _candidates(self, front: ParetoSet) -> list[Point]:
        points = self._within(front)
        if not points:
            return []
        rows, error = _rows(front, points), 1 - front.float_point.accuracy
        rows[:, 0] = error + LEFT * np.maximum(rows[:, 0] - error, 0)
        return [points[i] for i in by_worth(rows, np.array(front.reference))[:POOL]]

    def _trained(self, front: ParetoSet, pool: Sequence[Trained], number: int) -> list[Trained]:
        """Those of the pool trained on for this round, without those for which that failed or no time is left."""
        own = self.tuner.settings
        now = replace(own, steps=self.steps * 2**number, seed=own.seed + number)
        histories = [(*one.settings, now) for one in pool]
        trainings = [
            PointTraining(replace(one.point, tuned=False), history, one.point if one.settings else None)
            for one, history in zip(pool, histories, strict=True)
        ]
        kept = []
        for i, found in self.tuner.train_all(trainings):
            if isinstance(found, Exception):
                self._failed(front, pool[i].point, found)
                continue
            front.add(found)
            log.info("trained: %s", found.summary())
            kept.append(Trained(found, histories[i]))
        return kept

    @staticmethod
    def _failed(front: ParetoSet, point: Point, error: Exception) -> None:
        said = first_line(error)
        traced = error if error.__traceback__ is not None and not isinstance(error, EXPECTED) else None
        log.warning("training ended without a network: %s", said, exc_info=traced)
        front.remarks += (f"training {point.name} ended without a network: {said}",)

    def _better_half(self, front: ParetoSet, pool: Sequence[Trained]) -> list[Trained]:
        rows = _rows(front, [one.point for one in pool])
        chosen = by_worth(rows, np.array(front.reference))[: -(-len(pool) // 2)]
        return [pool[i] for i in sorted(chosen)]


def assignments(plan: Plan, space: SearchSpace) -> list[Plan]:
    """The plan, with each layer's format carried out by a primitive that trains: by one in all layers that it reaches,
    by the first that reaches it in the others."""
    knobs = {knob.name: knob for knob in space.knobs}
    names = dict.fromkeys(name for knob in knobs.values() for name in knob.trainers)
    found = []
    for first in names:
        order = (first, *(name for name in names if name != first))
        found.append(Plan({name: _by(value, order, knobs[name].trainers) for name, value in plan.items()}))
    return list(dict.fromkeys(found)) or [plan]


def _by(value: Value, order: Sequence[str], offered: Sequence[str]) -> Value:
    chosen = split_value(value)[0]
    if not offered:
        return value
    bits = Format.parse(str(chosen)).weight_bits
    able = [name for name in order if name in offered and _reaches(name, bits)]
    return carried_out_by(chosen, able[0]) if able else value


def _reaches(name: str, bits: int) -> bool:
    """Whether the primitive trains weights of so many bits."""
    made = primitive(name)
    return bool(getattr(made, "least_bits", 2) <= bits <= getattr(made, "most_bits", 8))


def _rows(front: ParetoSet, points: Sequence[Point]) -> np.ndarray:
    """(n, 1 + objectives): error, and costs as shares of the float network's."""
    return np.array([[1 - point.accuracy, *(point.ratio(name) for name in front.objectives)] for point in points])


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, from -1 to 1; 0 where one of them is constant."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(spearmanr(first, second)[0])
