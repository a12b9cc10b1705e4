"""Fine-tuning within a search, for a budget whose accuracy no plan keeps without training."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.elastic.inherited import inheriting
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import is_dataset
from autocomp.problem.data import Data, Samples
from autocomp.problem.streams import is_batched
from autocomp.process.training_bar import training_bar
from autocomp.results.front import ParetoSet, Point
from autocomp.study.study import Study

from .deploy import NetworkDeployer
from .elastic.plans import elastic_weights
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


class Tuner:
    """Trains the plans of one search.

    data: with training samples. A batched dataset is iterated again in each epoch, so that it can augment.
    study: its time limit applies, and its ``progress`` says whether a bar is shown.
    folder: where trained networks are stored, so that the same search finds them again; None stores none.
    """

    def __init__(
        self, deployer: NetworkDeployer, settings: FineTuning, data: Data, study: Study, folder: Path | None = None
    ) -> None:
        self.deployer, self.settings, self.study, self.folder = deployer, settings, study, folder
        if is_dataset(data.train) and is_batched(data.train):
            self.train_set, self._samples_key = data.train, f"{data.train.get_dataset_size()} batches"
        else:
            assert data.training is not None
            self.train_set, self._samples_key = data.training, data.training.fingerprint

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
        path = self._path(point, history)
        if path is not None and path.exists():
            try:
                weights = TrainedWeights.read(path)
                return point.trained(self.deployer.trained(weights), weights.measurement)
            except ValueError as error:
                log.warning("%s; it is trained again", error)
        with training_bar(self.study.progress) as report:

            def progress(step: int, steps: int, loss: float) -> None:
                report(step, steps, loss)
                if self.study.seconds_left <= 0:
                    raise TimeoutError(f"the time limit was reached at step {step} of {steps}")

            begun = None if start is None else getattr(start.deployer, "weights", None)
            deployer, found = self.deployer.fine_tune(point.plan, self.train_set, history[-1], progress, begun)
        if path is not None:
            try:
                deployer.weights.write(path)
            except OSError as error:
                log.warning("%s; the fine-tuned network is in memory alone", error)
        return point.trained(deployer, found)

    def elastic(self, epochs: float) -> PlanEvaluator | None:
        """Plans with weights that they inherit from an elastic network, trained now for so many epochs or read from the
        folder; None where the training fails, which is logged, or the time is over."""
        deployer, settings = self.deployer, self.settings
        steps = max(1, round(epochs * self.steps_in_epoch))
        path = None if self.folder is None else self.folder / "elastic.npz"
        train = (self.train_set.x[0], self.train_set.y) if isinstance(self.train_set, Samples) else self.train_set
        try:
            found = elastic_weights(
                deployer.float_net, deployer.evaluator, train, self._samples_key, replace(settings, steps=steps),
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
        decides = [VERSION, self.deployer.evaluator.key, str(point.plan), settings, self._samples_key]
        digest = hashlib.blake2b(json.dumps(decides).encode(), digest_size=16)
        return self.folder / f"{digest.hexdigest()}.npz"


def _next(front: ParetoSet, tried: Sequence[Point]) -> Point | None:
    if len(tried) == FINALISTS:
        return None
    for point in front.short_of_accuracy():
        if all(np.mean(np.array(point.vector) != other.vector) >= LEAST_DIFFERENCE for other in tried):
            return point
    return None
