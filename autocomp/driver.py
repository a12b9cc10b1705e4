"""The main job: a network, a budget and a device in, a Pareto set out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.deployment.recovery import Recovery, usual_epochs
from autocomp.deployment.remote.plan_trainer import Team
from autocomp.deployment.resolutions.networks import ScaledNetwork
from autocomp.deployment.resolutions.plans import CELL, KIND
from autocomp.deployment.resolutions.searches import add_resolutions
from autocomp.deployment.resolving import ScoreResolver
from autocomp.deployment.restore import restore
from autocomp.deployment.timing import can_time, time_points
from autocomp.deployment.tuning import Tuner, settings_of
from autocomp.errors import BudgetError
from autocomp.evaluators import Measurement, OnnxEngine, evaluate_subset, score
from autocomp.evaluators.fine_tuning import FineTuning, check_trainable, integer, training_classes
from autocomp.hardware_models import Device
from autocomp.measurement.processor import device as find_device
from autocomp.primitives.quantization.product_knobs import CACHE
from autocomp.primitives.registry import expanded, known_names, refuses_cache
from autocomp.primitives.replacement.resolution import Resolution
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.float32_form import half_note
from autocomp.primitives.tracing.tracer import as_float32, check_cell, example_inputs
from autocomp.problem.arguments import check, check_workers
from autocomp.problem.budget import Budget, check_context, check_reachable, objectives
from autocomp.problem.cheapest_plans import cheapest
from autocomp.problem.data import Data, Samples
from autocomp.problem.jobs import Job, deployment_inputs, prepare
from autocomp.problem.record import Record
from autocomp.process.deadline import Deadline
from autocomp.process.interrupts import interruptible
from autocomp.results.front import ParetoSet
from autocomp.samplers import check_sampler
from autocomp.study.cluster.worker_check import check_not_imported_by_worker, check_workers_load
from autocomp.study.executors import Executor, executor
from autocomp.study.ledger import Ledger
from autocomp.study.limits import ended_by_usual, over, usual_bounds
from autocomp.study.storages import check_storage, sibling
from autocomp.study.study import INTERRUPTED, Study

log = logging.getLogger("autocomp")

PATIENCE = 8
EPOCHS = 2  # of fine-tuning
RAN_WITH = ("autocomp", "mindspore", "onnxruntime", "numpy")  # packages whose versions a front remembers
LABELS = 16  # of the user's own kind, that are tried before they are sent to workers


@interruptible()
def search(
    net: Any,
    budget: str | Budget | None = None,
    device: str | Path | Device = "ascend",
    data: Any = None,
    *,
    inputs: Any = None,
    exclude: str | Iterable[str] = (),
    restrict: Restrict | Iterable[Restrict] = (),
    primitives: str | Iterable[str] = "auto",
    resolutions: float | Iterable[float] = (),
    trials: int | None = None,
    time_limit: float | None = None,
    patience: int | None = PATIENCE,
    sampler: str = "auto",
    workers: int | str | None = None,
    batch: int | str = "auto",
    resources: Mapping[str, float] | None = None,
    evaluation_limit: float | None = None,
    storage: str | Path | None = None,
    fine_tune: int | FineTuning = EPOCHS,
    train_budget: float | None = None,
    elastic: float = 0,
    context: int | None = None,
    cache_bits: int | None = None,
    seed: int = 0,
    progress: bool | None = True,
    on_evaluation: Callable[[Measurement], object] | None = None,
) -> ParetoSet:
    """Search how to compress a trained network for a device.

    Args:
        net: a trained MindSpore Cell; it is copied, never changed.
        budget: bounds such as ``"latency<50%, accuracy>-1%"``, see :class:`Budget`; the costs that it names are
            minimised, latency and size where it names none.
        device: a name of :func:`autocomp.devices`, an alias (``"ascend"``, ``"gpu"``) or a ``.toml`` file.
        data: :class:`Data`, or samples to evaluate on; None measures the fidelity to the float network
            on inputs distilled from its BatchNorms, or on noise where it has none.
        inputs: one shape with its batch (the batch for which latency and memory are predicted), a list of shapes, or
            arrays; None takes the shape of the data with batch 1, or else tries the usual image sizes.
        exclude: names of cells, or patterns such as ``"head.*"``, whose layers stay as they are; so do layers whose
            weight has ``requires_grad=False``, unless all have.
        restrict: :class:`Restrict`, one or several: formats, least shares of channels and primitives of some layers.
        primitives: "auto", names, or groups of names ("post-training", "training", "pruning").
        resolutions: shares of height and width of the network's images, such as ``0.75`` or ``(0.875, 0.75)``: the
            front has points at these resolutions, too, of networks that take the same images and scale them down
            themselves, see :class:`autocomp.primitives.Resolution`. Each has an equal part of the trials and of the
            time, and the network is trained at it first, as ``fine_tune`` says, where the data have training samples.
        trials: how many plans are evaluated, the float network among them; None: 200.
        time_limit: seconds from the call on, after which no further evaluation begins. Preparation and scores count:
            where they take more than their share of it they are shortened, and ``front.notes`` says so. The float
            network is evaluated in any case. None: half an hour where ``trials`` is None, too, and the data have no
            training samples, else no limit.
        patience: batches (of eight evaluations, usually) in which the front's hypervolume must grow by a thousandth,
            or the search ends; None: all trials are made.
        sampler: who proposes plans.
        workers: None evaluates in this process, several plans at a time, a number on so many Ray workers here, "auto"
            or "ray://host:port" on a cluster. The front is the same for the same batch.
        batch: how many plans are proposed together, and so how many workers have something to do. "auto": 8, or the
            next multiple of 8 where more workers are wanted; a storage keeps it for the same call.
        resources: what each worker takes besides a processor, by Ray's names: ``{"GPU": 1}``, ``{"NPU": 1}``.
        evaluation_limit: seconds for one evaluation, after which it has failed and its worker is replaced; None: a
            minute, 20 times the seconds of the float network, and half a minute for each million weights.
        storage: a path or an Optuna storage URL; the same call continues there what was stopped.
        fine_tune: epochs over ``data.train``, or :class:`FineTuning`. Where no plan keeps the accuracy that the budget
            asks for, up to three are trained, one after the other, until one does. 0: nothing is trained.
        train_budget: epochs over ``data.train`` that plans near the front are trained in all, in rounds, the better
            half of them further; by the primitives that train. None: so many that the search takes a few times as long
            as without; 0: none.
        elastic: epochs over ``data.train`` that one elastic network is trained for all plans (see
            :func:`train_elastic`). It is checked on the plans that were trained in the first round; where it ranks them
            better than their accuracies without training do, it chooses further plans to train. ``front.notes`` says.
        context: of a language model, the tokens that a further one attends to, itself among them. Then ``tpot``, the
            time of a further token, and ``cache``, the bytes of keys and values, are costs, and ``memory`` has the
            cache; ``latency`` is that of the samples' length, the prompt.
        cache_bits: 8 or 4: the costs count keys and values in integers, whatever the plan; None: in floats, or as plans
            choose, with the knobs ``cache/<attention>`` of ``cache-quantization``, which "auto" has then.
        seed: the same seed gives the same front; on this machine's processor, once measured, the same evaluations, of
            which points of the front are run in the end where the budget bounds the latency, see
            :class:`autocomp.results.timed.Timed`.
        progress: a progress bar on standard error; None shows it where that is a terminal.
        on_evaluation: called with each new measurement, for a display of one's own; what it raises is logged.

    Raises:
        BudgetError: no plan can meet the budget; names the nearest that one can. TraceError, EvaluationError: the
        network cannot be read or run. TypeError, ValueError: a bad argument.

    Returns:
        The front. Ctrl-C, SIGTERM, the time limit and errors in mid-search return what was found until then.
    """
    call = _shown_call(locals())
    check_not_imported_by_worker()
    check(
        "search", net=net, budget=budget, device=device, exclude=exclude, restrict=restrict, primitives=primitives,
        trials=trials, time_limit=time_limit, patience=patience, sampler=sampler, storage=storage, fine_tune=fine_tune,
        train_budget=train_budget, elastic=elastic, seed=seed, progress=progress, resources=resources,
        evaluation_limit=evaluation_limit, on_evaluation=on_evaluation, batch=batch, context=context,
        cache_bits=cache_bits, resolutions=resolutions,
    )  # fmt: skip
    check_workers(workers)
    check_sampler(sampler)
    samples = Data.coerce(data)
    trials, time_limit, usual = usual_bounds(trials, time_limit, trains=samples.train is not None)
    ratios = tuple(dict.fromkeys(resolutions if isinstance(resolutions, Iterable) else (resolutions,)))
    whole, deadline = Deadline(time_limit), Deadline(time_limit and time_limit / (1 + len(ratios)))
    trials = max(1, trials // (1 + len(ratios)))
    seed = integer(seed, "seed")
    tuning, names = settings_of(fine_tune, seed), known_names(primitives)
    restrictions = (restrict,) if isinstance(restrict, Restrict) else tuple(restrict)
    for one in restrictions:
        known_names(one.primitives or ())
    if inputs is not None:
        inputs = example_inputs(inputs)
    chip = find_device(device)
    if elastic:
        _check_trains(samples, train_budget, tuning)
    lower = samples.measure.name if samples.measure is not None and samples.measure.lower else ""
    bounds = Budget.parse(budget, lower).on(chip.errors, chip.name)
    check_context(objectives(bounds), context, cache_bits)
    if CACHE in expanded(names) and (refused := refuses_cache(context, cache_bits)):
        raise ValueError(refused)
    check_cell(net)
    check_storage(storage)
    check_workers_load(workers, {} if workers is None else _sent(samples))
    halves, net = half_note(net), as_float32(net)
    for ratio in ratios:  # a network that does not take it is told of before the search
        Resolution(ratio).apply(net, deployment_inputs(net, samples, inputs))
    job = prepare(
        net, chip, samples, inputs, names, seed, progress, exclude, deadline, workers is not None, restrictions,
        exact_bits=not {"bops", "weight_bytes"}.isdisjoint(objectives(bounds)), context=context, cache_bits=cache_bits,
    )  # fmt: skip
    bounds = bounds.scaled(job.evaluator.scale)
    beyond = None  # bounds that the network reaches at a lower resolution, if at all
    try:
        check_reachable(bounds, cheapest(job.space, job.costs, bounds, job.float_cost, seed), job.float_cost, chip.name)
    except BudgetError as error:
        if not ratios:
            raise
        beyond = error
    limits = {"trials": trials, "time_limit": time_limit, "patience": patience, "evaluation_limit": evaluation_limit}
    study = _study(
        job, bounds, _executor(job, workers, resources), storage, sampler=sampler, seed=seed, progress=progress,
        deadline=deadline, on_evaluation=on_evaluation, batch=batch, **limits,
    )  # fmt: skip
    sizes = FileSizes(chip, job.space, job.batch)
    deployer = NetworkDeployer(net, job.evaluator, job.calibration, job.choices, job.batch, sizes=sizes)
    tuner = _tuner(deployer, tuning, samples, study, storage, _team(workers, resources))
    records = study.run()
    if usual and study.stopped == over(time_limit or 0):
        halves += (ended_by_usual(study.done, trials),)
    front = _front(job, records, study, deployer, names, samples.notes + halves)
    front.settings["call"] = call
    if study.stopped != INTERRUPTED:
        _train(front, tuner, job, trials, train_budget, elastic)
        searched = partial(
            _at_resolution, front=front, data=samples, inputs=inputs, primitives=names, exclude=exclude,
            restrict=restrictions, trials=trials, patience=patience, sampler=sampler, workers=workers, batch=batch,
            resources=resources, evaluation_limit=evaluation_limit, storage=storage, fine_tune=fine_tune,
            train_budget=train_budget, elastic=elastic, context=context, cache_bits=cache_bits, seed=seed,
            progress=progress, on_evaluation=on_evaluation, device=chip,
        )  # fmt: skip
        add_resolutions(front, deployer, ratios, searched, tuner, sibling(storage, KIND), whole)
        if beyond is not None and not front.joined:
            raise beyond
        if "latency" in bounds.metrics and can_time(chip):
            time_points(front, chip, deployer.samples, lambda: study.seconds_left)
    if not front.feasible:
        log.warning("%s", front.notes[0])
    return front


def _study(job: Job, bounds: Budget, running: Executor, storage: str | Path | None, **settings: Any) -> Study:
    """settings: keyword arguments of Study."""
    minimised = objectives(bounds)
    return Study(
        job.space,
        running,
        job.costs,
        objectives=minimised,
        budget=bounds,
        ledger=Ledger(job.space, storage, _key(job), minimised),
        scores=lambda measure: score(job.evaluator, measure=measure),
        evaluate_subset=evaluate_subset if job.evaluator.evaluates_subsets else None,
        **settings,
    )


def _key(job: Job) -> str:
    """Changes with the network, the samples, the settings and the device, and with the context where there is one."""
    generates = "" if job.context is None else f"-{job.context}-{job.cache_bits}"
    return f"{job.evaluator.key}-{job.device.key}{generates}"


def _front(
    job: Job,
    records: list[Record],
    study: Study,
    deployer: NetworkDeployer,
    primitives: str | tuple[str, ...],
    notes: tuple[str, ...],
) -> ParetoSet:
    """The Pareto set of the study's records, with the deployer and the resolver that it needs."""
    chip, evaluator = job.device, job.evaluator
    settings = {
        "batch": job.batch,
        "primitives": primitives if isinstance(primitives, str) else ", ".join(primitives),
        "sampler": study.sampler,
        "seed": study.seed,
        "trials": study.trials,
        "inputs": [list(array.shape[1:]) for array in job.inputs],
        "stopped": study.stopped,
        "failed": len(study.failures),
        "failures": dict(study.failures.by_reason),
        "rounds": [*(count for count in study.rounds if count < len(records)), len(records)],
        "samples": f"{evaluator.judged_on}, {evaluator.key[:12]}",
        "versions": _versions(),
    }
    if job.context is not None:
        settings |= {"context": job.context, "cache_bits": job.cache_bits}
    return ParetoSet(
        records,
        deployer,
        device=chip.name,
        budget=study.budget,
        objectives=study.objectives,
        settings=settings,
        notes=(*job.notes, *study.notes, *notes),
        errors=chip.errors,
        chance=evaluator.chance,
        resolver=ScoreResolver(job.space, job.costs, chip, lambda: score(evaluator), evaluator, study.ledger),
    )


