"""The main job: a network, a budget and a device in, a Pareto set out."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .budget import Budget, check_reachable, objectives
from .data import Data, Samples
from .deploy import NetworkDeployer
from .evaluators import OnnxEngine, PlanEvaluator, choose_engine, synthetic_inputs
from .executors import executor
from .front import ParetoSet
from .hardware_models import Cost, Device
from .hardware_models import device as find_device
from .ledger import Ledger
from .primitives.mindir import first_line
from .primitives.platform import forward
from .primitives.realise import Parameters, Realiser, parameters_of
from .primitives.registry import primitive, search_space
from .primitives.trace import check_cell, example_inputs, find_inputs, one_image, trace
from .primitives.trial_cut import keep_what_cuts
from .samplers import check_sampler
from .search_spaces import Plan, SearchSpace
from .study import Study

log = logging.getLogger("autocomp")

Arrays = tuple[np.ndarray, ...]
CHECKED = 4  # images on which the engine must reproduce MindSpore
PROBED_PLANS = 4096  # looked at by the cost model before a budget is called unreachable
FIXED_SHARE = 0.5  # of the latency, from which on a note says that compression does not lower it


def search(
    net: Any,
    budget: str | Budget | None = None,
    device: str | Path | Device = "ascend",
    data: Any = None,
    *,
    inputs: Any = None,
    primitives: str | Iterable[str] = "auto",
    trials: int = 200,
    time_limit: float | None = None,
    sampler: str = "auto",
    workers: int | str | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    progress: bool | None = True,
) -> ParetoSet:
    """Search how to compress a trained network for a device.

    Args:
        net: a trained MindSpore Cell; it is copied, never changed.
        budget: bounds such as ``"latency<5ms, accuracy>-1%"``, see :class:`Budget`; the costs that it names are
            minimised, latency and size where it names none.
        device: a name of :func:`autocomp.devices`, an alias (``"ascend"``, ``"gpu"``) or a ``.toml`` file.
        data: :class:`Data`, or samples to evaluate on; None measures the fidelity to the float network on noise.
        inputs: one shape with its batch (the batch for which latency and memory are predicted), a list of shapes, or
            arrays; None takes the shape of the data with batch 1, or else tries the usual image sizes.
        primitives: "auto" or names.
        trials: how many plans are evaluated, the float network among them.
        time_limit: seconds after which no further evaluation begins.
        sampler: who proposes plans.
        workers: None evaluates in this process, a number on so many Ray workers here, "auto" or "ray://host:port" on
            a cluster. The front is the same.
        storage: a path or an Optuna storage URL; the same call continues there what was stopped.
        seed: the same seed gives the same front.
        progress: a progress bar on standard error; None shows it where that is a terminal.

    Raises:
        BudgetError: no plan can meet the budget; names the nearest that one can. TraceError, EvaluationError: the
        network cannot be read or run. TypeError, ValueError: a bad argument.

    Returns:
        The front. Ctrl-C, the time limit and errors in mid-search return what was found until then.
    """
    chip, bounds, samples = find_device(device), Budget.parse(budget), Data.coerce(data)
    check_cell(net)
    check_sampler(sampler)
    names = _primitive_names(primitives)
    job = prepare(net, chip, samples, inputs, names, seed)
    float_cost = job.costs(np.zeros((1, len(job.space.knobs)), np.int64))[0]
    check_reachable(bounds, job.costs(_spanning(job.space, seed)), float_cost, chip.name)
    if workers is not None and isinstance(job.evaluator.engine, OnnxEngine) and isinstance(workers, int):
        job.evaluator.engine.threads = max(1, len(os.sched_getaffinity(0)) // max(1, workers))
    chosen = objectives(bounds)
    study = Study(
        job.space,
        executor(job.evaluator, workers),
        job.costs,
        objectives=chosen,
        budget=bounds,
        sampler=sampler,
        trials=trials,
        time_limit=time_limit,
        ledger=Ledger(job.space, storage, f"{job.evaluator.key}-{chip.key}", chosen),
        seed=seed,
        progress=progress,
    )
    records = study.run()
    settings = {
        "batch": job.batch,
        "primitives": names if isinstance(names, str) else ", ".join(names),
        "sampler": sampler,
        "seed": seed,
        "trials": trials,
        "stopped": study.stopped,
        "inputs": [list(array.shape[1:]) for array in job.inputs],
    }
    notes = (*job.notes(float_cost), *samples.notes)
    return ParetoSet(
        records, job.deployer, device=chip.name, budget=bounds, objectives=chosen, settings=settings, notes=notes
    )


def load(folder: str | Path, net: Any = None) -> ParetoSet:
    """The front that ``front.save(folder)`` wrote.

    net: the network that was searched, with the same weights; points can then be carried out and exported again.
        Without it they can be read and picked.
    """
    if net is None:
        return ParetoSet.load(folder)
    check_cell(net)
    from .restore import restore

    return restore(net, folder)


@dataclass
class Job:
    """What stands before the first evaluation."""

    device: Device
    space: SearchSpace
    evaluator: PlanEvaluator
    deployer: NetworkDeployer
    inputs: Arrays
    batch: int

    def costs(self, vectors: np.ndarray) -> Cost:
        return self.device.costs(self.space.workload(vectors, self.batch))

    def notes(self, float_cost: Cost) -> tuple[str, ...]:
        """Where the float network's latency is mostly fixed costs of the chip: compression does not lower them."""
        rows = self.device.cost_table(self.space.workload(np.zeros((1, len(self.space.knobs)), np.int64), self.batch))
        fixed_ms = 1e3 * (self.device.inference_s + len(rows) * self.device.operator_s)
        share = fixed_ms / float_cost.latency_ms
        if share < FIXED_SHARE:
            return ()
        return (
            f"{share:.0%} of the float network's latency at batch {self.batch} are fixed costs of an inference and "
            f"its operators on {self.device.name}, which no compression lowers; a larger batch amortises them",
        )


