"""Ends the Ray of a driver that was killed: a process of its own waits until the driver's end of a pipe closes.

Ray's own processes notice late, some after half a minute, that the driver which started them is gone.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

WAITER = """
import os, signal, sys
numbers = [int(word) for word in sys.stdin.readline().split()]
if sys.stdin.readline():
    sys.exit()  # the driver has ended Ray itself
children = {}
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
ours, left = [], list(numbers)
while left:
    ours.append(left.pop())
    left += children.get(ours[-1], [])
for number in ours:
    try:
        with open(f"/proc/{number}/cmdline", "rb") as file:
            ray = b"ray" in file.read()  # a number may have been given to another process
        if ray:
            os.kill(number, signal.SIGKILL)
    except OSError:
        pass
"""


def watch(ray: Any) -> subprocess.Popen[bytes] | None:
    """Watches over the Ray that this process has just started; None where its processes are not known."""
    numbers = [str(process.pid) for _, process in _all(ray)]
    if not numbers:
        return None
    command = [sys.executable, "-S", "-c", WAITER]
    waiter = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, stdout=subprocess.DEVNULL)
    assert waiter.stdin is not None
    waiter.stdin.write((" ".join(numbers) + "\n").encode())
    waiter.stdin.flush()
    return waiter


def started(ray: Any) -> list[tuple[str, Any]]:
    """The processes without which the Ray that this process has started is lost, with their names."""
    return [(name, process) for name, process in _all(ray) if name in ("gcs_server", "raylet")]


def _all(ray: Any) -> list[tuple[str, Any]]:
    processes = getattr(getattr(ray._private.worker, "_global_node", None), "all_processes", {})
    return [(name, one.process) for name, several in processes.items() for one in several]


@contextmanager
def relieved(waiter: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """Ends the watch after the body, which ends Ray."""
    try:
        yield
    finally:
        if waiter is not None and waiter.stdin is not None:
            with suppress(OSError):  # it was killed
                waiter.stdin.write(b"ended\n")
                waiter.stdin.close()
            waiter.wait()
