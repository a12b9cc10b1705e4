"""The loop of a search: propose plans, evaluate them, pass the outcomes to the sampler. It stops, resumes and
replays."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measure, Measurement, Scores
from autocomp.problem.arguments import check
from autocomp.problem.budget import Budget
from autocomp.problem.metrics import METRICS
from autocomp.problem.pareto import by_worth, on_front
from autocomp.problem.record import Record
from autocomp.process.deadline import Deadline
from autocomp.process.interrupts import interruptible
from autocomp.samplers import Outcome, Problem, Proposals, Sampler, Vector, check_sampler, sampler
from autocomp.search_spaces import Plan, SearchSpace

from .announcing import Announcer
from .answers import evaluate
from .constraints import ConstraintEvaluator
from .failures import Failures
from .groups import Group, InOrder, divided, usual_batch
from .ledger import SCORES, Ledger
from .limits import over, usual_limit
from .progress import Growth, RunningFront, SearchProgress
from .scoring import ScoringPass

if TYPE_CHECKING:
    from autocomp.hardware_models import Cost

    from .answers import Question, Result
    from .executors import Executor

logger = logging.getLogger("autocomp")

BATCH = 8
WIDTH = "batch"  # the ledger's key
SCORING_SHARE = 0.5  # of the time that is left, for measuring scores
HALVING, FEWEST = 4, 8  # one plan in four, but at least eight, is measured on all samples in the end
INTERRUPTED, ERROR = "interrupted", "an error"


class Study:
    """Evaluates the float network, then the plans that a sampler proposes, in batches.

    A batch of eight is proposed from all earlier results and evaluated as a whole. A wider one is divided into groups:
    so many plans are under way, and a group is proposed from all groups but the last ones, see
    :mod:`autocomp.study.groups`. So neither the number of workers nor their speed changes the proposals. Evaluations
    in the ledger are not made again. So a study that was stopped is continued by running the same study again: it
    proposes the same plans, finds the first of them in the ledger, and ends where it would have ended without the stop.

    costs: gives the costs of vectors, (n, knobs) int.
    objectives: the costs to minimise, by the names that a budget uses; the accuracy is always maximised.
    sampler: a name, or a sampler object.
    batch: how many plans are under way together. "auto": by the executor's width, see
        :func:`autocomp.study.groups.usual_batch`; the ledger keeps it, so that the same search is continued with
        another number of workers.
    trials: number of evaluations, including those found in the ledger and those that failed.
    time_limit: seconds from the start of the run, checked after each evaluation, and after each plan that is scored.
        The scores take at most half of what is left when they begin: plans that were not measured by then are
        estimated from those that were.
    deadline: the same limit, where it counts from an earlier moment on.
    patience: the study ends when the front has not grown in so many batches, see
        :class:`autocomp.study.progress.Growth`.
    scores: makes the scores, for samplers that need them. It gets a function that measures the divergences of plans on
        the executor's workers. It is called once and its result is stored in the ledger; so are the divergences
        measured before an interruption.
    evaluate_subset: if given, it measures plans on a part of the samples, and in the end a quarter of the plans are
        measured on all samples.
    progress: a line on standard error; None shows it where that is a terminal.
    evaluation_limit: seconds for one plan, after which it has failed and its worker is replaced. None: a minute, 20
        times the seconds of the float network, and half a minute for each million weights.
    on_evaluation: called with each new measurement; what it raises is logged.
    """

    def __init__(
        self,
        space: SearchSpace,
        executor: Executor,
        costs: Callable[[np.ndarray], Cost],
        *,
        objectives: Sequence[str] = ("latency", "size"),
        budget: Budget | None = None,
        sampler: str | Sampler = "auto",
        trials: int = 100,
        time_limit: float | None = None,
        patience: int | None = None,
        ledger: Ledger | None = None,
        seed: int = 0,
        batch: int | str = BATCH,
        scores: Callable[[Measure], Scores] | None = None,
        evaluate_subset: Question[Measurement] | None = None,
        progress: bool | None = False,
        deadline: Deadline | None = None,
        evaluation_limit: float | None = None,
        on_evaluation: Callable[[Measurement], object] | None = None,
    ) -> None:
        check(
            "Study", space=space, costs=costs, objectives=objectives, budget=budget, sampler=sampler, trials=trials,
            batch=batch, patience=patience, time_limit=time_limit, seed=seed, progress=progress,
            evaluation_limit=evaluation_limit, on_evaluation=on_evaluation,
        )  # fmt: skip
        _check(objectives, sampler)
        self.space = space
        self.executor = executor
        self.costs = costs
        self.objectives = tuple(objectives)
        self.budget = budget if budget is not None else Budget()
        self.sampler = sampler
        self.trials = trials
        self.time_limit = time_limit
        self.patience = patience
        self.ledger = ledger if ledger is not None else Ledger(space)
        self.seed = seed
        self._batch = batch
        self.batch = batch if isinstance(batch, int) else BATCH
        self.scores = scores
        self.evaluate_subset = evaluate_subset
        self.progress = progress
        self.deadline = deadline
        self.evaluation_limit = evaluation_limit
        self.on_evaluation = on_evaluation
        self._constraints = ConstraintEvaluator(costs, len(space.knobs), self.objectives, self.budget)
        self.float_cost = self._constraints.float_cost
        self._reset()

    def _reset(self) -> None:
        self.records: list[Record] = []
        self.rounds: list[int] = []  # how many records there were at the end of each group of proposals
        self.done = 0  # evaluations, including failed ones
        self.reused = 0  # how many of them were found in the ledger
        self.stopped: str | None = None  # why the last run ended
        self.failures = Failures()  # of evaluations
        self._failure: EvaluationError | None = None
        self._constraints.float_accuracy = None
        self._announcer = Announcer(self.on_evaluation)
        self._begun, self._groups = 0, 0  # plans and groups that were proposed
        self.front = RunningFront(self.objectives, self.float_cost, self.budget.bounds_accuracy)
        # Of the groups that have ended: what is under way ends sooner or later by chance.
        self._settled = RunningFront(self.objectives, self.float_cost, self.budget.bounds_accuracy)
        self._growth = Growth(self.patience)
        self._limit = self.deadline or Deadline(self.time_limit)
        self._before = self._limit.spent  # seconds of the limit before the run
        self._scoring: ScoringPass | None = None

    def run(self) -> list[Record]:
        """Records in the order of evaluation, the float network's first; afterwards ``stopped`` says why the run ended.

        Ctrl-C, SIGTERM and errors during the search end it with the results so far. It raises only where the float
        network cannot be evaluated: EvaluationError.
        """
        self._reset()
        limit = None if self._limit.seconds is None else self._limit.left
        self.bar = SearchProgress(self.objectives[0], self.trials, limit, self.progress)
        try:
            with interruptible(), self.ledger.held(), self.executor, self.bar:
                with suppress(_TimeUp):
                    self._search()
                self._confirm()
                self._announcer.tell(self, ended=True)
        except (KeyboardInterrupt, Exception) as error:
            if not self.records:
                raise
            if isinstance(error, KeyboardInterrupt):
                self.stopped = INTERRUPTED
            else:
                self.stopped = f"{ERROR}: {error}"
                told = not isinstance(error, OSError)  # a storage that is gone: its sentence says all
                logger.error("the search ended after %d evaluations by %s", self.done, error, exc_info=told)
        return self.records

    @property
    def seconds_left(self) -> float:
        """Seconds until the time limit, which counts from the start of the run or of the deadline."""
        return self._limit.left

    def _search(self) -> None:
        origin = (0,) * len(self.space.knobs)
        self.batch = self._width()
        self.executor.evaluation_limit = self.evaluation_limit
        first: list[Outcome] = []
        self._evaluate(iter([[origin]]), first.extend, 1)
        if not self.records:
            raise EvaluationError(f"the float network could not be evaluated: {self._failure}")
        self._constraints.float_accuracy = self.records[0].measurement.accuracy
        if self.evaluation_limit is None:
            self.executor.evaluation_limit = usual_limit(self.space, self.records[0].measurement.seconds)
        if not self.space.knobs:
            self.stopped = "no more plans: there is nothing to choose in this network"
            return
        proposals = self._proposals()
        proposals.tell(first)
        size, groups = divided(self.batch)
        self._growth = Growth(self.patience and self.patience * groups)
        self._evaluate(iter(partial(self._next, proposals, size), None), proposals.tell, groups)
        if self._over():
            return
        self.stopped = "no more plans: the sampler has none left that the budget allows"
        if self._growth.over:
            self.stopped = f"no growth of the front in {self.patience} batches"

    def _next(self, proposals: Proposals, size: int) -> list[Vector]:
        """The next group, in full: a study with more trials proposes the same plans first. Empty for none."""
        if self._growth.over or self._over() or self._begun >= self.trials:
            return []
        return proposals.batch(size)[: self.trials - self._begun]

    def _width(self) -> int:
        if not isinstance(self._batch, str):
            return int(self._batch)
        known = self.ledger.recall(WIDTH) or ""
        width = int(known) if known.isdigit() and int(known) else usual_batch(self.executor.width, self.trials)
        if not known:
            self.ledger.remember(WIDTH, str(width))
        return max(1, width)

    def _proposals(self) -> Proposals:
        chosen = self.sampler
        if isinstance(chosen, str):
            chosen = sampler(chosen, self._problem())
        return Proposals(self.space, chosen, self._constraints.screen, self.seed)

    def _problem(self) -> Problem:
        """The problem for the sampler; the float network has been evaluated before."""
        return Problem(
            self.space,
            len(self.objectives) + 1,
            self.trials,
            self.seed,
            costs=self._constraints.objective_costs,
            constraint_violation=self._constraints.constraint_violation if self.budget.metrics else None,
            min_accuracy=self._constraints.min_accuracy,
            scores=None if self.scores is None else partial(self._known_scores, self.scores),
        )

    def _known_scores(self, measure: Callable[[Measure], Scores]) -> Scores:
        """The stored scores or new ones, which are stored where all their plans were measured and none failed for a
        reason that may pass."""
        found = Scores.from_json(self.ledger.recall(SCORES) or "", self.space)
        if found is not None:
            return found
        self._scoring = ScoringPass(self.executor, self.ledger, self._limit.part(SCORING_SHARE), self._scored)
        found = measure(self._scoring)
        if not self._scoring.left and not self._scoring.passing:
            self.ledger.remember(SCORES, found.to_json())
        return found

    def _scored(self, plans: int, seconds: float) -> None:
        self.bar.scoring(plans, seconds)
        if self._over():
            raise _TimeUp

    def _over(self) -> bool:
        if self.done >= self.trials:
            self.stopped = f"{self.trials} evaluations"
        elif self.seconds_left <= self._reserved:
            self.stopped = over(self.time_limit or 0)
        elif (most := self.failures.most(self.done)) is not None:
            self.stopped = f"{most[1]} of {self.done} evaluations failed: {most[0]}"
        return self.stopped is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the run for the reader of the front."""
        failed = self.failures.note(self.done, "evaluations failed")
        of_scoring = () if self._scoring is None else self._scoring.notes
        return tuple(text for text in (failed, self._cut_short, *of_scoring) if text)

    @property
    def _cut_short(self) -> str:
        """Where the time limit or an error ended the search before its trials."""
        if self.stopped is not None and self.stopped.startswith(ERROR):
            return f"the search ended after {self.done} evaluations by {self.stopped}"
        if self.done > 1 or self._limit.seconds is None or self.seconds_left > 0:
            return ""
        return (
            f"the time limit of {self._limit.seconds:g} s was over before a plan was evaluated (what stands before the "
            f"first evaluation took {self._before:.0f} s): give it more"
        )

    @property
    def _reserved(self) -> float:
        """Seconds of the time limit that are kept for measuring the front on all samples: at most half of it."""
        if self.evaluate_subset is None or self.time_limit is None or not self.records:
            return 0.0
        count = max(len(self.records) // HALVING, FEWEST)
        return min(self.time_limit / 2, count * self.records[0].measurement.seconds)

    def _evaluate(self, proposed: Iterator[list[Vector]], tell: Callable[[list[Outcome]], None], groups: int) -> None:
        """Evaluates groups of plans, so many at a time, until none is proposed any more.

        The outcomes of a group are told in its own order when it and all groups before it have ended.
        """
        # The float network is measured on all samples.
        part, question = (True, self.evaluate_subset) if self.evaluate_subset and self.records else (False, evaluate)
        plans: list[Plan] = []
        places: list[tuple[Group, int]] = []
        window: deque[Group] = deque()
        order = InOrder(self.records)

        def more() -> bool:
            """Proposes a group, where fewer than ``groups`` are under way."""
            if len(window) >= groups or not (vectors := next(proposed, [])):
                return False
            window.append(group := self._begin(vectors))
            for i, plan in enumerate(group.plans):
                if (known := self.ledger.get(plan, part)) is not None:
                    self.reused += 1
                    self._finish(group, i, known, order, new=False)
                else:
                    plans.append(plan)
                    places.append((group, i))
            return True

        while more() and not plans:  # with the first plan that is not known the workers begin
            pass
        with closing(self.executor.ask(question, plans, more)) as results:
            begun = not plans
            while window:
                if begun and window[0].complete:
                    tell(self._outcomes(window.popleft()))
                    while more():
                        pass
                    continue
                found, result = next(results)
                begun = True
                self._finish(*places[found], result, order)
                if self._over():
                    return

    def _begin(self, vectors: list[Vector]) -> Group:
        self._begun += len(vectors)
        self._groups += 1
        plans = [self.space.decode(vector) for vector in vectors]
        return Group(self._groups, vectors, plans, list(self.costs(np.array(vectors, np.int64))))

    def _finish(self, group: Group, i: int, result: Result, order: InOrder, new: bool = True) -> None:
        """Records, stores and shows a result. An exception may end the search after each of them."""
        record = self._record(group.vectors[i], group.plans[i], group.costs[i], result)
        group.finished[i] = record
        self.done += 1
        if record is not None:
            order.add(group, i, record)
            self.front.add(record)
        if new:
            self._store(group.plans[i], record)
            self._announcer.evaluated(result)
        self.bar.update(self.done, self.reused, self.front)
        self._announcer.tell(self)

    def _outcomes(self, group: Group) -> list[Outcome]:
        """In the order of the group, and not in the order in which its plans ended."""
        found = sorted(group.finished.items())
        for _, record in found:
            if record is not None:
                self._settled.add(record)
        if group.number > 1:
            self._growth.add(self._settled)
            added = sum(record is not None for _, record in found)
            self.rounds.append((self.rounds or [1])[-1] + added)
        return [self._outcome(group.vectors[i], record) for i, record in found]

    def _confirm(self) -> None:
        """Measure a quarter of the plans on all samples: those that contribute most to the front (successive halving).

        Where none of them still meets the budget, more plans are measured.
        """
        while self.seconds_left > 0 and (rows := self._finalists()):
            batch = {row: self.ledger.get(self.records[row].plan) for row in rows}
            missing = [row for row, known in batch.items() if known is None]
            failed = [row for row, known in batch.items() if known is not None and not self._confirmed(row, known)]
            self.bar.confirming(0, len(missing))
            with closing(self.executor.map([self.records[row].plan for row in missing])) as results:
                for done, (i, result) in enumerate(results, 1):
                    if not self._confirmed(missing[i], result, new=True):
                        failed.append(missing[i])
                    self.bar.confirming(done, len(missing))
                    if self.seconds_left <= 0:
                        break
            self.records = [record for row, record in enumerate(self.records) if row not in failed]

    def _confirmed(self, row: int, result: Result, new: bool = False) -> bool:
        """Whether the plan could be evaluated; its record is then the one on all samples."""
        old = self.records[row]
        record = self._record(old.vector, old.plan, old.cost, result)
        if new:
            self._store(old.plan, record)
        if record is not None:
            self.records[row] = record
        return record is not None

    def _finalists(self) -> list[int]:
        """Positions of the records to measure on all samples, the most valuable first; they were measured on a part so
        far."""
        whole = [record for record in self.records if not record.measurement.error]
        within = any(record.violation <= 0 for record in whole[1:])
        violations = np.array([record.violation for record in self.records])
        estimated = np.array([record.measurement.error > 0 for record in self.records])
        if within or (len(whole) > 1 and not (estimated & (violations <= 0)).any()):
            return []
        points = np.array([self.front.point(record) for record in self.records])
        rows = np.flatnonzero(on_front(points, violations) & estimated)
        order = by_worth(points[rows], np.ones(points.shape[1]))
        return [int(rows[i]) for i in order[: max(len(self.records) // HALVING, FEWEST)]]

    def _record(self, vector: Vector, plan: Plan, cost: Cost, result: Result) -> Record | None:
        """The record of a result; None for a plan that could not be evaluated."""
        if isinstance(result, Measurement) and math.isnan(result.accuracy):
            result = EvaluationError(f"plan {plan} could not be evaluated: its accuracy is NaN")
        if isinstance(result, EvaluationError):
            self._failure = result
            self.failures.add(result, plan)
            logger.warning("%s", result)
            return None
        return Record(plan, vector, result, cost, max(self._constraints.violations(cost, result), default=0.0))

    def _store(self, plan: Plan, record: Record | None) -> None:
        if record is None:
            self.ledger.fail(plan, str(self._failure))
            return
        found = self._constraints.violations(record.cost, record.measurement)
        violations = zip(map(str, self.budget.bounds), found, strict=True)
        self.ledger.add(plan, record.measurement, record.cost, dict(violations))

    def _outcome(self, vector: Vector, record: Record | None) -> Outcome:
        if record is None:
            return Outcome(vector, None)
        return self._constraints.outcome(vector, record.cost, record.measurement)


class _TimeUp(Exception):
    """The time limit was reached between two evaluations; ``stopped`` says so."""


def _check(objectives: Sequence[str], chosen: str | Sampler) -> None:
    if isinstance(chosen, str):
        check_sampler(chosen)
    unknown = [name for name in objectives if name not in METRICS]
    if unknown or not objectives or len(set(objectives)) != len(tuple(objectives)):
        raise ValueError(f"objectives must be of {', '.join(METRICS)}, each once, but got objectives={objectives}")