def _shown_call(given: Mapping[str, Any]) -> str:
    """The call of :func:`search` with the arguments that are not the usual ones; networks and data in a word."""
    usual = {name: parameter.default for name, parameter in signature(search).parameters.items()}
    told = {name: value for name, value in given.items() if name == "device" or not _same(value, usual[name])}
    return f"autocomp.search({', '.join(f'{name}={_word(value)}' for name, value in told.items())})"


def _same(value: Any, usual: Any) -> bool:
    return type(value) is type(usual) and bool(value == usual)


def _word(value: Any) -> str:
    """Text, numbers and what holds them as Python writes them, anything else by its class."""
    if isinstance(value, (str, int, float, Path, Restrict, FineTuning)) or value is None:
        return repr(value)
    if isinstance(value, (tuple, list)) and len(value) <= LABELS:
        inner = ", ".join(map(_word, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, Device):
        return repr(value.name)
    shape = getattr(value, "shape", None)
    return f"<{type(value).__name__}>" if shape is None else f"<{type(value).__name__} {tuple(shape)}>"


def _versions() -> str:
    found = []
    for name in RAN_WITH:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _tuner(
    deployer: NetworkDeployer,
    settings: FineTuning | None,
    data: Data,
    study: Study,
    storage: str | Path | None,
    team: Team | None,
) -> Tuner | None:
    """The fine-tuning for this search; None where nothing would be trained. It reads the training samples now, so that
    an error in them is raised before the search."""
    if settings is None or data.train is None:
        return None
    try:
        check_trainable(deployer.evaluator)
    except ValueError as error:
        log.warning("no point is fine-tuned: %s", error)
        return None
    tuner = Tuner(deployer, settings, data, study, sibling(storage, "tuned"), team)
    if isinstance(tuner.train_set, Samples):
        training_classes(tuner.train_set.y, deployer.evaluator)
    return tuner


def _team(workers: int | str | None, resources: Mapping[str, float] | None) -> Team | None:
    """Makes the workers on which plans are trained; None: in this process."""
    return None if workers in (None, 1) else lambda trainer: executor(trainer, workers, resources)


def _check_trains(data: Data, train_budget: float | None, tuning: FineTuning | None) -> None:
    """ValueError where a search that is to train an elastic network trains no plans."""
    needed = {
        "data=autocomp.Data(train=(x, y), ...)": data.train is None,
        "a train_budget above 0, or none": train_budget == 0,
        "fine_tune=1, or more epochs": tuning is None,
    }
    for what, missing in needed.items():
        if missing:
            raise ValueError(f"elastic is checked on plans that are trained, and none would be: give {what}")


def _train(
    front: ParetoSet, tuner: Tuner | None, job: Job, trials: int, train_budget: float | None, elastic: float
) -> None:
    """Plans near the front recover; where still none keeps the accuracy that is asked for, some are trained longer."""
    shared, recovers = None, False
    if tuner is not None:
        epochs = usual_epochs(trials, len(job.evaluator.inputs[0]), tuner) if train_budget is None else train_budget
        recovers = bool(epochs) and any(knob.trainers for knob in job.space.knobs)
        if recovers:
            shared = tuner.elastic(elastic) if elastic else None
            predict = None if shared is None else lambda plan: shared.evaluate(plan).accuracy
            Recovery(tuner, job.space, epochs, predict).run(front)
    if elastic and shared is None:
        why = "its training failed, see the log" if recovers else "no plan is trained that it could be checked on"
        front.remarks += (f"no elastic network was trained: {why}",)
    bounded = not front.feasible and front.budget.bounds_accuracy
    if tuner is not None and bounded and tuner.study.seconds_left > 0:
        tuner.reach_budget(front)


def _at_resolution(
    scaled: ScaledNetwork,
    deadline: Deadline,
    *,
    front: ParetoSet,
    exclude: str | Iterable[str],
    restrict: Sequence[Restrict],
    storage: str | Path | None,
    **settings: Any,
) -> ParetoSet:
    """The front of the network at a lower resolution, within the bounds that hold for the network's own."""
    patterns = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    restrict = [replace(one, layers=tuple(CELL + name for name in one.layers)) for one in restrict]
    own = sibling(storage, scaled.lower.folder)
    seconds = None if deadline.seconds is None else deadline.left
    return search(
        scaled.net, front.limits, exclude=[CELL + name for name in patterns], restrict=restrict, time_limit=seconds,
        storage=own, **settings,
    )  # fmt: skip


def _sent(data: Data) -> dict[str, Any]:
    """What workers need of the user's own objects: the metric, and labels that are no numbers."""
    labels = None if data.evaluation is None else data.evaluation.y
    own = data.measure if callable(data.metric) else None
    sent: dict[str, Any] = {} if own is None else {f"a metric ({own.name})": own}
    return sent | ({"labels": labels[:LABELS]} if labels is not None and labels.dtype.hasobject else {})


def _executor(job: Job, workers: int | str | None, resources: Mapping[str, float] | None) -> Executor:
    """Workers on this machine share its processors."""
    if isinstance(workers, int) and isinstance(job.evaluator.engine, OnnxEngine):
        job.evaluator.engine.threads = max(1, len(os.sched_getaffinity(0)) // max(1, workers))
    return executor(job.evaluator, workers, resources)


def load(folder: str | Path, net: Any = None, data: Any = None) -> ParetoSet:
    """The front that ``front.save(folder)`` wrote.

    net: the network that was searched, with the same weights; points can then be applied and exported again, and
        other budgets can be resolved. Without it points can be read and picked.
    data: the data of the search; plans can then be evaluated and points fine-tuned. It is not needed where the
        search had no data. After ``autocomp search --quick`` as many samples are used as that search used.
    """
    check("load", folder=folder, net=net)
    if net is None:
        return ParetoSet.load(folder)
    net = as_float32(net)
    given = Data.coerce(data)
    return restore(net, folder, given.evaluation, given.measure)
