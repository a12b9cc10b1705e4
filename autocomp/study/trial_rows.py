"""A finished trial as rows of Optuna's database, in one transaction.

Optuna itself looks up every value, attribute and parameter before it writes it, which takes 20 to 30 ms a trial: a
search with a thousand workers has 10.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

Parameter = tuple[str, float, str]  # its name, its value as Optuna stores it, its distribution as JSON


def database_of(storage: optuna.storages.BaseStorage) -> optuna.storages.RDBStorage | None:
    """The database behind a storage; None for a journal."""
    import optuna

    inner: Any = getattr(storage, "_backend", storage)
    return inner if isinstance(inner, optuna.storages.RDBStorage) else None


def insert_trial(
    database: optuna.storages.RDBStorage,
    study: int,
    trial: optuna.trial.FrozenTrial,
    parameters: Sequence[Parameter] = (),
) -> None:
    """Writes the trial with its values, attributes and parameters completely or not at all."""
    from optuna.storages._rdb import models
    from sqlalchemy.orm import Session

    with Session(database.engine) as session, session.begin():
        # Two drivers that write at the same time get different numbers.
        models.StudyModel.find_or_raise_by_id(study, session, for_update=True)
        row = models.TrialModel(study_id=study, state=trial.state)
        row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete
        session.add(row)
        session.flush()
        row.number = _next_number(models, session, study, int(row.trial_id))
        for table, rows in _rows(models, int(row.trial_id), trial, parameters).items():
            if rows:
                session.execute(table.__table__.insert(), rows)


def _next_number(models: Any, session: Any, study: int, trial: int) -> int:
    """One more than that of the study's trial before; Optuna counts all of them, which takes longer with each."""
    table = models.TrialModel
    before = session.query(table.number).filter(table.study_id == study, table.trial_id < trial)
    last = before.order_by(table.trial_id.desc()).limit(1).scalar()
    return 0 if last is None else int(last) + 1


def _rows(
    models: Any, number: int, trial: optuna.trial.FrozenTrial, parameters: Sequence[Parameter]
) -> dict[Any, list[dict[str, Any]]]:
    stored = [models.TrialValueModel.value_to_stored_repr(value) for value in trial.values or ()]
    values = [{"objective": i, "value": value, "value_type": kind} for i, (value, kind) in enumerate(stored)]
    users, system = (
        [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
        for attributes in (trial.user_attrs, trial.system_attrs)
    )
    chosen = [{"param_name": name, "param_value": value, "distribution_json": of} for name, value, of in parameters]
    tables = {
        models.TrialValueModel: values,
        models.TrialUserAttributeModel: users,
        models.TrialSystemAttributeModel: system,
        models.TrialParamModel: chosen,
    }
    return {table: [{"trial_id": number, **row} for row in rows] for table, rows in tables.items()}
