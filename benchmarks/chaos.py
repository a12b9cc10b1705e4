"""Searches on a cluster whose workers, nodes, head and driver are killed at random: is the front the undisturbed one?

    python benchmarks/chaos.py            # 100 kills
    python benchmarks/chaos.py --quick    # 8 kills

The cluster runs on this machine: a head without processors and two nodes of one processor each. One search after the
other runs on it, from a storage, each until it has made its evaluations; a search whose driver was killed is called
again. In the end the evaluations in the storage are compared with those of a search in one process that nobody
disturbs. The evaluator is a formula that waits.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from autocomp.study.executors import Executor, InProcess, executor
from autocomp.study.ledger import Ledger
from autocomp.study.storages import backend_of, url_of
from autocomp.study.study import Study
from tests.toy import ToyEvaluator, toy_costs, toy_space

SPACE = toy_space(4)
TRIALS, SECONDS = 40, 0.5  # evaluations of a search, seconds of one
KINDS = {"worker": 58, "node": 18, "head": 5, "broker": 7, "driver": 12}  # how often each is killed, of 100
PAUSES_S = (0.5, 3.0)  # between two kills
QUICK = ("worker", "node", "driver", "worker", "broker", "head", "driver", "worker")


def search(storage: str | None, seed: int, running: Executor) -> Study:
    """A search that has ended."""
    costs = partial(toy_costs, SPACE)
    ledger = Ledger(SPACE, storage, f"chaos{seed}")
    found = Study(SPACE, running, costs, sampler="nsga2", trials=TRIALS, seed=seed, ledger=ledger)
    found.run()
    return found


def drive(storage: str, seed: int) -> None:
    """The process that is killed."""
    found = search(storage, seed, executor(ToyEvaluator(SPACE, sleep=SECONDS), "auto"))
    if found.stopped != f"{TRIALS} evaluations":
        raise SystemExit(f"the search ended early: {found.stopped}")


class Chaos:
    """The cluster, the driver, and what kills them."""

    def __init__(self, storage: str, rng: random.Random) -> None:
        self.storage, self._rng = storage, rng
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.seed = 0
        self.killed: Counter[str] = Counter()
        self._build()
        self._start()

    def _build(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "gcs_server_port": self._port}
        )
        for _ in range(2):
            self._cluster.add_node(num_cpus=1)

    def _start(self) -> None:
        command = [sys.executable, __file__, "--drive", self.storage, str(self.seed)]
        environment = os.environ | {"RAY_ADDRESS": self._cluster.address}
        self._driver = subprocess.Popen(command, env=environment)

    def watch(self, seconds: float) -> None:
        """The next search, where one has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._driver.poll() is not None:
                self.seed += self._driver.returncode == 0
                self._start()
            time.sleep(0.1)

    def finish(self) -> None:
        """Lets the last search end in peace."""
        while self._driver.wait() != 0:
            self._start()
        self.seed += 1
        self._cluster.shutdown()

    def kill(self, kind: str) -> bool:
        """Whether there was something to kill."""
        done = {"worker": self._worker, "node": self._node, "head": self._head}.get(kind, partial(self._own, kind))()
        self.killed[kind] += done
        return bool(done)

    def _worker(self) -> bool:
        return _kill(self._rng, [number for number, text in processes() if text.startswith("ray::autocomp")])

    def _node(self) -> bool:
        self._cluster.remove_node(
            self._rng.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.unique_id)), allow_graceful=False
        )
        self.watch(self._rng.uniform(0, 3))
        self._cluster.add_node(num_cpus=1)
        return True

    def _head(self) -> bool:
        """One of the head's processes; then the cluster comes back at its address."""
        head = self._cluster.head_node
        self._rng.choice([head.kill_gcs_server, head.kill_raylet])(check_alive=False)
        self.watch(self._rng.uniform(0, 5))
        self._cluster.shutdown()
        self._build()
        return True

    def _own(self, kind: str) -> bool:
        if kind == "driver":
            self._driver.kill()
            return True
        return _kill(self._rng, [number for number, text in processes() if "cluster.broker import serve" in text])


def processes(parent: int | None = None) -> Iterator[tuple[int, str]]:
    """Those that this one has started, directly or not: their numbers and command lines."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{parent or os.getpid()}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child), Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                yield from processes(int(child))


def _kill(rng: random.Random, victims: list[int]) -> bool:
    if not victims:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(rng.choice(victims), signal.SIGKILL)
    return True


def compared(storage: str, seeds: int) -> tuple[int, int, int]:
    """Evaluations that are missing, those that are there twice, and searches whose records are others."""
    import optuna

    backend, lost, doubled, other = backend_of(url_of(storage)), 0, 0, 0
    for seed in range(seeds):
        expected = search(None, seed, InProcess(ToyEvaluator(SPACE)))
        study = optuna.load_study(study_name=f"autocomp-chaos{seed} latency size", storage=backend)
        rows = Counter(trial.user_attrs["plan"] for trial in study.get_trials(deepcopy=False) if trial.values)
        lost += sum(str(record.plan) not in rows for record in expected.records)
        doubled += sum(rows.values()) - len(rows)
        again = search(storage, seed, InProcess(ToyEvaluator(SPACE)))
        found = [(record.plan, record.measurement.accuracy) for record in again.records]
        other += found != [(record.plan, record.measurement.accuracy) for record in expected.records]
    return lost, doubled, other


def main() -> int:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--kills", type=int, default=100)
    made.add_argument("--quick", action="store_true", help="8 kills, of every kind")
    made.add_argument("--seconds", type=float, default=float("inf"), help="no more kills after so many")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--drive", nargs=2, metavar=("STORAGE", "SEED"), help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.drive:
        drive(options.drive[0], int(options.drive[1]))
        return 0
    rng = random.Random(options.seed)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        storage = f"{folder}/search.db"
        chaos = Chaos(storage, rng)
        kinds = list(QUICK) if options.quick else rng.choices(list(KINDS), list(KINDS.values()), k=options.kills)
        for kind in kinds:
            if time.monotonic() - start > options.seconds:
                break
            chaos.watch(rng.uniform(*PAUSES_S))
            while not chaos.kill(kind):
                chaos.watch(0.5)
            print(
                f"{time.monotonic() - start:6.0f} s  {sum(chaos.killed.values())} killed, the last a {kind}", flush=True
            )
        chaos.finish()
        lost, doubled, other = compared(storage, chaos.seed)
    spent = time.monotonic() - start
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(chaos.killed.items()))
    print(f"{sum(chaos.killed.values())} kills ({counts}) in {spent:.0f} s, {chaos.seed} searches of {TRIALS}")
    print(f"lost {lost}, doubled {doubled}, fronts that differ {other}")
    return int(bool(lost or doubled or other))


if __name__ == "__main__":
    sys.exit(main())
