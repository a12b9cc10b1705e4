"""Trains plans on the workers of an executor, several at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.evaluators.training.steps import LiveTrainings
from autocomp.primitives.tracing.mindir import first_line
from autocomp.problem.data import Samples
from autocomp.search_spaces import Plan
from autocomp.study.executors import Executor

from ..deploy import NetworkDeployer
from ..tuned_files import TrainedWeights
from .sent_cells import cell_bytes, cell_of

Team = Callable[["PlanTrainer"], Executor]


class PlanTrainer:
    """What a worker needs to train a plan: the float network, the numbers of its plans, and the samples.

    It travels without MindSpore's own objects, see :mod:`sent_cells`.
    """

    def __init__(self, deployer: NetworkDeployer, train: Samples) -> None:
        self.deployer, self._train, self._live = deployer, train, LiveTrainings()

    @property
    def key(self) -> str:
        """That of the search's evaluator, in the names of workers."""
        return self.deployer.evaluator.key

    def evaluate(self, plan: Plan) -> Measurement:
        """Of the plan without training."""
        return self.deployer.evaluator.evaluate(plan)

    def train(self, plan: Plan, settings: FineTuning, start: TrainedWeights | None, ends: float) -> TrainedWeights:
        """ends: seconds since 1970, after which a further step raises TimeoutError."""

        def progress(step: int, steps: int, loss: float) -> None:
            if time.time() >= ends:
                raise TimeoutError(f"the time limit was reached at step {step} of {steps}")

        deployer, _ = self.deployer.fine_tune(plan, self._train, settings, progress, start, self._live)
        return deployer.weights

    def __getstate__(self) -> dict[str, Any]:
        known = self.deployer
        settings = {"calibration": known.calibration, "choices": known.choices, "batch": known.batch}
        return {"net": cell_bytes(known.float_net), "evaluator": known.evaluator, "train": self._train, **settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._train, self._live = state.pop("train"), LiveTrainings()
        self.deployer = NetworkDeployer(cell_of(state.pop("net")), **state)


@dataclass(frozen=True)
class Training:
    """The question of an executor: the plan's weights after a further training, or why it ended without.

    starts: of the plans, from which their trainings go on; the others begin. ends: see :meth:`PlanTrainer.train`.
    """

    settings: Mapping[Plan, FineTuning]
    starts: Mapping[Plan, TrainedWeights]
    ends: float

    def of_plan(self, plan: Plan) -> Training:
        """What is needed for one plan alone, to be sent."""
        return replace(
            self, settings={plan: self.settings[plan]}, starts={p: w for p, w in self.starts.items() if p == plan}
        )

    def __call__(self, trainer: Any, plan: Plan) -> TrainedWeights | str:
        try:
            found: TrainedWeights = trainer.train(plan, self.settings[plan], self.starts.get(plan), self.ends)
        except Exception as error:  # of the user's data or of MindSpore: the same training would fail again
            return first_line(error)
        return found


def trained_in_order(
    running: Executor, training: Training, plans: Sequence[Plan]
) -> Generator[tuple[int, TrainedWeights | str], None, None]:
    """The index of a plan and its weights, or why there are none, in the order of ``plans``.

    Where it is interrupted, what is done already comes before KeyboardInterrupt is raised.
    """
    waiting: dict[int, TrainedWeights | str] = {}
    given = 0
    try:
        for i, found in running.ask(training, plans):
            waiting[i] = str(found) if isinstance(found, EvaluationError) else found
            while given in waiting:
                given += 1
                yield given - 1, waiting.pop(given - 1)
    except KeyboardInterrupt:
        yield from sorted(waiting.items(), key=lambda item: item[0])
        raise
