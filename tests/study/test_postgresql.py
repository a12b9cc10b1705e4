"""A search on a real PostgreSQL server, which is stopped under it: for a moment, and for good."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autocomp.search_spaces import Plan
from autocomp.study import retries
from autocomp.study.executors import InProcess
from autocomp.study.ledger import Ledger
from autocomp.study.status import searches
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql")


class Server:
    """PostgreSQL on a free port of the loopback address, with a database and a user of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, PROGRAMS[-1].parent
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:  # which PostgreSQL refuses
            shutil.chown(folder, "postgres")
            self.user = {"user": "postgres"}
        self._run("initdb", "-A", "trust", "-U", "search", "-D", f"{folder}/data", "--no-sync")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()
        self.url = f"postgresql+psycopg://search@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -F"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-l", f"{self.folder}/log", "-o", options, "start")

    def kill(self) -> None:
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="autocomp-postgresql-"))
    started = Server(folder)
    yield started
    started.kill()
    shutil.rmtree(folder)


def study(storage: str | None, fingerprint: str, **settings: Any) -> Study:
    ledger = Ledger(SPACE, storage, fingerprint)
    running = InProcess(ToyEvaluator(SPACE))
    return Study(
        SPACE, running, partial(toy_costs, SPACE), sampler="nsga2", trials=24, seed=3, ledger=ledger, **settings
    )


def found(search: Study) -> list[tuple[Plan, float]]:
    return [(record.plan, record.measurement.accuracy) for record in search.run()]


def test_a_server_that_is_started_again_costs_nothing(server: Server) -> None:
    calls: list[object] = []

    def restart(measured: object) -> None:
        calls.append(measured)
        if len(calls) in (5, 13):
            server.kill()
            server.start()

    assert found(study(server.url, "restarted", on_evaluation=restart)) == found(study(None, ""))
    (status,) = [one for one in searches(server.url) if "restarted" in one.name]
    assert (status.state, status.stored, status.failed) == ("ended", 24, 0)
    again = study(server.url, "restarted")
    assert found(again) == found(study(None, "")) and again.reused == 24


def test_a_server_that_is_gone_ends_the_search_with_what_was_found(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "PAUSES_S", (0.0, 0.1))
    calls: list[object] = []

    def stop(measured: object) -> None:
        calls.append(measured)
        if len(calls) == 6:
            server.kill()

    try:
        search = study(server.url, "gone", on_evaluation=stop)
        assert len(search.run()) == 7
    finally:
        server.start()
    assert search.stopped is not None and "could not be written in 3 tries" in search.stopped
    assert "SQL" not in search.stopped and "\n" not in search.stopped
    continued = study(server.url, "gone")
    assert found(continued) == found(study(None, "")) and continued.reused == 6
