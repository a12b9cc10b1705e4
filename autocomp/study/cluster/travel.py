"""What travels to Ray workers: an evaluator, pickled, with its arrays beside it, so that a node maps them once."""

from __future__ import annotations

import os
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from autocomp.errors import EvaluationError

DEPTH = 6  # of attributes that are looked into for what cannot be pickled
INSTALLED = tuple({os.path.realpath(path) for path in sysconfig.get_paths().values()})
STANDARD = tuple({os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
PACKAGES = ("site-packages", "dist-packages")  # below the standard library, but no part of it


def import_paths() -> list[str]:
    """sys.path for another process: absolute, the standard library first.

    Before it may lie folders that this process has used since it imported its own modules: mixed precision in MindSpore
    puts its ``nn/layer`` there, with a ``math.py``.
    """
    paths = dict.fromkeys(os.path.abspath(path) for path in sys.path)
    return sorted(paths, key=lambda path: not _is_standard(path))


def _is_standard(path: str) -> bool:
    path = os.path.realpath(path)
    return path.startswith(STANDARD) and not any(name in path for name in PACKAGES)


def parts(ray: Any, value: Any, everywhere: bool) -> list[Any]:
    """The pickle and the memory of the arrays in it, each (bytes,) uint8. TypeError names the attribute that cannot be
    pickled.

    everywhere: workers may be on other machines, which do not have the user's modules: classes and functions travel
    by value. Else only those do whose module no file holds, as a notebook's.
    """
    if everywhere:
        try:
            return _parts(ray, value, everywhere=True)
        except Exception:  # something in a module of the user cannot travel; it may be installed there
            return _parts(ray, value, everywhere=False)
    return _parts(ray, value, everywhere=False)


def _parts(ray: Any, value: Any, everywhere: bool) -> list[Any]:
    buffers: list[pickle.PickleBuffer] = []
    try:
        with _by_value(ray, everywhere):
            sent = ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except EvaluationError:  # its message already says what to do
        raise
    except Exception as error:
        place, said = culprit(ray, value, "evaluator"), " ".join(str(error).split())
        raise TypeError(f"an evaluator for Ray workers must be picklable, but got {place}: {said}") from error
    return [sent, *(np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers)]


def culprit(ray: Any, value: Any, name: str, depth: int = DEPTH) -> str:
    """The attribute, deep down, that cannot be pickled and has none itself: ``evaluator.metric.lock (a lock)``."""
    for inner, found in _held(value) if depth else ():
        try:
            ray.cloudpickle.dumps(found)
        except Exception:
            return culprit(ray, found, f"{name}{inner}", depth - 1)
    return f"{name} (a {type(value).__name__})"


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, by the text behind its name."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", found) for key, found in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", found) for i, found in enumerate(value))
    elif (closure := getattr(value, "__closure__", None)) is not None:
        names = value.__code__.co_freevars
        yield from ((f".{name}", cell.cell_contents) for name, cell in zip(names, closure, strict=True))
    else:
        yield from ((f".{key}", found) for key, found in getattr(value, "__dict__", {}).items())


@contextmanager
def _by_value(ray: Any, everywhere: bool) -> Iterator[None]:
    """Classes and functions of the user's modules are pickled by value in the body."""
    known = set(ray.cloudpickle.list_registry_pickle_by_value())
    mine = [module for name, module in list(sys.modules.items()) if name not in known and _is_users(module, everywhere)]
    for module in mine:
        ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            ray.cloudpickle.unregister_pickle_by_value(module)


def _is_users(module: ModuleType, everywhere: bool) -> bool:
    """Whether workers cannot be expected to have the module: no file holds it, or with ``everywhere`` a file that is
    not installed."""
    name = getattr(module, "__name__", "")
    if not isinstance(module, ModuleType) or name.split(".")[0] in ("autocomp", "__main__", *sys.builtin_module_names):
        return False
    if sys.modules.get(name) is not module:
        return False
    path = getattr(module, "__file__", None)
    if path is None:
        return getattr(module, "__spec__", None) is None
    return everywhere and not os.path.realpath(path).startswith(INSTALLED)
