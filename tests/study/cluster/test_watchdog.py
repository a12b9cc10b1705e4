"""After kill -9 of a driver no process of the Ray that it started lives on; after its proper end none is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from autocomp.study.cluster.ray_workers import RayWorkers
from tests.toy import ToyEvaluator, toy_space

ROOT = Path(__file__).resolve().parents[3]
SPACE = toy_space(4)
PLANS = [SPACE.decode((i % 5, i % 4, 0, 1, 0, 0, 0, 0)) for i in range(6)]


def main() -> None:
    """What the test below kills: it prints the processes that it started, directly or not."""
    with RayWorkers(ToyEvaluator(SPACE), 1) as workers:
        dict(workers.map(PLANS))
        sys.stdout.write(f"{' '.join(map(str, descendants(os.getpid())))}\n")
        sys.stdout.flush()
        time.sleep(600)


def descendants(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def living(processes: list[int]) -> list[int]:
    return [number for number in processes if Path(f"/proc/{number}").exists()]


def test_after_kill_9_nothing_lives_on() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.study.cluster.test_watchdog"]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    processes = [int(word) for word in driver.stdout.readline().split()]
    assert len(living(processes)) == len(processes) > 3
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    end = time.monotonic() + 10
    while living(processes) and time.monotonic() < end:
        time.sleep(0.1)
    assert living(processes) == []


if __name__ == "__main__":
    main()
