"""Trains the networks of a declared space from new weights, and measures them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.evaluators.training.batches import Shuffled
from autocomp.evaluators.training.steps import parameter_groups
from autocomp.primitives.distillation.class_labels import as_classes
from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore, to_tensors
from autocomp.problem.data import Data, Samples, as_integers
from autocomp.search_spaces import Plan, SearchSpace

from .declared import NetworkSpace

EVALUATED = 250  # samples at a time
Labelled = tuple[np.ndarray, np.ndarray]  # (n, ...) inputs, (n,) int32 classes
Metric = Callable[[np.ndarray, np.ndarray], float]


def labelled(samples: Samples | None, role: str) -> Labelled:
    """ValueError unless they are given, with one input and with labels."""
    if samples is None or samples.y is None:
        raise ValueError(
            f"a search for networks needs samples with labels: give data=autocomp.Data({role}=(x, y), ...)"
        )
    if len(samples.x) != 1:
        raise ValueError(f"a search for networks takes networks with one input, but {role} has {len(samples.x)}")
    return as_integers(samples.x)[0], as_classes(samples.y, role).astype(np.int32)


def train(net: Any, samples: Labelled, settings: FineTuning) -> None:
    """Train towards classes, by stochastic gradient descent with Nesterov momentum; the rate falls along a cosine."""
    nn = load_mindspore().nn
    batches = Shuffled(samples, settings.batch, settings.seed)
    steps = settings.steps or settings.epochs * len(batches)
    rates = [settings.rate * 0.5 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]
    optimizer = nn.Momentum(parameter_groups(net), rates, 0.9, use_nesterov=True)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), optimizer).set_train()
    done = 0
    with execution_mode(graph=True):
        while done < steps:
            for x, y in batches:
                step(*to_tensors((x, y)))
                if (done := done + 1) == steps:
                    break
    net.set_train(False)


def outputs_of(net: Any, x: np.ndarray) -> np.ndarray:
    """(n, classes): not compiled, since it runs a few times only."""
    parts = [forward(net, (x[i : i + EVALUATED],), graph=False)[0] for i in range(0, len(x), EVALUATED)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Trainings:
    """How networks are trained: each of them by ``first``, finalists from new weights again by ``last``."""

    first: FineTuning
    last: FineTuning | None = None


@dataclass(frozen=True)
class NetworkEvaluator:
    """Trains and measures networks; goes to workers.

    values: of each choice, in the order of the search space. folder: where trained weights are kept.
    """

    key: str
    networks: NetworkSpace
    space: SearchSpace
    values: Mapping[str, tuple[Any, ...]]
    train_on: Labelled
    evaluate_on: Labelled
    schedule: Trainings
    folder: Path
    metric: Metric | None = None

    def choice(self, plan: Plan) -> dict[str, Any]:
        vector = self.space.encode(plan).tolist()
        return {name: values[i] for (name, values), i in zip(self.values.items(), vector, strict=True)}

    def evaluate(self, plan: Plan) -> Measurement:
        """After the whole training; the network of the dearest values, which is the first, is not worth a long one."""
        whole = self.schedule.last if len(plan) else None
        return self._measured(self.choice(plan), whole or self.schedule.first)

    def evaluate_shortly(self, plan: Plan) -> Measurement:
        return self._measured(self.choice(plan), self.schedule.first)

    def path(self, choice: Mapping[str, Any], settings: FineTuning) -> Path:
        """Of the weights: the same ones whatever was chosen in cells that the network does not have."""
        described = json.dumps([self.key, self.networks.effective(choice), asdict(settings)], default=str)
        return self.folder / f"{hashlib.sha256(described.encode()).hexdigest()[:24]}.npz"

    def _measured(self, choice: Mapping[str, Any], settings: FineTuning) -> Measurement:
        started = time.perf_counter()
        try:
            net = self.network(choice, settings)
            outputs = outputs_of(net, self.evaluate_on[0])
            found = self._rated(outputs)
        except Exception as error:  # of the user's cells, or of MindSpore
            raise EvaluationError(f"{choice} could not be trained: {first_line(error)}") from error
        if not 0 <= found <= 1:
            raise EvaluationError(f"a metric must be from 0 to 1, but {choice} has {found}")
        seconds = time.perf_counter() - started
        return Measurement(found, samples=len(outputs), seconds=seconds)

    def _rated(self, outputs: np.ndarray) -> float:
        y = self.evaluate_on[1]
        if outputs.ndim != 2 or outputs.shape[1] <= y.max():
            raise ValueError(f"networks must give scores of {y.max() + 1} classes, but give shape {outputs.shape[1:]}")
        return float(np.mean(outputs.argmax(1) == y)) if self.metric is None else float(self.metric(outputs, y))

    def network(self, choice: Mapping[str, Any], settings: FineTuning) -> Any:
        """The trained network: from its file, or trained now."""
        net, path = self.networks.network(choice, settings.seed), self.path(choice, settings)
        if not path.exists():
            train(net, self.train_on, settings)
            _store(net, path)
            return net
        ms = load_mindspore()
        with np.load(path) as stored:
            for parameter in net.get_parameters():
                parameter.set_data(ms.Tensor(stored[parameter.name]))
        return net.set_train(False)


def _store(net: Any, path: Path) -> None:
    """Written beside its place, then moved there: workers may train the same network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, **{parameter.name: parameter.asnumpy() for parameter in net.get_parameters()})
    part.replace(path)


def evaluate_shortly(evaluator: NetworkEvaluator, plan: Plan) -> Measurement:
    """A question for executors. The error says that it is no final accuracy: finalists are trained again."""
    found = evaluator.evaluate_shortly(plan)
    spread = max(found.accuracy * (1 - found.accuracy), 1e-6)
    return replace(found, error=float(np.sqrt(spread / max(found.samples, 1))))


def user_metric(data: Data) -> Metric | None:
    """ValueError for one where lower is better, and for one that needs a float network."""
    if data.metric is None:
        return None
    if not callable(data.metric) or (data.measure is not None and data.measure.lower):
        raise ValueError("a search for networks takes metrics of outputs and labels where higher is better")
    metric: Metric = data.metric
    return metric
