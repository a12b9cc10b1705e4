"""Says before a search is prepared whether Ray workers will be able to do their part of it.

What the user wrote, a metric or labels of their own, is loaded in a fresh process, as a worker will load it.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from .address import need_listener
from .ray_workers import load_ray
from .travel import culprit, import_paths, parts

SECONDS = 120.0  # after which loading is given up
TRIAL = "AUTOCOMP_WORKER_TRIAL"  # is set in the fresh process
LOADER = """
import os, pickle, sys
paths, sent = pickle.load(sys.stdin.buffer)
sys.path.extend(path for path in paths if path not in sys.path)
sys.stdout = sys.stderr
try:
    pickle.loads(sent[0], buffers=sent[1:])
except BaseException as error:
    sys.__stdout__.write(f"{type(error).__name__}: {error}".replace("\\n", " "))
    sys.__stdout__.flush()
    os._exit(1)
os._exit(0)
"""
HINT = "use workers=None, or "


def check_not_imported_by_worker() -> None:
    """RuntimeError in the fresh process: the module that it loads begins a search of its own."""
    if os.environ.get(TRIAL):
        raise RuntimeError(
            "a module that workers import must not search while it is imported: put the search behind "
            "if __name__ == '__main__'"
        )


def check_workers_load(workers: int | str | None, wanted: Mapping[str, Any]) -> None:
    """wanted: by their names in messages, the objects of the user that workers need.

    ImportError without Ray, ConnectionError where no cluster answers, ValueError for what a fresh process cannot load.
    """
    if workers is None:
        return
    ray = load_ray()
    if isinstance(workers, str):
        if workers.startswith("ray://"):
            check_client(workers)
        need_listener(workers)
    for name, value in wanted.items():
        _check_loads(name, _pickled(ray, name, value, workers), workers)


def _pickled(ray: Any, name: str, value: Any, workers: int | str) -> list[Any]:
    try:
        return parts(ray, value, isinstance(workers, str))
    except Exception as error:  # of whatever the object holds
        said = " ".join(f"{error.__cause__ or error}".split()) or type(error).__name__
        place = culprit(ray, value, name.split(" (")[0].removeprefix("a "))
        raise ValueError(
            f"workers={workers!r} needs {name} that can be pickled, but it cannot: {place}: {said}; {HINT}"
            "let it hold no locks, open files or networks"
        ) from error


def _check_loads(name: str, sent: list[Any], workers: int | str) -> None:
    needs = f"workers={workers!r} needs {name} that a fresh process can load, but "
    try:
        found = subprocess.run(
            [sys.executable, "-c", LOADER],
            input=pickle.dumps((import_paths(), sent)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, TRIAL: "1"},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        guard = "if its module does work when it is imported, put that behind if __name__ == '__main__'"
        raise ValueError(f"{needs}that takes more than {SECONDS:g} s; {HINT}{guard}") from None
    if found.returncode:
        said = found.stdout.decode(errors="replace") or f"the process ended with code {found.returncode}"
        raise ValueError(f"{needs}it cannot: {said}; {HINT}define it in a module on sys.path, or in the script itself")


def check_client(workers: str) -> None:
    """Ray's client is an extra of its package."""
    if importlib.util.find_spec("grpc") is None:
        raise ImportError(f"workers={workers!r} needs Ray's client: pip install 'ray[client]'")
