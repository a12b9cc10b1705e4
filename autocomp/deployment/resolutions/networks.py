"""Makes the network at a lower resolution, with the statistics and the training that suit it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.tuned_files import TrainedWeights
from autocomp.deployment.tuning import Tuner
from autocomp.errors import NoEffectError
from autocomp.evaluators import Measurement, PlanEvaluator
from autocomp.evaluators.engines import batch_of, joined
from autocomp.evaluators.fine_tuning import TrainingSamples
from autocomp.primitives.numerics.plan_compressor import Parameters, parameters_of
from autocomp.primitives.replacement.resolution import Resolution
from autocomp.primitives.tracing.mindir import copy_network, first_line
from autocomp.primitives.tracing.platform import execution_mode, forward, load_mindspore
from autocomp.primitives.verification.batchnorm_statistics import reestimate_batchnorm
from autocomp.problem.data import Samples, as_integers
from autocomp.process.deadline import Deadline
from autocomp.process.training_bar import training_bar
from autocomp.search_spaces import Plan

from .plans import LowerResolution

log = logging.getLogger("autocomp")

VERSION = 1  # of the making: raised when the same call would give other parameters


@dataclass(frozen=True)
class ScaledNetwork:
    """net: behind images that it scales to ``sides``, (height, width). measurement: of it, on the search's samples."""

    lower: LowerResolution
    net: Any
    sides: tuple[int, int]
    measurement: Measurement

    @property
    def weights(self) -> TrainedWeights:
        """What :func:`with_weights` needs besides the network."""
        return TrainedWeights(self.lower.told(Plan()), "", parameters_of(self.net), self.measurement)


def scaled_network(
    deployer: NetworkDeployer,
    ratio: float,
    tuner: Tuner | None = None,
    folder: Path | None = None,
    deadline: Deadline | None = None,
) -> ScaledNetwork:
    """The network at the ratio, of those that can be made of it the one that is best on the search's samples.

    It has the BatchNorm statistics that it had, or new ones from the calibration samples; where there is a tuner, it is
    also trained with the tuner's settings towards the network at its own resolution (Touvron et al., "Fixing the
    train-test resolution discrepancy", NeurIPS 2019, arXiv:1906.06423).

    folder: where its parameters are kept, so that the same call makes it once. deadline: of the training.
    """
    lower = LowerResolution(float(ratio))
    resolution = Resolution(ratio)
    plain = resolution.apply(deployer.float_net, deployer.samples)
    assert resolution.sides is not None
    path = _path(folder, deployer, lower, tuner)
    if path is not None and path.exists():
        try:
            stored = TrainedWeights.read(path)
        except ValueError as error:
            log.warning("%s; the network is made again", error)
        else:
            return ScaledNetwork(lower, filled(plain, stored.parameters), resolution.sides, stored.measurement)
    made = [*_with_statistics(plain, deployer)]
    deadline = deadline or Deadline()
    if tuner is not None and not deadline.passed:
        best, _ = max(made, key=lambda pair: pair[1].accuracy)
        made += _trained(copy_network(best), deployer, tuner, deadline)
    net, measurement = max(made, key=lambda pair: pair[1].accuracy)
    found = ScaledNetwork(lower, net, resolution.sides, measurement)
    if path is not None:
        try:
            found.weights.write(path)
        except OSError as error:
            log.warning("%s; the network at a lower resolution is in memory alone", error)
    return found


def with_weights(net: Any, inputs: Any, weights: TrainedWeights) -> ScaledNetwork:
    """The network of :func:`scaled_network`, made again from the user's network. ValueError for other weights' plan."""
    lower = LowerResolution.of(weights.plan)
    if lower is None:
        raise ValueError(f"these are no weights of a network at a lower resolution: {weights.plan}")
    resolution = Resolution(lower.ratio)
    scaled = filled(resolution.apply(net, inputs), weights.parameters)
    assert resolution.sides is not None
    return ScaledNetwork(lower, scaled, resolution.sides, weights.measurement)


def filled(net: Any, parameters: Parameters | Mapping[str, np.ndarray]) -> Any:
    """The network with these numbers, by name."""
    ms = load_mindspore()
    for parameter in net.get_parameters():
        parameter.set_data(ms.Tensor(parameters[parameter.name]))
    return net


def _with_statistics(net: Any, deployer: NetworkDeployer) -> list[tuple[Any, Measurement]]:
    nets = [net]
    with suppress(NoEffectError, ValueError):  # no BatchNorm, or a single sample
        nets.append(reestimate_batchnorm(net, deployer.calibration))
    return [(one, measured(one, deployer.evaluator)) for one in nets]


def _trained(net: Any, deployer: NetworkDeployer, tuner: Tuner, deadline: Deadline) -> list[tuple[Any, Measurement]]:
    """The network trained in place; empty where the training fails, which is logged."""
    evaluator, settings, train = deployer.evaluator, tuner.settings, tuner.train_set
    samples = (as_integers(train.x)[0], train.y) if isinstance(train, Samples) else train
    try:
        with training_bar(tuner.study.progress) as report, execution_mode(graph=True):

            def progress(step: int, steps: int, loss: float) -> None:
                report(step, steps, loss)
                if deadline.passed:
                    raise TimeoutError(f"the time limit was reached at step {step} of {steps}")

            steps = TrainingSamples(evaluator, samples, settings).train(net, deployer.float_net, [], progress)
    except Exception as error:  # of the user's data or of MindSpore
        log.warning("the network was not trained at the lower resolution: %s", first_line(error))
        return []
    log.info("%d steps at the lower resolution", steps)
    return _with_statistics(net.set_train(False), deployer)


def measured(net: Any, evaluator: PlanEvaluator) -> Measurement:
    """A network on the evaluator's samples, which it takes as they are, run by MindSpore."""
    started, size = time.perf_counter(), batch_of(evaluator.space.graph)
    described = evaluator.engine.described_outputs

    def run(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        batches = (tuple(x[i : i + size] for x in inputs) for i in range(0, len(inputs[0]), size))
        return joined(described, [forward(net, batch) for batch in batches])

    return evaluator.measurement(evaluator.reduced(run, evaluator.inputs), started)


def _path(folder: Path | None, deployer: NetworkDeployer, lower: LowerResolution, tuner: Tuner | None) -> Path | None:
    if folder is None:
        return None
    settings = None if tuner is None else [asdict(tuner.settings), tuner.samples_key]
    decides = json.dumps([VERSION, deployer.evaluator.key, lower.ratio, settings])
    return folder / f"{lower.folder}-{hashlib.blake2b(decides.encode(), digest_size=8).hexdigest()}.npz"
