"""The ledger stores finished evaluations so that a killed process cannot lose them; optuna-dashboard can show them."""

from __future__ import annotations

import json
import logging
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

from autocomp.evaluators import Measurement, Scores
from autocomp.problem.metrics import METRICS
from autocomp.process.optuna_logging import quiet
from autocomp.search_spaces import Plan, SearchSpace

from .lease import KEY, held
from .retries import first_sentence, written
from .storages import backend_of, named, url_of
from .trial_rows import database_of, insert_trial

if TYPE_CHECKING:
    import optuna

    from autocomp.hardware_models import Cost

logger = logging.getLogger("autocomp")

SCORES = "scores"  # the key of stored scores


class Ledger:
    """Measurements by plan: one on all samples, and one on a part of them.

    storage: None keeps them in memory only. A path becomes an SQLite file, whose writes are atomic and whose locks end
        with the process. ``journal:///path`` is a journal file, for shared file systems: the lock of a killed process
        is waited for, half a minute. Any other Optuna storage URL works, too.
    fingerprint: of everything that changes an evaluation; evaluations with another fingerprint are not read.
    objectives: the costs that are minimised. They are part of the study's name. But stored evaluations are found for
        any objectives and any budget.
    """

    def __init__(
        self,
        space: SearchSpace,
        storage: str | PathLike[str] | None = None,
        fingerprint: str = "",
        objectives: Sequence[str] = ("latency", "size"),
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self._measurements: dict[Plan, Measurement] = {}
        self._low_fidelity: dict[Plan, Measurement] = {}  # on a part of the samples
        self._remembered: dict[str, str] = {}
        self._name = named(storage)
        self._study: optuna.Study | None = None
        self._database: optuna.storages.RDBStorage | None = None  # None for a journal
        if storage is not None:
            self._open(storage, f"autocomp-{fingerprint}")

    def __len__(self) -> int:
        return len(self._measurements.keys() | self._low_fidelity.keys())

    def get(self, plan: Plan, part: bool = False) -> Measurement | None:
        """The measurement on all samples, or on a part of them."""
        return (self._low_fidelity if part else self._measurements).get(plan)

    def add(self, plan: Plan, measurement: Measurement, cost: Cost, violations: Mapping[str, float]) -> None:
        """The measurement is stored when this returns. ``violations``: by the text of the bound."""

        self._kept(measurement)[plan] = measurement
        if self._study is None:
            return
        costs = [getattr(cost, METRICS[name].attribute) for name in self.objectives]
        self._store(
            plan,
            values=[measurement.accuracy, *costs],
            user_attrs={"plan": str(plan), "measurement": measurement.to_json(), "cost": asdict(cost)},
            constraints=dict(violations),
        )

    def fail(self, plan: Plan, reason: str) -> None:
        """Stores a failure for the user to read; the plan is evaluated again when it is proposed again."""
        import optuna

        if self._study is None:
            return
        self._store(plan, state=optuna.trial.TrialState.FAIL, user_attrs={"plan": str(plan), "error": reason})

    def held(self) -> AbstractContextManager[None]:
        """Holds the stored study against other drivers in the body; OSError where one has it."""
        if self._study is None:
            return nullcontext()
        return held(self._study._storage, self._study._study_id, self._name)

    def remember(self, name: str, text: str) -> None:
        """Store a text that is not an evaluation, under the same fingerprint."""
        self._remembered[name] = text
        if (study := self._study) is not None:
            written(lambda: study.set_user_attr(name, text), self._name)

    def note(self, name: str, text: str) -> None:
        """Stores a text that nobody needs; one that cannot be written is forgotten."""
        if self._study is not None:
            with suppress(Exception):  # the next evaluation's own writing says it
                self._study.set_user_attr(name, text)

    def recall(self, name: str) -> str | None:
        return self._remembered.get(name)

    def scores(self, measure: Callable[[], Scores]) -> Scores:
        """The stored scores; where there are none they are measured now and stored."""
        found = Scores.from_json(self.recall(SCORES) or "", self.space)
        if found is None:
            found = measure()
            self.remember(SCORES, found.to_json())
        return found

    def _store(self, plan: Plan, **trial: Any) -> None:
        """Writes the trial completely or not at all. Its parameters are for people to read: the plan is an attribute.

        A try whose answer was lost is found by the trial's token and not made again.
        """
        import optuna

        assert self._study is not None
        storage, study = self._study._storage, self._study._study_id
        if self._database is None:
            values = {knob.name: plan.get(knob.name, knob.values[0]) for knob in self.space.knobs}
            trial |= {"params": values, "distributions": self._distributions}
        created = optuna.trial.create_trial(**trial)
        token = created._system_attrs["autocomp:token"] = uuid.uuid4().hex

        def stands() -> bool:
            known = storage.get_all_trials(study, deepcopy=False)
            return any(one._system_attrs.get("autocomp:token") == token for one in known)

        written(lambda: self._write(plan, created), self._name, stands)

    def _write(self, plan: Plan, trial: optuna.trial.FrozenTrial) -> None:
        assert self._study is not None
        study = self._study._study_id
        if self._database is None:
            self._study._storage.create_new_trial(study, template_trial=trial)
            return
        choices = zip(self._described, self.space.encode(plan), strict=True)
        insert_trial(self._database, study, trial, [(name, float(choice), text) for (name, text), choice in choices])

    @cached_property
    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        import optuna

        return {knob.name: optuna.distributions.CategoricalDistribution(knob.values) for knob in self.space.knobs}

    @cached_property
    def _described(self) -> list[tuple[str, str]]:
        import optuna

        return [(name, optuna.distributions.distribution_to_json(d)) for name, d in self._distributions.items()]

    def _open(self, storage: str | PathLike[str], prefix: str) -> None:
        try:
            with quiet():
                self._study = self._create(url_of(storage), prefix)
                self._read(prefix)
        except Exception as error:  # Optuna, SQLAlchemy, its drivers and the file system raise different errors
            reason = first_sentence(error)
            raise OSError(f"storage {self._name!r} cannot be opened or written: {reason}") from error

    def _create(self, url: str, prefix: str) -> optuna.Study:
        import optuna

        backend = backend_of(url)
        self._database = database_of(backend)
        maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        study = optuna.create_study(
            storage=backend,
            study_name=" ".join([prefix, *self.objectives]),
            directions=[maximize, *[minimize] * len(self.objectives)],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # This writes, so that a read-only storage raises here and not after the first evaluation.
            study.set_metric_names(["accuracy", *(METRICS[name].attribute for name in self.objectives)])
        return study

    def _read(self, prefix: str) -> None:
        import optuna

        assert self._study is not None
        storage = self._study._storage
        for name in optuna.get_all_study_names(storage):
            if name.split(" ")[0] != prefix:
                continue
            study = optuna.load_study(study_name=name, storage=storage)
            texts = {key: text for key, text in study.user_attrs.items() if isinstance(text, str)}
            self._remembered |= {key: text for key, text in texts.items() if key != KEY}
            for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
                self._take(trial)

    def _take(self, trial: optuna.trial.FrozenTrial) -> None:
        try:
            plan = Plan.parse(trial.user_attrs["plan"])
            self.space.encode(plan)
            measurement = Measurement.from_json(trial.user_attrs["measurement"])
            if trial.values[0] != measurement.accuracy:
                raise ValueError(f"its value is {trial.values[0]}, but {measurement.accuracy} was measured")
        except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            logger.warning("stored evaluation %d cannot be read and will be made again: %s", trial.number, error)
            return
        self._kept(measurement).setdefault(plan, measurement)

    def _kept(self, measurement: Measurement) -> dict[Plan, Measurement]:
        return self._low_fidelity if measurement.error else self._measurements
