from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import optuna
import pytest

from autocomp.evaluators import Measurement
from autocomp.search_spaces import Plan
from autocomp.study.ledger import Ledger
from tests.toy import toy, toy_costs

SPACE = toy(2)[0]
PLAN = SPACE.decode((1, 0, 2, 3))
COST = toy_costs(SPACE, np.array([(1, 0, 2, 3)]))[0]
FOUND = Measurement(0.8765, "fidelity", samples=100, seconds=0.25, seed=3, fidelity="100 images")


def open_ledger(storage: str | Path | None, fingerprint: str = "abc", **settings: object) -> Ledger:
    return Ledger(SPACE, storage, fingerprint, **settings)  # type: ignore[arg-type]


def filled(storage: str | Path | None) -> Ledger:
    ledger = open_ledger(storage)
    ledger.add(PLAN, FOUND, COST, {"latency<5ms": -0.5})
    return ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def test_in_memory() -> None:
    assert filled(None).get(PLAN) == FOUND
    assert open_ledger(None).get(PLAN) is None


def test_is_there_for_the_next_process(path: Path) -> None:
    filled(path)
    ledger = open_ledger(path)
    assert len(ledger) == 1 and ledger.get(PLAN) == FOUND
    assert ledger.get(Plan()) is None


@pytest.mark.parametrize("kind", ["path", "text", "url"])
def test_a_path_or_a_url(path: Path, kind: str) -> None:
    forms: dict[str, str | Path] = {"path": path, "text": str(path), "url": f"sqlite:///{path}"}
    storage = forms[kind]
    filled(storage)
    assert open_ledger(path).get(PLAN) == FOUND


def test_a_path_in_a_new_folder(tmp_path: Path) -> None:
    filled(tmp_path / "runs" / "a" / "run.db")
    assert (tmp_path / "runs" / "a" / "run.db").exists()


def test_a_float_survives_exactly(path: Path) -> None:
    accuracy = 0.1 + 0.2
    open_ledger(path).add(PLAN, Measurement(accuracy), COST, {})
    found = open_ledger(path).get(PLAN)
    assert found is not None and found.accuracy == accuracy


def test_another_fingerprint_sees_nothing(path: Path) -> None:
    filled(path)
    assert len(open_ledger(path, "abcd")) == len(open_ledger(path, "ab")) == 0
    assert len(open_ledger(path)) == 1


def test_other_objectives_see_the_same(path: Path) -> None:
    filled(path)
    assert open_ledger(path, objectives=("macs",)).get(PLAN) == FOUND


def test_failures_are_stored_for_people_and_tried_again(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.fail(PLAN, "its accuracy is NaN")
    assert open_ledger(path).get(PLAN) is None
    stored = optuna.load_study(study_name="autocomp-abc latency size", storage=f"sqlite:///{path}")
    assert stored.trials[0].state == optuna.trial.TrialState.FAIL
    assert stored.trials[0].user_attrs == {"plan": str(PLAN), "error": "its accuracy is NaN"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE trial_user_attributes SET value_json = '\"{broken\"' WHERE key = 'plan'", "cannot be read"),
        ("UPDATE trial_user_attributes SET value_json = '\"[1]\"' WHERE key = 'measurement'", "JSON object"),
        ("DELETE FROM trial_user_attributes WHERE key = 'measurement'", "'measurement'"),
        ('UPDATE trial_user_attributes SET value_json = \'"{\\"format/zz\\":\\"w8\\"}"\' WHERE key = \'plan\'', "zz"),
        ("UPDATE trial_user_attributes SET value_json = '5' WHERE key = 'plan'", "cannot be read"),
        ("UPDATE trial_values SET value = 0.5 WHERE objective = 0", "its value is 0.5, but 0.8765 was measured"),
    ],
)
def test_damaged_rows_are_named_and_left_out(
    path: Path, change: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = filled(path)
    ledger.add(Plan(), Measurement(0.9), COST, {})
    with sqlite3.connect(path) as database:
        where = " AND trial_id = 1" if "WHERE" in change else ""
        assert database.execute(change + where).rowcount == 1
    again = open_ledger(path)
    assert again.get(PLAN) is None and again.get(Plan()) == Measurement(0.9)
    assert "stored evaluation 0 cannot be read and will be made again" in caplog.text and reason in caplog.text


class TestStoragesThatCannotBeUsed:
    def check(self, storage: str | Path) -> str:
        with pytest.raises(OSError, match="cannot be opened or written: ") as caught:
            open_ledger(storage)
        text = str(caught.value)
        assert repr(str(storage)) in text and "\n" not in text
        return text

    def test_a_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path)

    def test_below_a_file(self, path: Path) -> None:
        path.touch()
        self.check(path / "run.db")

    def test_a_file_of_another_kind(self, path: Path) -> None:
        path.write_text("accuracy, latency\n" * 100)
        assert "not a database" in self.check(path)

    def test_a_url_of_no_known_kind(self) -> None:
        self.check("nosuch://host/db")

    def test_a_database_that_can_only_be_read(self, path: Path) -> None:
        filled(path)
        self.check(f"sqlite:///file:{path}?mode=ro&uri=true")
