"""The search for a network among those that a declared one describes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from autocomp.evaluators.fine_tuning import FineTuning, integer
from autocomp.hardware_models import Device
from autocomp.measurement.processor import device as find_device
from autocomp.primitives.tracing.tracer import one_image
from autocomp.problem.arguments import check, check_workers
from autocomp.problem.budget import Budget, check_reachable, objectives
from autocomp.problem.cheapest_plans import cheapest
from autocomp.problem.data import Data
from autocomp.problem.record import Record
from autocomp.samplers import check_sampler
from autocomp.study.executors import executor
from autocomp.study.ledger import Ledger
from autocomp.study.storages import check_storage, sibling
from autocomp.study.study import Study

from .answer import FoundNetworks, TrainedNetwork
from .declared import NetworkSpace
from .declared_choices import DeclaredChoices
from .merged_graph import MergedGraph
from .network_costs import NetworkCosts
from .proxies import PROXIES, Proxy
from .proxy_scores import ProxyScores
from .searching import BATCH, CATEGORIES, front_of
from .training import NetworkEvaluator, Trainings, evaluate_shortly, labelled, user_metric

EPOCHS, RATE, TRAINED_BATCH = 4, 0.05, 64


def search_network(
    build: Callable[[], Any] | NetworkSpace,
    budget: str | Budget | None = None,
    device: str | Path | Device = "ascend",
    data: Any = None,
    *,
    trials: int = 32,
    train: int | FineTuning = EPOCHS,
    finalists: int | FineTuning | None = None,
    proxy: str | Proxy | None = "naswot",
    time_limit: float | None = None,
    sampler: str = "auto",
    workers: int | str | None = None,
    batch: int | str = BATCH,
    storage: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = True,
) -> FoundNetworks:
    """The front over accuracy and costs of the networks that a declared one describes, trained from new weights.

    >>> found = nas.search_network(Net, "latency<0.2ms", "ascend-310p3", autocomp.Data(train=..., evaluate=...))
    >>> found[0].network()                                # the most accurate one, a plain Cell with its trained weights

    build: the class of the declared network, or a function without arguments that makes it; or its
        :class:`NetworkSpace`.
    budget: bounds on costs, ``"latency<5ms"``; shares are of the network of the dearest values. The costs that it names
        are minimised, latency and size where it names none; those of all networks are known before the search.
    device: as for ``autocomp.search``.
    data: ``autocomp.Data(train=(x, y), evaluate=(x, y))``: arrays with classes. ``Data(metric=...)`` takes the place of
        the accuracy.
    trials: networks to train, that of the dearest values among them, which comes first and may break the budget.
    train: epochs of each training, or :class:`autocomp.evaluators.fine_tuning.FineTuning`, of which the epochs, the
        batch, the learning rate, the seed and the steps count.
    finalists: the same for a longer training, from new weights again, of a quarter of the networks but at least eight:
        those that the front needs most. The front has none but them. None: there is only one training.
    proxy: what untrained networks promise, by which the first ones are chosen, and which the search then weighs by what
        it learns: "naswot", "synflow", "zen_score", "gradient_norm", or a function of a network, x (n, ...) and y (n,)
        that is larger for better networks; see :mod:`autocomp.nas.proxies`. None: none, as with other samplers than
        "auto".
    sampler, batch, time_limit: as for :func:`search_choices`. workers: as for ``autocomp.search``.
    storage: a file in which the search can be continued, with a folder of trained weights beside it; another network,
        which its choices and parameters do not tell, needs another one. Without it the weights are kept until the
        result is gone.
    seed: of the weights, of the order of samples and of the search.

    Raises TypeError and ValueError for wrong arguments, BudgetError where no network is within the budget, TraceError
    where the network cannot be read, EvaluationError where that of the dearest values cannot be trained.
    """
    check(
        "search_network", budget=budget, device=device, trials=trials, train=train, finalists=finalists,
        proxy=proxy, time_limit=time_limit, sampler=sampler, batch=batch, storage=storage, seed=seed, progress=progress,
    )  # fmt: skip
    check_workers(workers)
    check_sampler("architectures" if sampler == "auto" else sampler)
    check_storage(storage)
    seed, chip, samples = integer(seed, "seed"), find_device(device), Data.coerce(data)
    bounds = Budget.parse(budget).on(chip.errors, chip.name)
    schedule = Trainings(settings_of(train, seed), None if finalists is None else settings_of(finalists, seed))
    networks = build if isinstance(build, NetworkSpace) else NetworkSpace(build)
    train_on, evaluate_on = labelled(samples.training, "train"), labelled(samples.evaluation, "evaluate")
    costs = NetworkCosts(MergedGraph(networks, one_image((evaluate_on[0],))), chip)
    space = DeclaredChoices(costs, objectives(bounds))
    of_dearest = space.costs(np.zeros((1, len(space.sizes)), np.int64))[0]
    check_reachable(bounds, cheapest(space.space, space.costs, bounds, of_dearest, seed), of_dearest, chip.name)
    folder, held = _folder(storage)
    evaluator = NetworkEvaluator(
        _key(networks, samples, schedule), networks, space.space, _ordered(space), train_on, evaluate_on, schedule,
        folder, user_metric(samples),
    )  # fmt: skip
    promising = None
    if proxy is not None and sampler in ("auto", CATEGORIES):
        promising = ProxyScores(space, networks, PROXIES[proxy] if isinstance(proxy, str) else proxy, train_on, seed)
    study = Study(
        space.space,
        executor(evaluator, workers),
        space.costs,
        objectives=space.names,
        budget=bounds,
        sampler=CATEGORIES if sampler == "auto" else sampler,
        trials=trials,
        time_limit=time_limit,
        ledger=None if storage is None else Ledger(space.space, storage, f"{evaluator.key}-{chip.key}", space.names),
        seed=seed,
        batch=batch,
        scores=promising,
        evaluate_subset=None if schedule.last is None else evaluate_shortly,
        progress=progress,
    )
    return _answer(space, study, evaluator, held)


def settings_of(given: int | FineTuning, seed: int) -> FineTuning:
    """The settings, or those of so many epochs."""
    if isinstance(given, FineTuning):
        return given
    return FineTuning(epochs=given, batch=TRAINED_BATCH, rate=RATE, seed=seed)


def _folder(storage: str | os.PathLike[str] | None) -> tuple[Path, Any]:
    """Where trained weights are kept, and what must live as long as they are needed."""
    beside = sibling(storage, "networks")
    if beside is not None:
        return beside, None
    held = TemporaryDirectory(prefix="autocomp")
    return Path(held.name), held


def _ordered(space: DeclaredChoices) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(values[i] for i in space.order[name]) for name, values in space.given.items()}


def _key(networks: NetworkSpace, data: Data, schedule: Trainings) -> str:
    """Changes with the choices and parameters of the network, with the samples and with the trainings."""
    parameters = [(parameter.name, list(parameter.shape)) for parameter in networks.cell.get_parameters()]
    prints = [data.training.fingerprint, data.evaluation.fingerprint] if data.training and data.evaluation else []
    described = [{name: list(values) for name, values in networks.choices.items()}, parameters, prints]
    return hashlib.sha256(json.dumps([described, repr(schedule)]).encode()).hexdigest()[:16]


def _answer(space: DeclaredChoices, study: Study, evaluator: NetworkEvaluator, held: Any) -> FoundNetworks:
    records, last = study.run(), evaluator.schedule.last
    networks = [_network(space, record, evaluator, held) for record in records]
    whole = [last is None or network.settings == last for network in networks]
    allowed = [
        network
        for network, record, trained in zip(networks, records, whole, strict=True)
        if record.violation <= 0 and trained
    ]
    return FoundNetworks(
        front_of(allowed, space.names), tuple(networks), study.stopped or "", len(study.failures), space.names
    )


def _network(space: DeclaredChoices, record: Record, evaluator: NetworkEvaluator, held: Any) -> TrainedNetwork:
    chosen = space.chosen(record.vector)
    first, last = evaluator.schedule.first, evaluator.schedule.last
    settings = first if last is None or record.measurement.error or not len(record.plan) else last
    return TrainedNetwork(chosen, record.measurement.accuracy, space.of_network(chosen), evaluator, settings, held)