def prepare(net: Any, chip: Device, data: Data, inputs: Any, names: str | tuple[str, ...], seed: int) -> Job:
    """Trace, lay out the space, calibrate."""
    arrays = _inputs(net, data, inputs)
    parameters = parameters_of(net)
    one = one_image(arrays)
    graph = keep_what_cuts(net, trace(net, arrays), parameters, one)
    space = search_space(graph, parameters, chip.formats, chip.granularity, names)
    evaluator = _evaluator(net, space, parameters, data, seed)
    batch = len(arrays[0])
    log.info(
        "%d layers, %d channel groups, %d knobs, 10^%.0f plans; batch %d on %s",
        len(graph.layers), len(graph.channel_groups), len(space.knobs), space.log10_size, batch, chip.name,
    )  # fmt: skip
    deployer = NetworkDeployer(net, space, parameters, evaluator.realise, evaluator.inputs, batch)
    return Job(chip, space, evaluator, deployer, arrays, batch)


def _evaluator(net: Any, space: SearchSpace, parameters: Parameters, data: Data, seed: int) -> PlanEvaluator:
    evaluation, calibration = data.evaluation, data.calibration
    synthetic = evaluation is None
    x = synthetic_inputs(space.graph, seed) if evaluation is None else _float32(evaluation)
    check = tuple(array[:CHECKED] for array in x)
    plain = Realiser(space, parameters)(Plan())
    engine = choose_engine(net, space.graph, parameters, plain, check, forward(net, check))
    labels = None if evaluation is None else evaluation.y
    calibrate = x if calibration is None else _float32(calibration)
    return PlanEvaluator(engine, space, parameters, x, labels, calibrate, synthetic, seed)


def _float32(samples: Samples) -> Arrays:
    return tuple(x.astype(np.float32, copy=False) for x in samples.x)


def _inputs(net: Any, data: Data, inputs: Any) -> Arrays:
    """Arrays with the batch of the deployment; ValueError where they do not fit the data."""
    samples = data.evaluation
    if inputs is not None:
        arrays = example_inputs(inputs)
        shapes = tuple(array.shape[1:] for array in arrays)
        if samples is not None and shapes != samples.shapes:
            raise ValueError(f"inputs must have the shape of the data, but got {shapes} and {samples.shapes}")
    elif samples is not None:
        arrays = tuple(array[:1] for array in _float32(samples))
    else:
        return find_inputs(net)
    _check_forward(net, one_image(arrays))
    return arrays


def _check_forward(net: Any, one: Arrays) -> None:
    try:
        forward(net, one, graph=False)
    except Exception as error:  # the network's own code
        shapes = ", ".join(str(array.shape) for array in one)
        raise ValueError(f"the network does not take inputs of shape {shapes}: {first_line(error)}") from error


def _primitive_names(given: str | Iterable[str]) -> str | tuple[str, ...]:
    if given == "auto":
        return "auto"
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        primitive(name)
    return names


def _spanning(space: SearchSpace, seed: int) -> np.ndarray:
    """Vectors among which the cheapest plan of every cost is: each knob's cheapest values, alone and together.

    Costs fall with every knob's strength but for formats, where storage and speed part ways: so every format in all
    layers, with all channel groups cut to their least, and random plans besides.
    """
    formats = max((len(knob.values) for knob in space.knobs if knob.kind == "format"), default=1)
    strongest = space.sizes - 1
    rows = [np.zeros(len(space.knobs), np.int64), strongest]
    is_format = np.array([knob.kind == "format" for knob in space.knobs])
    rows += [np.where(is_format, np.minimum(i, strongest), strongest) for i in range(formats)]
    return np.concatenate([np.stack(rows), space.random(np.random.default_rng(seed), PROBED_PLANS)])
