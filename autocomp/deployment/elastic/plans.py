"""A network that is trained once, so that every plan of a space inherits weights that are used to being compressed."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.evaluators import Measurement, PlanEvaluator
from autocomp.evaluators.elastic.inherited import inheriting, with_parameters
from autocomp.evaluators.elastic.training import ElasticWeights, train_shared
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.hardware_models import Device
from autocomp.measurement.processor import device as find_device
from autocomp.primitives.registry import known_names
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.platform import is_dataset
from autocomp.primitives.tracing.tracer import as_float32, check_cell, example_inputs
from autocomp.problem.arguments import check
from autocomp.problem.data import Data
from autocomp.problem.jobs import Job, prepare
from autocomp.problem.streams import is_batched
from autocomp.process.interrupts import interruptible
from autocomp.process.training_bar import training_bar
from autocomp.results.front import ExportReport
from autocomp.search_spaces import Plan, SearchSpace, Value

from .files import read_elastic, write_elastic

log = logging.getLogger("autocomp")

EPOCHS = 4
VERSION = 1  # of the training: raised when the same one would give other weights


@interruptible()
def train_elastic(
    net: Any,
    device: str | Path | Device = "ascend",
    data: Any = None,
    *,
    train: int | FineTuning = EPOCHS,
    inputs: Any = None,
    exclude: str | Iterable[str] = (),
    restrict: Restrict | Iterable[Restrict] = (),
    primitives: str | Iterable[str] = "auto",
    storage: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = True,
) -> TrainedElastic:
    """Train one network for all plans of a search at the same time; any plan then inherits its weights.

    Bits, kept channels and skipped blocks are parameters of one compiled train step. The steps train, in turn, the
    largest plan, the smallest one and two random ones, towards the outputs of the float network (once-for-all networks:
    Cai et al., ICLR 2020; the sandwich rule: Yu and Huang, ICCV 2019; BigNAS: Yu et al., ECCV 2020).

    >>> elastic = autocomp.train_elastic(net, "ascend", autocomp.Data(train=(x, y), evaluate=(x_held, y_held)))
    >>> elastic.evaluate({"keep/layer1": 0.5, "format/conv1": "w8a8"}).accuracy    # nothing is trained
    >>> elastic.network(plan)                                                      # a Cell with inherited weights

    Args:
        net, device, data, inputs, exclude, restrict, primitives, seed, progress: as ``search`` takes them; the data
            needs ``train``. The plans are those that the search would choose from.
        train: epochs over ``data.train``, or :class:`FineTuning`, whose algorithm does not matter.
        storage: an ``.npz`` file in which the trained weights are kept; the same call reads them from there. The call
            is another one where the network, its space, the samples that it is measured on, or the settings differ.

    Raises:
        TraceError, EvaluationError: the network cannot be read or run. NoEffectError: there is nothing to choose.
        TypeError, ValueError: a bad argument; there are no samples to train on; the network has several inputs.
    """
    check(
        "train_elastic", net=net, device=device, train=train, exclude=exclude, restrict=restrict, primitives=primitives,
        storage=storage, seed=seed, progress=progress,
    )  # fmt: skip
    names = known_names(primitives)
    restrictions = (restrict,) if isinstance(restrict, Restrict) else tuple(restrict)
    if inputs is not None:
        inputs = example_inputs(inputs)
    chip, samples = find_device(device), Data.coerce(data)
    if samples.train is None:
        raise ValueError("train_elastic needs samples to train on: give data=autocomp.Data(train=(x, y), ...)")
    check_cell(net)
    net, settings = as_float32(net), train if isinstance(train, FineTuning) else FineTuning(epochs=train, seed=seed)
    job = prepare(net, chip, samples, inputs, names, seed, progress, exclude, restrict=restrictions)
    weights = elastic_weights(net, job.evaluator, *training_set(samples), settings, storage, progress)
    return TrainedElastic(net, job, weights)


class TrainedElastic:
    """The network that :func:`train_elastic` trained.

    net: the largest plan, a Cell of the user's class with the shared weights; a search of its own may begin with it.
    space: the plans; those that replace layers, or make them sparse, inherit the weights of the layers as they are.
    steps: that were made, one plan each.
    """

    def __init__(self, net: Any, job: Job, trained: ElasticWeights) -> None:
        self.evaluator = inheriting(net, job.evaluator, trained, job.calibration)
        self.net = with_parameters(net, self.evaluator.parameters).set_train(False)
        self.steps = trained.steps
        self._deployer = NetworkDeployer(self.net, self.evaluator, job.calibration, job.choices, job.batch)

    @property
    def space(self) -> SearchSpace:
        return self.evaluator.space

    def evaluate(self, plan: Plan | Mapping[str, Value]) -> Measurement:
        """The accuracy of the plan with inherited weights, on the samples to evaluate on; BatchNorm's statistics are
        estimated again. ValueError for a plan that the space does not have."""
        started = time.perf_counter()
        return self._measured(self.plan(plan), started)

    def _measured(self, plan: Plan, started: float) -> Measurement:
        known = self.evaluator
        found = known.measurement(known.run(known.compress(plan), known.inputs), started)
        return replace(found, fidelity=f"{known.judged_on}, weights of an elastic network after {self.steps} steps")

    def plan(self, given: Plan | Mapping[str, Value]) -> Plan:
        """The plan in the space's own words."""
        check("evaluate", plan=given)
        return self.space.decode(self.space.encode(Plan(given)))

    def network(self, plan: Plan | Mapping[str, Value]) -> Any:
        """The plan's network with inherited weights, converted: a new Cell in evaluation mode."""
        return self._deployer.net(self.plan(plan))

    def export(self, plan: Plan | Mapping[str, Value], path: str | os.PathLike[str]) -> ExportReport:
        """Writes the plan's network with inherited weights as ``point.export`` does."""
        check("export", path=path)
        return self._deployer.export(self.plan(plan), path)


def training_set(data: Data) -> tuple[Any, str]:
    """What is trained on, a batched dataset or arrays (x, y), and what tells it from other samples."""
    if is_dataset(data.train) and is_batched(data.train):
        return data.train, f"{data.train.get_dataset_size()} batches"
    samples = data.training
    assert samples is not None
    if len(samples.x) != 1:
        raise ValueError(f"train_elastic takes networks with one input, but train has {len(samples.x)}")
    return (samples.x[0], samples.y), samples.fingerprint


def elastic_weights(
    net: Any,
    evaluator: PlanEvaluator,
    train: Any,
    samples: str,
    settings: FineTuning,
    storage: str | Path | None = None,
    progress: bool | None = None,
    left: Callable[[], float] = lambda: math.inf,
) -> ElasticWeights:
    """Trained now, or read from the file where the same training was made before.

    samples: tells those that it is trained on from others. left: seconds that are left; TimeoutError where there are
    none.
    """
    decides = json.dumps([VERSION, evaluator.key, asdict(settings), samples])
    key = hashlib.blake2b(decides.encode(), digest_size=16).hexdigest()
    if storage is not None and (known := read_elastic(Path(storage), key)) is not None:
        return known
    with training_bar(progress) as report:

        def step(number: int, steps: int, loss: float) -> None:
            report(number, steps, loss)
            if left() <= 0:
                raise TimeoutError(f"the time limit was reached at step {number} of {steps}")

        found = train_shared(net, evaluator, train, settings, step)
    log.info("trained an elastic network: %d steps, one plan each", found.steps)
    if storage is not None:
        write_elastic(Path(storage), key, found)
    return found
