"""Costs from tables against costs computed."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.hardware_models import CostTables, device, devices
from tests.conftest import Subject


@pytest.mark.parametrize("name", devices())
def test_tables_say_what_the_device_says(subject: Subject, name: str) -> None:
    chip, vectors = device(name), subject.space.random(np.random.default_rng(0), 200)
    tables = CostTables(chip, subject.space, batch=16)
    expected = chip.costs(subject.space.workload(vectors, 16))
    for metric in expected.metrics():
        np.testing.assert_allclose(getattr(tables(vectors), metric), getattr(expected, metric), rtol=1e-9)


def test_costs_of_a_plan_do_not_depend_on_the_plans_beside_it(subject: Subject) -> None:
    vectors = subject.space.random(np.random.default_rng(1), 50)
    tables = CostTables(device("ascend"), subject.space)
    together = tables(vectors)
    for i, vector in enumerate(vectors):
        assert tables(vector[None])[0] == together[i]


def test_what_has_too_many_combinations_is_computed(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = subject.space.random(np.random.default_rng(2), 20)
    expected = CostTables(device("ascend"), subject.space)(vectors)
    monkeypatch.setattr("autocomp.hardware_models.tables.MOST_COMBINATIONS", 10)
    found = CostTables(device("ascend"), subject.space)(vectors)
    for metric in expected.metrics():
        np.testing.assert_allclose(getattr(found, metric), getattr(expected, metric), rtol=1e-9)
