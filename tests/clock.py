"""A clock that tests move on by hand, in place of the one that time limits are read from."""

from __future__ import annotations

import pytest


class FakeClock:
    """Called it gives ``now``, seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    @classmethod
    def install(cls, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
        clock = cls()
        monkeypatch.setattr("autocomp.process.deadline.monotonic", clock)
        return clock
