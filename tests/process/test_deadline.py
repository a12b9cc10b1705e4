from __future__ import annotations

import logging
import math

import pytest

from autocomp.process.deadline import Deadline
from autocomp.process.steps import Steps
from tests.clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock.install(monkeypatch)


def test_a_limit_counts_from_its_creation(clock: FakeClock) -> None:
    limit = Deadline(60)
    clock.now += 25
    assert (limit.spent, limit.left, limit.passed) == (25, 35, False)
    clock.now += 35
    assert limit.left == 0 and limit.passed


def test_a_part_is_of_what_is_left_and_counts_from_now(clock: FakeClock) -> None:
    limit = Deadline(60)
    clock.now += 20
    part = limit.part(0.5)
    clock.now += 15
    assert part.left == 5 and limit.left == 25
    clock.now += 90
    assert limit.part(0.5).passed


def test_no_limit_never_passes(clock: FakeClock) -> None:
    limit = Deadline()
    clock.now += 1e9
    assert limit.left == math.inf and not limit.passed and limit.part(0.5).left == math.inf


def test_steps_are_logged_and_the_slow_ones_with_their_seconds(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "autocomp"), Steps(False) as steps:
        steps.begin("tracing the network")
        clock.now += 12.5
        steps.begin("making inputs")
        steps.report(3, 100, 0.5)
        clock.now += 0.2
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "preparing: tracing the network", "preparing: making inputs", "prepared in 12.7 s: tracing the network 12.5 s",
    ]  # fmt: skip
    assert capsys.readouterr().err == ""


def test_what_fails_is_not_said_to_be_prepared(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(False)
    with caplog.at_level(logging.INFO, "autocomp"):
        steps.__enter__().begin("tracing the network")
        steps.__exit__(ValueError, ValueError("no network"), None)
    assert [record.getMessage() for record in caplog.records] == ["preparing: tracing the network"]
