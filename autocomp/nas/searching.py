"""The search over choices."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.evaluators import Measurement
from autocomp.problem.arguments import check
from autocomp.problem.budget import Budget
from autocomp.problem.pareto import nondominated
from autocomp.rules import shown
from autocomp.search_spaces import Plan
from autocomp.study.executors import executor
from autocomp.study.ledger import Ledger
from autocomp.study.study import Study

from .answer import FoundNetworks, Network
from .choices import FAR, ChoiceSpace, Chosen, Costs

CATEGORIES = "architectures"  # the usual sampler
BATCH = 2  # networks that are proposed together: a training costs more than a proposal


@dataclass(frozen=True)
class ChoiceEvaluator:
    """Measures networks by the user's function; goes to workers."""

    key: str
    choices: ChoiceSpace
    accuracy: Callable[[Chosen], float]

    def evaluate(self, plan: Plan) -> Measurement:
        chosen, started = self.choices.of_plan(plan), time.perf_counter()
        try:
            found = float(self.accuracy(chosen))
        except Exception as error:  # the user's own code
            raise EvaluationError(f"the accuracy of {chosen} could not be measured: {error}") from error
        if not 0 <= found <= 1:
            raise EvaluationError(f"an accuracy must be from 0 to 1, but {chosen} has {found}")
        return Measurement(found, seconds=time.perf_counter() - started)  # limits on later ones go by it


def search_choices(
    choices: Mapping[str, Sequence[object]],
    accuracy: Callable[[Chosen], float],
    costs: Costs,
    *,
    budget: str | Budget | None = None,
    trials: int = 50,
    batch: int | str = BATCH,
    sampler: str = "auto",
    seed: int = 0,
    workers: int | str | None = None,
    time_limit: float | None = None,
    storage: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> FoundNetworks:
    """The front over accuracy and costs of the networks that these choices describe.

    A table of networks that were measured is searched in a few lines, and so is a function that trains one:

    >>> table = {("conv", 3): (0.91, 2.1), ("conv", 5): (0.93, 3.9), ...}     # accuracy, milliseconds
    >>> found = search_choices(
    ...     {"operator": ["conv", "depthwise"], "kernel": [3, 5]},
    ...     accuracy=lambda network: table[network["operator"], network["kernel"]][0],
    ...     costs=lambda network: {"latency": table[network["operator"], network["kernel"]][1]},
    ... )
    >>> print(found[0].choices, found[0].accuracy)

    The same study searches as for plans: costs are known before, accuracies are measured, and a Gaussian process over
    the choices as categories says where the front should grow most. Values may stand in any order.

    choices: name -> its values.
    accuracy: of a network, 0 to 1; a network is a mapping from names to values. What it raises makes the network fail.
    costs: of a network, by the names that a budget uses: ``latency`` in ms, ``size`` and ``memory`` in MB, ``energy``
        in mJ, ``macs``, ``params``, ``bops``. All are minimised. It is called for thousands of networks, so that it
        should take no more than some microseconds. None: there is no such network.
    budget: bounds, ``"latency<5ms"``; shares, as in ``"macs<50%"``, are of the network of the dearest values.
    trials: networks to evaluate. batch: how many are proposed together: with workers give their number or more.
        workers: as for ``autocomp.search``, for an accuracy that can be sent. storage: a file or URL in which the
        search can be continued; another accuracy needs another one.

    Raises TypeError and ValueError for wrong arguments, EvaluationError where the network of the dearest values cannot
    be evaluated, which comes first.
    """
    check(
        "search_choices", choices=choices, accuracy=accuracy, costs=costs, budget=budget, trials=trials, batch=batch,
        sampler=sampler, seed=seed, workers=workers, time_limit=time_limit, storage=storage, progress=progress,
    )  # fmt: skip
    space = ChoiceSpace(choices, costs)
    if not space.exists([0] * len(space.sizes)):
        raise ValueError(f"the network of the dearest values must exist: {space.chosen([0] * len(space.sizes))}")
    evaluator = ChoiceEvaluator(_key(space), space, accuracy)
    study = Study(
        space.space,
        executor(evaluator, workers),
        space.costs,
        objectives=space.names,
        budget=Budget((*Budget.parse(budget).bounds, *Budget.parse(f"{space.names[0]}<{50 * FAR:g}%").bounds)),
        sampler=CATEGORIES if sampler == "auto" else sampler,
        trials=trials,
        time_limit=time_limit,
        ledger=None if storage is None else Ledger(space.space, storage, evaluator.key, space.names),
        seed=seed,
        batch=batch,
        progress=progress,
    )
    return _answer(space, study)


def _answer(space: ChoiceSpace, study: Study) -> FoundNetworks:
    records = study.run()
    costs = space.values(np.array([record.vector for record in records]))
    networks = [
        Network(space.chosen(record.vector), record.measurement.accuracy, dict(zip(space.names, row, strict=True)))
        for record, row in zip(records, costs.tolist(), strict=True)
    ]
    allowed = [network for network, record in zip(networks, records, strict=True) if record.violation <= 0]
    return FoundNetworks(
        front_of(allowed, space.names), tuple(networks), study.stopped or "", len(study.failures), space.names
    )


def front_of(networks: Sequence[Network], names: Sequence[str]) -> tuple[Network, ...]:
    """Those that no other one beats, the most accurate first."""
    if not networks:
        return ()
    values = np.array([[-network.accuracy, *(network.costs[name] for name in names)] for network in networks])
    found = [network for network, best in zip(networks, nondominated(values), strict=True) if best]
    return tuple(sorted(found, key=lambda network: -network.accuracy))


def _key(space: ChoiceSpace) -> str:
    described: Any = [[name, [shown("value", value) for value in values]] for name, values in space.given.items()]
    return hashlib.sha256(json.dumps([described, space.names]).encode()).hexdigest()[:16]
