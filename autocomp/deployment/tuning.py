"""Fine-tuning within a search, for a budget whose accuracy no plan keeps without training."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from pickle import PickleError
from typing import NamedTuple

import numpy as np

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.elastic.inherited import inheriting
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.evaluators.training.steps import LiveTrainings
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import is_dataset
from autocomp.problem.data import Data, Samples
from autocomp.problem.streams import is_batched
from autocomp.process.training_bar import training_bar
from autocomp.results.front import ParetoSet, Point
from autocomp.study.executors import Executor
from autocomp.study.study import Study

from .deploy import NetworkDeployer
from .elastic.plans import elastic_weights
from .remote.plan_trainer import PlanTrainer, Team, Training, trained_in_order
from .tuned_files import TrainedWeights

log = logging.getLogger("autocomp")

FINALISTS = 3  # most plans that are trained
LEAST_DIFFERENCE = 0.25  # share of the choices in which a plan must differ from those trained before it
EXPECTED = (ValueError, TypeError, TimeoutError)  # their message is enough without a traceback
VERSION = 5  # of a training: raised when the same training would give other weights


def settings_of(given: int | FineTuning, seed: int) -> FineTuning | None:
    """The settings for a number of epochs, or the given settings; None for no training."""
    if isinstance(given, FineTuning):
        return given
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"fine_tune must be a number of epochs or FineTuning, but got {type(given).__name__}")
    if given < 0:
        raise ValueError(f"fine_tune must be at least 0 epochs, but got fine_tune={given}")
    return FineTuning(epochs=given, seed=seed) if given else None


class PointTraining(NamedTuple):
    """The arguments of :meth:`Tuner.train`."""

    point: Point
    history: Sequence[FineTuning]
    start: Point | None = None


class Tuner:
    """Trains the plans of one search.

    data: with training samples. A batched dataset is iterated again in each epoch, so that it can augment.
    study: its time limit applies, and its ``progress`` says whether a bar is shown.
    folder: where trained networks are stored, so that the same search finds them again; None stores none.
    team: makes the executor on which several plans are trained at the same time; None: each is trained in this process.
    """

    def __init__(
        self,
        deployer: NetworkDeployer,
        settings: FineTuning,
        data: Data,
        study: Study,
        folder: Path | None = None,
        team: Team | None = None,
    ) -> None:
        self.deployer, self.settings, self.study, self.folder = deployer, settings, study, folder
        self._team, self._workers = team, ExitStack()
        self._running: Executor | None = None
        self._live = LiveTrainings()
        if is_dataset(data.train) and is_batched(data.train):
            self.train_set, self.samples_key = data.train, f"{data.train.get_dataset_size()} batches"
        else:
            assert data.training is not None
            self.train_set, self.samples_key = data.training, data.training.fingerprint

    @property
    def steps_in_epoch(self) -> int:
        if isinstance(self.train_set, Samples):
            return max(1, len(self.train_set) // self.settings.batch)
        return int(self.train_set.get_dataset_size())

    def reach_budget(self, front: ParetoSet) -> None:
        """Train one plan after the other until the front meets its budget, or the time is over.

        The most accurate plan within the bounds on costs comes first; among similar plans only the best is trained. The
        error of a failed training is logged. Ctrl-C ends it with the results so far.
        """
        tried: list[Point] = []
        try:
            while not front.feasible and self.study.seconds_left > 0 and (point := _next(front, tried)) is not None:
                tried.append(point)
                self._add(front, point)
        except KeyboardInterrupt:
            front.remarks += ("the fine-tuning was interrupted",)
        if not front.feasible and front.tuned:
            best = max(front.tuned, key=lambda point: point.accuracy)
            front.remarks += (f"fine-tuning did not reach the budget: the most accurate is {best.summary()}",)

    def _add(self, front: ParetoSet, point: Point) -> None:
        log.info("no plan meets %s: fine-tuning %s", front.budget, point.summary())
        try:
            found = self.train(point, [self.settings])
        except Exception as error:  # of the user's data or of MindSpore: it must not lose the search's results
            said = first_line(error)  # MindSpore's errors have pages
            log.warning("fine-tuning ended without a network: %s", said, exc_info=not isinstance(error, EXPECTED))
            front.remarks += (f"fine-tuning {point.name} ended without a network: {said}",)
        else:
            front.add(found)
            log.info("fine-tuned: %s", found.summary())

    def train(self, point: Point, history: Sequence[FineTuning], start: Point | None = None) -> Point:
        """The point with a trained network. It is read from the folder where the same training was made before.

        history: the settings of all trainings so far, the last of which is made now. start: the point after those
            before it.
        """
        stored = self._stored(point, history)
        if stored is not None:
            return stored
        with training_bar(self.study.progress) as report:

            def progress(step: int, steps: int, loss: float) -> None:
                report(step, steps, loss)
                if self.study.seconds_left <= 0:
                    raise TimeoutError(f"the time limit was reached at step {step} of {steps}")

            begun = _weights(start)
            deployer, found = self.deployer.fine_tune(
                point.plan, self.train_set, history[-1], progress, begun, self._live
            )
        self._store(point, history, deployer.weights)
        return point.trained(deployer, found)

    def train_all(self, trainings: Sequence[PointTraining]) -> Generator[tuple[int, Point | Exception], None, None]:
        """The index of each training and what :meth:`train` returns or raises for it, in their order; several at the
        same time where there is a team. It ends early where there is no time left.

        Their plans differ from each other.
        """
        left = [i for i, one in enumerate(trainings) if not self._is_stored(one)]
        running = self._together() if len(left) > 1 and self.study.seconds_left > 0 else None
        if running is None:
            yield from self._one_by_one(trainings)
            return
        asked = [trainings[i] for i in left]
        starts = {one.point.plan: weights for one in asked if (weights := _weights(one.start)) is not None}
        settings = {one.point.plan: one.history[-1] for one in asked}
        training = Training(settings, starts, time.time() + self.study.seconds_left)
        found = trained_in_order(running, training, [one.point.plan for one in asked])
        begun = 0
        for place, trained in found:
            yield from self._of_stored(trainings, range(begun, left[place]), left)
            one, begun = asked[place], left[place] + 1
            if isinstance(trained, str):
                yield left[place], RuntimeError(trained)
                continue
            self._store(one.point, one.history, trained)
            yield left[place], one.point.trained(self.deployer.trained(trained), trained.measurement)
        yield from self._of_stored(trainings, range(begun, len(trainings)), left)

    def _of_stored(
        self, trainings: Sequence[PointTraining], places: Iterable[int], left: Sequence[int]
    ) -> Generator[tuple[int, Point | Exception], None, None]:
        """Of the places those that are not left."""
        for i in places:
            if i not in left:
                yield i, self._tried(trainings[i])

    def _one_by_one(self, trainings: Sequence[PointTraining]) -> Generator[tuple[int, Point | Exception], None, None]:
        for i, one in enumerate(trainings):
            if self.study.seconds_left <= 0:
                return
            yield i, self._tried(one)

    def _tried(self, one: PointTraining) -> Point | Exception:
        try:
            return self.train(*one)
        except Exception as error:  # of the user's data or of MindSpore: it must not lose the search's results
            return error

    def _together(self) -> Executor | None:
        """The team's executor, started when it is first needed; None where there is none, or nothing can be sent."""
        if self._team is None or not isinstance(self.train_set, Samples):
            return None
        if self._running is None:
            try:
                self._running = self._workers.enter_context(self._team(PlanTrainer(self.deployer, self.train_set)))
            except (TypeError, AttributeError, PickleError, ConnectionError) as error:
                log.warning("plans are trained in this process, one after the other: %s", first_line(error))
                self._team = None
        return self._running

    def close(self) -> None:
        """Ends the workers, and lets the networks go."""
        self._workers.close()
        self._live.clear()
        self._running = None

    def _is_stored(self, one: PointTraining) -> bool:
        path = self._path(one.point, one.history)
        return path is not None and path.exists()

    def _stored(self, point: Point, history: Sequence[FineTuning]) -> Point | None:
        path = self._path(point, history)
        if path is None or not path.exists():
            return None
        try:
            weights = TrainedWeights.read(path)
        except ValueError as error:
            log.warning("%s; it is trained again", error)
            return None
        return point.trained(self.deployer.trained(weights), weights.measurement)

    def _store(self, point: Point, history: Sequence[FineTuning], weights: TrainedWeights) -> None:
        path = self._path(point, history)
        if path is None:
            return
        try:
            weights.write(path)
        except OSError as error:
            log.warning("%s; the fine-tuned network is in memory alone", error)

    def elastic(self, epochs: float) -> PlanEvaluator | None:
        """Plans with weights that they inherit from an elastic network, trained now for so many epochs or read from the
        folder; None where the training fails, which is logged, or the time is over."""
        deployer, settings = self.deployer, self.settings
        steps = max(1, round(epochs * self.steps_in_epoch))
        path = None if self.folder is None else self.folder / "elastic.npz"
        train = (self.train_set.x[0], self.train_set.y) if isinstance(self.train_set, Samples) else self.train_set
        try:
            found = elastic_weights(
                deployer.float_net, deployer.evaluator, train, self.samples_key, replace(settings, steps=steps),
                path, self.study.progress, lambda: self.study.seconds_left,
            )  # fmt: skip
        except Exception as error:  # of the user's data or of MindSpore: it must not lose the search's results
            said = first_line(error)
            log.warning("no elastic network was trained: %s", said, exc_info=not isinstance(error, EXPECTED))
            return None
        return inheriting(deployer.float_net, deployer.evaluator, found, deployer.calibration)

    def _path(self, point: Point, history: Sequence[FineTuning]) -> Path | None:
        if self.folder is None:
            return None
        settings = [asdict(one) for one in history]
        decides = [VERSION, self.deployer.evaluator.key, str(point.plan), settings, self.samples_key]
        digest = hashlib.blake2b(json.dumps(decides).encode(), digest_size=16)
        return self.folder / f"{digest.hexdigest()}.npz"


def _weights(start: Point | None) -> TrainedWeights | None:
    return None if start is None else getattr(start.deployer, "weights", None)


def _next(front: ParetoSet, tried: Sequence[Point]) -> Point | None:
    if len(tried) == FINALISTS:
        return None
    for point in front.short_of_accuracy():
        if all(np.mean(np.array(point.vector) != other.vector) >= LEAST_DIFFERENCE for other in tried):
            return point
    return None
